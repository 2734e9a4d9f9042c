"""A real SLURM that the tests start themselves, in a temporary folder and with a separate munge daemon.

Its partition ``main`` is a node, ``pair`` two slurmd on this machine, and ``gpu`` two nodes of eight
GPUs each that are never there: a request for them can be checked.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import REPOSITORY

CONF = """\
ClusterName=scratch
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=6,socket={folder}/munge.socket
SlurmctldPort={ports[0]}
SlurmctldPidFile={folder}/slurmctld.pid
FirstJobId={first}
SlurmdPidFile={folder}/slurmd-%n.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MailProg=/bin/true
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=10
GresTypes=gpu
NodeName=node0 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=2000 State=UNKNOWN
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=2000 State=UNKNOWN
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[3]} CPUs=1 RealMemory=2000 State=UNKNOWN
NodeName=gpu[1-2] NodeAddr=127.0.0.1 CPUs=64 RealMemory=64000 Gres=gpu:8 State=CLOUD
PartitionName=main Nodes=node0 Default=YES State=UP
PartitionName=pair Nodes=node[1-2] State=UP
PartitionName=gpu Nodes=gpu[1-2] State=UP
"""
NODES = ("node0", "node1", "node2")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun")


class Slurm:
    """The cluster's commands, and waiting for what happens on it."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    def __call__(self, *command: str, cwd: Path | None = None, both: bool = False) -> str:
        """Output of a command that must succeed; ``both``: and what it says on stderr."""
        done = subprocess.run(command, env=self.environment, cwd=cwd, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr * both

    def state(self, job: str) -> str:
        """PENDING, RUNNING, COMPLETED, ..."""
        said = dict(field.split("=", 1) for field in self("scontrol", "show", "job", "-o", job).split() if "=" in field)
        return said["JobState"]


def until(condition: Callable[[], bool], what: str, seconds: float = 240) -> None:
    """Waits for something that happens on the cluster."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.5)


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """A running SLURM; its daemons end with the session."""
    missing = [program for program in PROGRAMS if shutil.which(program, path=_path()) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: apt-get install slurm-wlm munge")
    if os.getuid() != 0:
        pytest.skip("slurmd starts jobs only as root")
    folder = tmp_path_factory.mktemp("slurm")
    host = socket.gethostname().partition(".")[0]
    (folder / "state").mkdir()
    (folder / "gres.conf").write_text("NodeName=gpu[1-2] Name=gpu Count=8\n")
    first = os.getpid() % 9_000 + 1  # Lightning takes a job's port from its number: other than a second cluster's
    conf = CONF.format(folder=folder, host=host, ports=_free_ports(4), first=first)
    (folder / "slurm.conf").write_text(conf)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
    environment |= {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": _path(), "OMP_NUM_THREADS": "1"}
    environment |= {"PYTHONPATH": str(REPOSITORY), "VOICEFACE_CACHE": str(folder / "cache"), "WANDB_MODE": "offline"}
    munge = [
        f"--{name}={folder}/munge.{name.split('-')[0]}" for name in ("socket", "pid-file", "log-file", "seed-file")
    ]
    daemons = {
        "munged": ["munged", "--foreground", "--force", f"--key-file={key}", *munge],
        "slurmctld": ["slurmctld", "-D", "-c"],
        **{node: ["slurmd", "-D", "-c", "-N", node] for node in NODES},
    }
    cluster = Slurm(environment)
    running: list[subprocess.Popen[bytes]] = []
    try:
        for name, command in daemons.items():
            with (folder / f"{name}.out").open("wb") as log:
                running.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            if name == "munged":
                until((folder / "munge.socket").exists, "munged's socket", 30)
        until(lambda: _sinfo(environment).split().count("idle") >= len(NODES), f"idle nodes, see {folder}", 60)
        yield cluster
    finally:
        subprocess.run(["scancel", "--user=root"], env=environment, capture_output=True, timeout=60)
        for daemon in reversed(running):
            daemon.send_signal(signal.SIGTERM)
        for daemon in reversed(running):
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _sinfo(environment: dict[str, str]) -> str:
    return subprocess.run(
        ["sinfo", "--noheader", "--Node", "--format=%t"], env=environment, capture_output=True, text=True, timeout=60
    ).stdout


def _path() -> str:
    """Debian's daemons are in sbin; jobs run this Python."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin", "/sbin"])


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
