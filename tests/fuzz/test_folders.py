"""Every file of a folder that commands open is damaged in turn: a line or a result, never a traceback, never a wait."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
import yaml

from datamodules.schema import DataError
from experiments.protocol import run as protocol_run
from experiments.protocol.derived import derived_in_order
from experiments.protocol.file import Protocol, fit_of, planned_fits
from experiments.run import main
from experiments.runs.fits import Fit
from experiments.runs.people import write_people
from experiments.runs.saved import read_run, write_reference
from experiments.sweep import run as sweep_run
from experiments.sweep.points import Sweep
from postproc.reference import Reference
from tests import TINY
from tests.experiments.clips import make_clips
from tests.experiments.saved import save_run, save_tested, world
from tests.faults.worlds import media_world

pytestmark = pytest.mark.fuzz

LONGEST = 90  # seconds for a command that waits for ever; each takes a part of one, more on a busy machine
Damage = Callable[[Path, bytes, random.Random], None]


def _link(target: str) -> Damage:
    return lambda path, content, rng: path.symlink_to(target)


def _text(text: bytes) -> Damage:
    return lambda path, content, rng: path.write_bytes(text) and None


def _folder(path: Path, content: bytes, rng: random.Random) -> None:
    path.mkdir()
    (path / "x").write_text("x")


def _cut(path: Path, content: bytes, rng: random.Random) -> None:
    path.write_bytes(content[: rng.randrange(max(1, len(content)))])


def _flipped(path: Path, content: bytes, rng: random.Random) -> None:
    spoilt = bytearray(content)
    for _ in range(rng.choice((1, 4, 40)) if spoilt else 0):
        spoilt[rng.randrange(len(spoilt))] ^= rng.randrange(1, 256)
    path.write_bytes(spoilt)


VALUES = (None, [], {}, "x", "", -1, 1e300, float("nan"), 10**400, True, [[]], "\x1b[2J", "=cmd()", {"class_path": 1})


def _other_value(path: Path, content: bytes, rng: random.Random) -> None:
    """One value of a JSON or YAML file is another one; other files are random bytes."""
    if path.suffix not in (".json", ".yaml"):
        path.write_bytes(bytes(rng.randrange(256) for _ in range(300)))
        return
    tree = node = json.loads(content) if path.suffix == ".json" else yaml.safe_load(content)
    for _ in range(rng.randint(1, 6)):
        places = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not places:
            return
        key = rng.choice(places)
        if not isinstance(node[key], dict | list) or not node[key]:
            break
        above, node = node, node[key]
    else:
        node = above
    node[key] = rng.choice(VALUES)
    path.write_text(json.dumps(tree) if path.suffix == ".json" else yaml.safe_dump(tree))


DAMAGES: dict[str, Damage] = {
    "missing": lambda path, content, rng: None,
    "pipe": lambda path, content, rng: os.mkfifo(path),
    "folder": _folder,
    "link to itself": lambda path, content, rng: path.symlink_to(path),
    "device": _link("/dev/zero"),
    "empty": _text(b""),
    "another type": _text(b"[1, 2]"),
    "deep": _text(b"[" * 100_000),
    "huge number": _text(b"9" * 10_000),
    "cut": _cut,
    "flipped": _flipped,
    "other value": _other_value,
    "another value": _other_value,
}


class Waits(BaseException):
    """A command that takes far longer than it should."""


@contextmanager
def within(seconds: int) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise Waits

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.is_symlink() or path.exists():
        path.unlink()


def outcomes(
    files: list[Path], folder: Path, commands: Callable[[Path], list[list[str]]], capsys: pytest.CaptureFixture[str]
) -> Counter[int]:
    """Status of each command after each damage of each file, which is put back.

    Args:
        files: in ``folder``.
        folder: as it is when nothing is damaged.
        commands: that open a file.
        capsys: of the test.
    """
    found: Counter[int] = Counter()
    wrong: list[str] = []
    for file in files:
        for name, damage in DAMAGES.items():
            shutil.copytree(folder, kept := folder.with_name(f"{folder.name} kept"), symlinks=True)
            content = file.read_bytes()
            _remove(file)
            damage(file, content, random.Random(f"{file.name}{name}"))
            for command in commands(file):
                status, why = _ended(command, folder, capsys)
                found[status] += 1
                wrong += [f"{file.name} {name}, {command[0]} {command[-1]}: {why}"] if why else []
            shutil.rmtree(folder)
            kept.rename(folder)
    with capsys.disabled():
        print(f" {sum(found.values())} calls: {found[0]} results, {found[2]} lines", end="")
    assert wrong == []
    return found


def _ended(command: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Status of a command, and what is wrong with how it ended; "" for nothing."""
    try:
        with within(LONGEST):
            status = main(command)
    except (Exception, Waits) as error:
        return -1, repr(error)
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if line.startswith("error: ")]
    if status not in (0, 2) or len(lines) != (status == 2):
        return status, f"status {status}, {said.err[-300:]}"
    if any(sign in said.err + said.out for sign in ("Traceback", "\x1b", "\x07")):
        return status, said.err[-300:]
    left = [path.name for path in folder.rglob(".*.tmp")]
    return status, f"left {left}" if left else ""


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _tested(folder: Path, fold: int = 0, network: str = "HeadPair") -> Path:
    """A tested run with everything that commands read."""
    save_tested(folder, "English", network, fold)
    known = (np.array([f"q{i % 8}" for i in range(40)]), *[np.full(40, x) for x in ("English", "F", True)])
    known[2][1::2] = "M"
    spaces = [{"model": np.random.default_rng(i).normal(size=(40, 16)).astype(np.float32)} for i in range(2)]
    write_reference(folder, Reference(*spaces, *known))
    write_people(folder, read_run(folder))
    return folder


