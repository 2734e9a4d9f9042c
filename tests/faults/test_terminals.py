"""Every command ends in a line when it is stopped, leaves no process behind, and goes on where nobody reads it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from itertools import product
from pathlib import Path

import psutil
import pytest

from datamodules import workers
from experiments.run import COMMANDS, RESUMABLE, main
from tests import REPOSITORY, TINY, warm
from tests.experiments.clips import make_clips
from tests.experiments.saved import save_run, save_tested
from tests.experiments.saved import world as answered
from tests.faults.processes import Pace, finish, wait_until  # noqa: F401  Pace: named by arguments below
from tests.faults.worlds import feature_world, media_world

pytestmark = pytest.mark.processes

AT_ONCE = 3.0  # seconds in which the processes of a killed command end


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands below read."""
    root = tmp_path_factory.mktemp("world")
    assert main(["fit", "--config", str(TINY), f"--run_dir={root / 'run'}"]) == 0
    save_tested(root / "saved", "English", "HeadPair", 0)
    for name, cells in (("english", ("heard", "unheard")), ("urdu", ("unheard", "heard"))):
        save_run(root / name, answered(dict(zip(cells, ("English", "Urdu"), strict=True)), labelled=False))
        shutil.copy(root / "saved" / "config.yaml", root / name)
    feature_world(root / "features")
    assert main(["fit", f"--config={media_world(root / 'media')}", f"--run_dir={root / 'heard'}", "--no-test"]) == 0
    make_clips(root / "clips")
    (root / "tiny.yaml").write_text(TINY.read_text().replace("identities: 16", "identities: 16, fold: 0"))
    (root / "protocol.yaml").write_text(
        f"configs: [{root / 'tiny.yaml'}]\nfolds: [0]\nseeds: [0]\nmethods: {{scc: {{}}}}\n"
    )
    (root / "sweep.yaml").write_text(
        f"method: grid\nparameters: {{config: {{value: {TINY}}}, seed_everything: {{values: [0, 1]}}}}\n"
    )
    return root


# by command: arguments, where W is the world and O a folder to write to, and a function that the command comes by
CLIPS = "W/clips/manifest.csv"
SAVED = "--config W/run/config.yaml --ckpt_path best --run_dir O/run"
FILES = "--voices W/clips --faces W/clips --num_workers 2"
ROWS = {
    "list": ("", "commands.list:sections"),
    "fit": (f"--config {TINY} --run_dir O/run", "commands.cli:make_run_dir"),
    "validate": (SAVED, "commands.cli:find_checkpoint"),
    "test": (SAVED, "callbacks.results:write_results"),
    "predict": (SAVED, "runs.results:write_scores"),
    "embed": (f"--manifest {CLIPS} --out O/e --ckpt W/heard", "inference.embedding:encoders_of"),
    "score": (f"W/heard {FILES} --out O/scores.csv", "inference.scoring:list_files"),
    "export": ("W/run --out O/export", "inference.exporting:save_file"),
    "submit": ("W/english W/urdu --format fame --out O/x.zip", "submission.parts:read_cells"),
    "refine": ("W/saved --postproc postproc/centring.yaml --out O/refined", "runs.saved:read_run"),
    "prepare": (
        "W/clips --out O/manifest.csv --pattern {any}/{identity}/{file} --language English --workers 2",
        "datamodules.prepare.manifest:write_manifest",
    ),
    "split": (f"{CLIPS} --test 3 --val 2 --out O/split", "datamodules.prepare.hold_out:write_lists"),
    "bench": ("refine --sizes 200 --out O/bench.json", "bench.compare:compare"),
    "protocol": ("--config W/protocol.yaml --out O/protocol --jobs 1", "protocol.run:run_protocol"),
    "sweep": ("--config W/sweep.yaml --out O/sweep --parallel 1", "sweep.points:Sweep.read"),
    "report": ("W/saved --out O/report.html", "report.build:build_report"),
    "completion": ("bash", "commands.completion:_whole"),
    "dashboard": ("--entity e --project p --out O/d.json", "commands.dashboard:build_workspace"),
}


