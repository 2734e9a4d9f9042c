"""Starts ``python -m experiments.run`` for tests without its ten seconds of imports.

One process per test session imports the command line and forks for every command. A forked command has its own
session, environment, working directory and output, its own exit through the interpreter's normal shutdown, and looks to
Lightning and multiprocessing like ``python -m experiments.run``: what it starts itself are ordinary processes.

What depends on the start of an interpreter (encodings, thread settings, import time) needs a real one: use subprocess.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import importlib
import importlib.util
import io
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

REPOSITORY = Path(__file__).parents[1]
IMPORTED = ("experiments.run", "experiments.commands.cli", "experiments.commands.refine")
CLOSED, STALLED = "WARM_CLOSED", "WARM_STALLED"
"""Variables of a command: whether its stdout is closed; a function that waits instead of what it does."""
BEAT = 0.01  # seconds between two looks at the children


class Command(NamedTuple):
    """What the server is asked to run."""

    arguments: list[str]
    environment: dict[str, str]
    folder: str


class Started:
    """A command that was started; the part of :class:`subprocess.Popen` that tests use."""

    def __init__(self, command: Command, merged: bool) -> None:
        self.args, self.returncode = command.arguments, None
        out, err = os.pipe(), os.pipe()
        self._channel = socket.socket(socket.AF_UNIX)
        self._channel.connect(address())
        payload = json.dumps(command).encode()
        fds = array.array("i", [out[1], out[1] if merged else err[1]])
        self._channel.sendmsg([len(payload).to_bytes(8, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        self._channel.sendall(payload)
        os.close(out[1])
        os.close(err[1])
        self.stdout, self.stderr = os.fdopen(out[0]), os.fdopen(err[0])
        self.pid = int.from_bytes(_exactly(self._channel, 8), "big")

    def poll(self) -> int | None:
        """The exit status; None while it runs, -n after signal n."""
        if self.returncode is None:
            self._channel.setblocking(False)
            try:
                said = self._channel.recv(8)
            except BlockingIOError:
                return None
            self.returncode = int.from_bytes(said, "big", signed=True)
            self._channel.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the exit status."""
        deadline = time.monotonic() + (timeout or float("inf"))
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            time.sleep(BEAT)
        return status

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """All output, and waits for the end."""
        deadline = time.monotonic() + (timeout or float("inf"))
        texts: dict[int, bytes] = {stream.fileno(): b"" for stream in (self.stdout, self.stderr)}
        with selectors.DefaultSelector() as selector:
            for fd in texts:
                selector.register(fd, selectors.EVENT_READ)
            while selector.get_map():
                if time.monotonic() > deadline:
                    raise subprocess.TimeoutExpired(self.args, timeout or 0)
                for key, _ in selector.select(0.1):
                    if part := os.read(key.fd, 1 << 16):
                        texts[key.fd] += part
                    else:
                        selector.unregister(key.fd)
        self.wait(max(deadline - time.monotonic(), BEAT) if timeout else None)
        out, err = (texts[stream.fileno()].decode(errors="replace") for stream in (self.stdout, self.stderr))
        self.stdout.close()
        self.stderr.close()
        return out, err

    def send_signal(self, number: int) -> None:
        """As :meth:`subprocess.Popen.send_signal`."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


def start(
    *arguments: str, environment: dict[str, str] | None = None, folder: Path = REPOSITORY, merged: bool = True
) -> Started:
    """Starts a command.

    Args:
        *arguments: of ``experiments.run``.
        environment: all variables; None takes those of the tests.
        folder: working directory.
        merged: whether stderr goes to stdout.
    """
    variables = dict(os.environ if environment is None else environment)
    variables.pop("WANDB_SERVICE", None)  # of a fit in the process of the tests
    return Started(Command(list(arguments), variables, str(folder)), merged)


def run(*arguments: str, timeout: float = 240, **options: Any) -> subprocess.CompletedProcess[str]:
    """Starts a command and waits for it; stdout and stderr apart."""
    process = start(*arguments, merged=False, **options)
    try:
        out, err = process.communicate(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return subprocess.CompletedProcess(list(arguments), process.wait(), out, err)


_address: str | None = None


def use(given: str) -> None:
    """Makes this process start its commands at the server of another one."""
    global _address
    _address = given


def address() -> str:
    """Address of the server of this test process, which is started at the first command and ends with the tests."""
    global _address
    if _address is None:
        folder = tempfile.TemporaryDirectory(prefix="warm")
        _address = str(Path(folder.name) / "socket")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": _search_path()}
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.warm", _address], cwd=REPOSITORY, env=environment, stdin=subprocess.PIPE
        )
        atexit.register(folder.cleanup)
        atexit.register(process.kill)
        deadline = time.monotonic() + 300
        while not Path(_address).exists():
            assert process.poll() is None, "the process that starts commands ended"
            assert time.monotonic() < deadline, "the process that starts commands does not answer"
            time.sleep(0.05)
    return _address


def _search_path() -> str:
    return os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))


def _exactly(channel: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = channel.recv(count - len(data))
        assert part, "the process that starts commands ended"
        data += part
    return data


def _receive(channel: socket.socket) -> tuple[Command, list[int]]:
    head, ancillary, *_ = channel.recvmsg(8, socket.CMSG_SPACE(2 * array.array("i").itemsize))
    fds = array.array("i")
    fds.frombytes(ancillary[0][2])
    return Command(*json.loads(_exactly(channel, int.from_bytes(head, "big")))), list(fds)


def _serve(address: str) -> Command:
    """Forks for every command and says how each ended; returns in the children alone, with what they have to run."""
    running: dict[int, socket.socket] = {}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{address}.tmp")
        listener.listen(64)
        listener.settimeout(BEAT)
        Path(f"{address}.tmp").rename(address)
        while True:
            while running and (ended := os.waitpid(-1, os.WNOHANG))[0]:
                with running.pop(ended[0]) as channel, contextlib.suppress(BrokenPipeError):  # a test may not wait
                    channel.sendall(os.waitstatus_to_exitcode(ended[1]).to_bytes(8, "big", signed=True))
            if os.getppid() == 1:
                sys.exit("the tests have ended")
            try:
                channel, _ = listener.accept()
            except TimeoutError:
                continue
            command, fds = _receive(channel)
            sys.stdout.flush()
            pid = os.fork()
            if pid == 0:
                for other in (*running.values(), channel):
                    other.close()
                os.setsid()
                for fd, target in zip(fds, (1, 2), strict=True):
                    os.dup2(fd, target)
                for fd in fds:
                    os.close(fd)
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                return command
            for fd in fds:
                os.close(fd)
            with contextlib.suppress(BrokenPipeError):
                channel.sendall(pid.to_bytes(8, "big"))
            running[pid] = channel


def _stall(place: str) -> None:
    """Makes a function, as ``module:name``, wait for minutes, after it has said so."""
    module, _, name = place.partition(":")
    *path, last = name.split(".")
    owner: Any = importlib.import_module(module)
    for part in path:
        owner = getattr(owner, part)

    def stalled(*_: object, **__: object) -> None:
        print("stalled", flush=True)
        for _ in range(60_000):  # a signal that comes just before a sleep is heard only after it
            time.sleep(0.01)

    setattr(owner, last, stalled)


def _become(command: Command) -> None:
    """Makes this process what ``python -m experiments.run`` would be."""
    os.environ.clear()
    os.environ.update(command.environment)
    os.chdir(command.folder)
    tempfile.tempdir = None
    if encoding := command.environment.get("PYTHONIOENCODING"):
        # new ones: a stream that was opened on a file cannot change its encoding on a pipe
        out, err = (io.BufferedWriter(io.FileIO(number, "w", closefd=False)) for number in (1, 2))
        sys.stdout = io.TextIOWrapper(out, encoding)
        sys.stderr = io.TextIOWrapper(err, encoding, errors="backslashreplace", line_buffering=True)
    if command.environment.get(CLOSED):
        os.close(1)
        sys.stdout = None  # type: ignore[assignment]
    if place := command.environment.get(STALLED):
        _stall(place)
    spec = importlib.util.find_spec("experiments.run")
    assert spec is not None
    main_module: Any = sys.modules["__main__"]
    main_module.__spec__, main_module.__file__ = spec, spec.origin
    sys.argv = [str(spec.origin), *command.arguments]


def _leave(main: Callable[[], int]) -> None:
    """Runs the command and what Python runs at exit, but no destructors of libraries: they wait for threads that a fork
    does not have."""
    try:
        status: object = main()
    except SystemExit as stop:
        status = stop.code
    except BaseException:
        traceback.print_exc()
        status = 1
    if status is None:
        status = 0
    if not isinstance(status, int):
        print(status, file=sys.stderr)
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    for name in IMPORTED:
        importlib.import_module(name)
    _become(_serve(sys.argv[1]))
    _leave(sys.modules["experiments.run"].main)