def test_a_damaged_run_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = _tested(tmp_path / "run")
    out = tmp_path / "out"
    (tmp_path / "s.yaml").write_text("steps: [{class_path: postproc.GenderProbe, init_args: {weight: 0.5}}]\n")

    def commands(file: Path) -> list[list[str]]:
        shutil.rmtree(out, ignore_errors=True)
        kind = ("html", "md", "csv", "tex")[len(file.name) % 4]
        return [
            ["report", str(run), "--out", str(tmp_path / f"r.{kind}")],
            ["refine", str(run), "--postproc", str(tmp_path / "s.yaml"), "--out", str(out)],
        ]

    for command in commands(run):
        assert main(command) == 0
    found = outcomes(files_of(run), run, commands, capsys)
    assert found[2] > 50


def test_a_damaged_run_to_submit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [tmp_path / "runs" / name for name in ("english", "urdu")]
    save_run(runs[0], world({"heard": "English", "unheard": "Urdu"}, labelled=False))
    save_run(runs[1], world({"unheard": "English", "heard": "Urdu"}, labelled=False))
    for run in runs:
        shutil.copy(save_tested(tmp_path / "t", "English", "HeadPair", 0) / "config.yaml", run / "config.yaml")
    command = ["submit", *map(str, runs), "--format", "fame", f"--out={tmp_path / 'x.zip'}"]
    assert main(command) == 0
    outcomes(files_of(runs[0]), runs[0], lambda file: [command], capsys)


def test_a_damaged_run_to_export_and_its_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = tmp_path / "run", tmp_path / "export"
    config = media_world(tmp_path / "media")
    assert main(["fit", "--config", str(config), "--no-test", f"--run_dir={run}"]) == 0
    clips = make_clips(tmp_path / "clips").parent
    assert main(["export", str(run), f"--out={out}"]) == 0

    def export(file: Path) -> list[list[str]]:
        return [["export", str(run), f"--out={tmp_path / 'again'}"]]

    def score(file: Path) -> list[list[str]]:
        return [["score", str(out), "--voices", str(clips), "--faces", str(clips)]]

    assert main(score(out)[0]) == 0
    outcomes([run / "config.yaml", run / "checkpoints" / "best.ckpt"], run, export, capsys)
    outcomes(files_of(out), out, score, capsys)