SHORT = (
    *("list", "refine", "report", "split", "dashboard", "export", "prepare", "completion"),
    *("test", "validate", "predict", "fit", "submit", "score", "embed"),
)
"""Commands that are run to their end in seconds."""
LONGER = (("bench", "closed"), ("protocol", "head"), ("sweep", "closed"))
"""Commands that start interpreters, and how their output ends."""


def arguments(command: str, world: Path, out: Path) -> list[str]:
    texts, _ = ROWS.get(command, ("", ""))
    return [command, *(t.replace("W/", f"{world}/").replace("O/", f"{out}/") for t in texts.split())]


def start(command: str, world: Path, out: Path, *more: str, **variables: str) -> warm.Started:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    return warm.start(*arguments(command, world, out), *more, environment=environment, merged=False)


def family(leader: int) -> list[psutil.Process]:
    """The processes of a command: it leads a session of its own."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def ended(leader: int, seconds: float = AT_ONCE) -> bool:
    deadline = time.monotonic() + seconds
    while family(leader):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


SAID_BEFORE = re.compile(
    r"warning: |Seed set|[GT]PU available|Restoring states|Loaded model weights|.*(fits|points|files) \d|$"
)
Signalled = namedtuple("Signalled", "status out err")


def signalled(process: warm.Started, number: int, group: bool) -> Signalled:
    """A signal to a command, or as Ctrl-C on a terminal to all its processes."""
    (os.killpg if group else os.kill)(process.pid, number)
    out, err = process.communicate(120)
    return Signalled(process.wait(), out, err)


def one_line(err: str, command: str) -> None:
    lines = [line for line in err.splitlines() if not SAID_BEFORE.match(line)]
    resumable = "; the same command goes on with what is saved" if command in RESUMABLE else ""
    assert lines == [f"stopped{resumable}"], err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_signal_ends_every_command_in_a_line(
    command: str, number: int, status: int, world: Path, tmp_path: Path
) -> None:
    place = ROWS.get(command, ("", "run:import_module"))[1]
    place = place if place.startswith("datamodules") else f"experiments.{place}"
    process = start(command, world, tmp_path, **{warm.STALLED: place})
    lines = iter(process.stdout.readline, "")
    assert any("stalled" in line for line in lines), process.communicate()[1]
    done = signalled(process, number, group=number == signal.SIGINT)
    assert done.status == status, done.err
    said = "stopped\n" if "stopped by SIG" in done.out else ""  # a fit says more, on stdout
    one_line(done.err + said, command)
    assert ended(process.pid)
    assert list(tmp_path.rglob(".*.tmp")) == []
    if command != "embed":  # says its encoders before it embeds
        assert [p for p in tmp_path.rglob("*") if p.is_dir() and not any(p.iterdir())] == []


PACED = "--trainer.callbacks+=tests.faults.processes.Pace --trainer.callbacks.seconds=0.2 --trainer.max_epochs=500"
LOADED = {
    "fit": f"--config W/media/world.yaml --run_dir O/run --data.num_workers=2 {PACED}",
    "sweep": f"--config W/sweep.yaml --out O/sweep --parallel 2 {PACED}",
    "protocol": f"--config W/protocol.yaml --out O/protocol --jobs 2 {PACED}",
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("command", LOADED)
def test_no_process_outlives_a_command(
    command: str, number: int, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ROWS, command, (LOADED[command], ""))
    process = start(command, world, tmp_path)
    wait_until(lambda: any(tmp_path.rglob("step0")), process)
    assert len(family(process.pid)) > 1
    began = time.monotonic()
    done = signalled(process, number, group=number == signal.SIGINT)
    expected = -signal.SIGKILL if number == signal.SIGKILL else 128 + number
    assert done.status == expected, done.err
    assert "Traceback" not in done.out + done.err
    assert "leaked" not in done.err
    assert ended(process.pid), [p.cmdline() for p in family(process.pid)]
    print(f"{command} {number}: {time.monotonic() - began:.1f} s")
    if command != "fit" and number != signal.SIGKILL:
        one_line(done.err, command)
        assert any(tmp_path.rglob("last.ckpt")), "a fit that is stopped keeps its step"


@pytest.mark.parametrize("command", ["sweep", "protocol"])
def test_no_process_outlives_a_command_that_is_killed_while_workers_import(
    command: str, world: Path, tmp_path: Path
) -> None:
    process = start(command, world, tmp_path)
    wait_until(lambda: any("forkserver" in " ".join(p.cmdline()) for p in family(process.pid)), process)
    process.kill()
    assert ended(process.pid, 60), [p.cmdline() for p in family(process.pid)]  # they may import for long


@pytest.mark.parametrize("module", ["experiments.console.early", "numpy", "experiments.console.errors"])
@pytest.mark.parametrize("command", COMMANDS)
def test_ctrl_c_while_a_command_is_imported_is_a_line(command: str, module: str, world: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-X", "importtime", "-m", "experiments.run", *arguments(command, world, tmp_path)]
    process = subprocess.Popen(
        words, cwd=REPOSITORY, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, preexec_fn=_heeds_ctrl_c
    )
    imported = iter(process.stderr.readline, "")
    assert any(line.split("|")[-1].strip() == module for line in imported)
    process.send_signal(signal.SIGINT)
    said = [line for line in process.stderr.read().splitlines() if not line.startswith("import time:")]
    assert process.wait(60) in (130, -signal.SIGINT)  # a shell calls both 130
    assert len(said) == 1, said
    assert said[0].startswith("stopped")


def _heeds_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


NARROW = {"PYTHONIOENCODING": "latin-1", "COLUMNS": "20"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_writes_to_a_narrow_latin_1_terminal(command: str, world: Path, tmp_path: Path) -> None:
    ways: list[tuple[list[str], int]] = [(["--help"], 0), (["--\u00f6ption=\u0906"], 2)]
    ways += [([], 0)] if command in SHORT else []
    for more, status in ways:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **NARROW}
        words = [command, *more] if more else arguments(command, world, tmp_path / "\u0906")
        (tmp_path / "\u0906").mkdir(exist_ok=True)
        process = warm.start(*words, environment=environment, merged=False)
        out, err = process.communicate(120)
        assert process.wait() == status, err
        assert "Traceback" not in err
        assert out or err
        if status:
            assert len([line for line in err.splitlines() if line.startswith("error: ")]) == 1, err


WRITES_NOTHING = ("list", "completion")


@pytest.mark.parametrize(("command", "how"), [*product(SHORT, ("head", "closed")), *LONGER])
def test_every_command_goes_on_where_its_output_ends(command: str, how: str, world: Path, tmp_path: Path) -> None:
    process = start(command, world, tmp_path, **({warm.CLOSED: "1"} if how == "closed" else {}))
    if how == "head":
        process.stdout.readline()
        process.stdout.close()
    err = process.stderr.read()
    assert process.wait(120) == 0, err
    assert "Traceback" not in err
    assert "BrokenPipe" not in err
    if command not in WRITES_NOTHING:
        assert any(tmp_path.iterdir()), err


def test_little_shared_memory_is_said_by_every_command_that_loads(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "NEEDED", shutil.disk_usage("/dev/shm").total)
    run, clips = str(tmp_path / "r"), str(world / "clips")
    fit = ["fit", "--config", str(world / "media" / "world.yaml"), "--data.num_workers=2", f"--run_dir={run}"]
    embed = ["embed", f"--manifest={clips}/manifest.csv", f"--ckpt={run}", f"--out={tmp_path / 'e'}", "--num_workers=2"]
    score = ["score", run, "--voices", clips, "--faces", clips, "--num_workers=2"]
    for command, option in ((fit, "data.num_workers"), (embed, "--num_workers"), (score, "--num_workers")):
        with pytest.warns(UserWarning, match=f"^{option}: 2 loader processes need"):
            assert main(command) == 0


def test_every_loader_comes_from_one_place() -> None:
    made = [
        f"{path.relative_to(REPOSITORY)}:{number}"
        for package in ("datamodules", "experiments", "lightning_modules", "postproc")
        for path in (REPOSITORY / package).rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if ("DataLoader(" in line or "ProcessPoolExecutor(" in line) and not line.startswith("class ")
    ]
    assert {place.partition(":")[0] for place in made} == {"datamodules/workers.py"}, made