def _refuse(jobs: list[object], *_: object, **__: object) -> None:
    if jobs:
        raise DataError(f"{len(jobs)} would run")


def _finished(fit: Fit) -> None:
    folder = fit.folder
    (folder / "command.json").write_text(json.dumps(fit.command))
    noted = {"state": "finished", "host": "h", "pid": 1, "started": 1.0, "ended": 2.0, "error": None}
    (folder / "state.json").write_text(json.dumps(noted))
    (folder / "log.txt").write_text("x\n")


def test_a_damaged_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_run, "run_fits", _refuse)
    monkeypatch.setattr(sweep_run, "queue", dict)
    out, plan = tmp_path / "sweep" / "out", tmp_path / "sweep" / "s.yaml"
    plan.parent.mkdir()
    parameters = {"config": {"value": "demo.yaml"}, "data.batch_size": {"values": [4, 8]}}
    plan.write_text(yaml.safe_dump({"method": "grid", "parameters": parameters}))
    points = Sweep.read(plan).points()
    for seed, point in enumerate(points):
        fit = sweep_run.fit_of(point, out)
        save_tested(fit.folder, "English", "HeadPair", 0, seed=seed)
        _finished(fit)
        (fit.folder / "job.json").write_text('{"job": "12_0"}')
    command = ["sweep", "--config", str(plan), "--out", str(out)]
    assert main(command) == 0
    assert {path.name for path in out.iterdir()} >= {".lock", "index.json"}
    first = out / points[0].id
    mine = ("command.json", "job.json", "log.txt", "results.json", "state.json")
    files = [plan, out / ".lock", out / "index.json", *(first / name for name in mine)]
    outcomes(files, plan.parent, lambda file: [[*command, "--status"], command], capsys)
    (first / "results.json").unlink()  # its state is looked at where it has no results
    files = [first / name for name in mine if name != "results.json"]
    outcomes(files, plan.parent, lambda file: [[*command, "--status"]], capsys)
    outcomes([out / "index.json", first / "config.yaml"], plan.parent,
             lambda file: [["report", str(out), "--out", str(tmp_path / "r.md")]], capsys)  # fmt: skip


def test_a_damaged_protocol(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "protocol"
    root.mkdir()
    (root / "world.yaml").write_text(TINY.read_text().replace("identities: 16", "identities: 16, fold: 0"))
    blocks = {"class_path": "postproc.BlockAverage", "init_args": {"clustering": {"ks": [3], "repeats": 1}}}
    (root / "blocks.yaml").write_text(yaml.safe_dump({"steps": [blocks]}))
    methods = {"a": {}, "b": {"arguments": ["--trainer.max_epochs=1"]}}
    plan = {"configs": [str(root / "world.yaml")], "folds": [0], "seeds": [0], "methods": methods}
    plan |= {"refinements": {"blocks": "blocks.yaml"}, "fusions": {"both": ["a", "b"]}}
    (root / "p.yaml").write_text(yaml.safe_dump(plan))
    protocol, out = Protocol.read(root / "p.yaml"), root / "out"
    for planned in planned_fits(protocol, list(protocol.methods)):
        fit = fit_of(protocol, planned, out)
        save_tested(fit.folder, "English", "HeadPair" if planned.method == "a" else "Linear", planned.fold)
        _finished(fit)
    for group in derived_in_order(protocol, list(protocol.methods), out):
        assert [derived.run() for derived in group] == [None] * len(group)
    for name in ("run_fits", "run_jobs"):
        monkeypatch.setattr(protocol_run, name, _refuse)
    command = ["protocol", "--config", str(root / "p.yaml"), "--out", str(out), "--jobs", "1"]
    assert main(command) == 0
    assert main(["report", str(out), "--out", str(tmp_path / "r.md")]) == 0
    of_one = [path for path in files_of(out) if not {"b"} & set(path.relative_to(out).parts)]
    files = [root / "p.yaml", root / "blocks.yaml", *of_one]
    outcomes(files, root, lambda file: [command], capsys)
