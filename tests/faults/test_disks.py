"""Every writer on a full and on a read-only disk: one line that names the file, the older files whole, no draft."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
import yaml

from datamodules.evaluation.learnt import Learnt
from datamodules.io.cache import cached_folder, cached_or_temporary
from datamodules.io.parts import Parts
from datamodules.io.trials import write_trials
from datamodules.io.writing import CannotWrite, together, write_array, write_arrays, write_csv, write_json, write_text
from datamodules.prepare.manifest import write_manifest
from datamodules.schema import Trials
from experiments.figures.pictures import PICTURES, draw_run
from experiments.inference.feature_writer import EmbeddingParts, merge
from experiments.inference.scoring import write_matrix
from experiments.run import main
from experiments.runs.checkpoints import AtomicCheckpointIO
from experiments.runs.fits import Fit
from experiments.runs.people import write_people
from experiments.runs.results import write_embeddings, write_results
from experiments.runs.saved import SavedRun, read_run, write_reference
from postproc.reference import Reference
from tests import REPOSITORY, TINY
from tests.experiments.clips import FACE, VOICE, make_clips
from tests.experiments.saved import save_run, save_tested, world
from tests.faults.disks import Fault, contents, disk, failing
from tests.faults.worlds import media_world

FAULTS = ("full", "read-only")
REASONS = {"full": "No space left on device", "read-only": "Read-only file system"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with disk(tmp_path_factory.mktemp("disks") / "disk") as folder:
        yield folder


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory) -> SavedRun:
    return read_run(save_run(tmp_path_factory.mktemp("tested"), world({"heard": "English"})))


def _names(count: int) -> np.ndarray:
    return np.array([f"n{i}" for i in range(count)], dtype=np.str_)


def _trials(folder: Path, salt: int) -> None:
    names = _names(20)
    write_trials(Trials(names, names, names, np.full(20, salt, dtype=np.int8), "list"), folder / "list.csv")


def _matrix(name: str) -> Callable[[Path, int], None]:
    def write(folder: Path, salt: int) -> None:
        rows = (np.full(30, salt + i, dtype=np.float32) for i in range(20))
        write_matrix(folder / name, rows, _names(20), _names(30), 2)

    return write


def _features(folder: Path, salt: int, parts: Path) -> None:
    made = EmbeddingParts(parts)
    made.append(["a", "b"], np.full((2, 3000), salt, dtype=np.float32))
    made.save()
    merge(made, ["b", "a", "b"], folder / "voices.npy")


def _checkpoint(folder: Path, salt: int) -> None:
    AtomicCheckpointIO().save_checkpoint(
        {"w": torch.full((20_000,), float(salt))}, folder / "checkpoints" / "last.ckpt"
    )


def _results(run: SavedRun) -> Callable[[Path, int], None]:
    def write(folder: Path, salt: int) -> None:
        here = replace(run, folder=folder, scores={name: d + salt for name, d in run.scores.items()})
        with together(folder):
            write_embeddings(here, Learnt.of("", [f"p{salt}"]))
            write_results(here, {}, {})

    return write


def _reference(folder: Path, salt: int) -> None:
    known = (_names(40), np.full(40, "English"), _names(40), np.full(40, True))
    rng = np.random.default_rng(salt)
    spaces = [{"model": rng.normal(size=(40, 16)).astype(np.float32)} for _ in range(2)]
    write_reference(folder, Reference(*spaces, *known))


def _people(run: SavedRun) -> Callable[[Path, int], None]:
    def write(folder: Path, salt: int) -> None:
        write_people(folder, replace(run, scores={name: (salt - 0.5) * d for name, d in run.scores.items()}))

    return write


def _parts(folder: Path, salt: int) -> None:
    Parts(folder / "parts").save(pa.table({"item": [salt] * 100}))


WRITERS: dict[str, Callable[[Path, int], None]] = {
    "text: config, report, model card, wandb_id, sweep id, embed.yaml": lambda folder, salt: write_text(
        folder / "report.html", f"{salt}" * 500
    ),
    "json: results, traces, state, dashboard, folds, run.lock": lambda folder, salt: write_json(
        folder / "results.json", [salt]
    ),
    "csv: history, protocol, genders": lambda folder, salt: write_csv(
        folder / "history.csv", pd.DataFrame({"x": [salt]})
    ),
    "array": lambda folder, salt: write_array(folder / "x.npy", np.full(9000, salt)),
    "arrays": lambda folder, salt: write_arrays(folder / "x.npz", x=np.random.default_rng(salt).normal(size=9000)),
    "trial list": _trials,
    "manifest.csv": lambda folder, salt: write_manifest(pd.DataFrame({"voice": [salt]}), folder / "manifest.csv"),
    "manifest.parquet": lambda folder, salt: write_manifest(pd.DataFrame({"v": [salt]}), folder / "manifest.parquet"),
    "score csv": _matrix("scores.csv"),
    "score npz": _matrix("scores.npz"),
    "checkpoint": _checkpoint,
    "reference": _reference,
}


def _refuses(write: Callable[[Path, int], None], folder: Path, place: Path, fault: Fault, named: str) -> None:
    write(folder, 0)
    before = contents(place)
    with failing(place, fault), pytest.raises(CannotWrite) as caught:
        write(folder, 1)
    assert contents(place) == before
    line = str(caught.value)
    assert re.search(rf"^{re.escape(str(folder))}/{named}: cannot be (written|made) \({REASONS[fault]}\)", line), line
    assert "\n" not in line
    assert ("free space there" in line) == (fault == "full")
    write(folder, 1)
    assert contents(place) != before


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", WRITERS)
def test_a_writer_that_fails_keeps_the_older_file(name: str, fault: Fault, place: Path) -> None:
    folder = place / f"{fault} {list(WRITERS).index(name)}"
    folder.mkdir()
    _refuses(WRITERS[name], folder, place, fault, r"\S+")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_test_that_cannot_write_keeps_all_files_of_the_one_before(
    fault: Fault, place: Path, tested: SavedRun
) -> None:
    for name, write in (("results", _results(tested)), ("people", _people(tested))):
        folder = place / f"{name} {fault}"
        folder.mkdir()
        _refuses(write, folder, place, fault, r"\S+")


@pytest.mark.parametrize("fault", FAULTS)
def test_feature_files_are_not_started_where_there_is_no_room(fault: Fault, place: Path, tmp_path: Path) -> None:
    """A mapped file without room would kill the process at the first page."""
    folder = place / f"features {fault}"
    folder.mkdir()
    _refuses(lambda at, salt: _features(at, salt, tmp_path / f"parts{salt}"), folder, place, fault, r"voices\.npy")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_part_that_cannot_be_written_leaves_those_before(fault: Fault, place: Path) -> None:
    folder = place / f"parts {fault}"
    folder.mkdir()
    _refuses(_parts, folder, place, fault, r"parts/\S+\.parquet")


@pytest.mark.parametrize("fault", FAULTS)
def test_no_empty_folder_stays_of_a_first_write(fault: Fault, place: Path, tested: SavedRun) -> None:
    writers = {"parts": _parts, "results": _results(tested), "manifest": WRITERS["manifest.csv"]}
    for name, write in writers.items():
        with failing(place, fault):
            before = contents(place)
            with pytest.raises(CannotWrite):
                write(place / f"first {name}" / "below", 0)
            assert contents(place) == before


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fit_whose_folder_fails_is_a_line_of_its_sweep(
    fault: Fault, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gc.collect", lambda: 0)  # takes a second
    folder = place / f"point {fault}"
    fit = Fit(folder, ("fit", "--config=x.yaml"))
    assert fit.run(lambda command, argv: 0) is None
    before = contents(folder)
    with failing(place, fault):
        error = fit.run(lambda command, argv: print("said") or 0)  # type: ignore[func-returns-value]
    assert error is not None
    assert re.search(rf"^{folder}/\S+: cannot be (written|removed) \({REASONS[fault]}\)", error), error
    assert contents(folder) == before


@pytest.mark.parametrize("fault", FAULTS)
def test_pictures_are_no_reason_to_lose_a_run(
    fault: Fault, place: Path, tested: SavedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.figures.pictures.PICTURES", {"det": PICTURES["det"]})
    run = replace(tested, folder=place / f"pictures {fault}")
    run.folder.mkdir()
    with pytest.warns(UserWarning, match=f"CannotWrite: .*{REASONS[fault]}"), failing(place, fault):
        assert draw_run(run, {}) == []
    assert contents(run.folder) == {}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_cache_that_fails_is_done_without(fault: Fault, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(folder: Path) -> None:
        np.save(folder / "x.npy", np.zeros(5000))

    monkeypatch.setenv("VOICEFACE_CACHE", str(place / "cache"))
    with failing(place, fault):
        before = contents(place)
        said = rf"cache folder {place}/cache cannot be written \({REASONS[fault]}\); work without it is slower"
        with pytest.warns(UserWarning, match=said):
            assert cached_folder("kind", "key", fill) is None
        monkeypatch.setattr("tempfile.tempdir", str(place))
        with pytest.warns(UserWarning, match=said), pytest.raises((CannotWrite, OSError), match=REASONS[fault]):
            cached_or_temporary("kind", "key", fill)
        assert {name for name in contents(place) if "cache" not in name} == {n for n in before if "cache" not in n}


WRITES = re.compile(r"\b(open_memmap|savefig|save_file|to_parquet|to_csv|write_bytes|write_text|write_table)$")
SAVES = re.compile(r"(np|torch|figure|image)\.save\w*$")
PAST = {
    "datamodules/io/writing.py",
    "datamodules/features/table.py",  # these fill a folder of the cache, which is drafted as a whole
    "datamodules/datasets/synthetic/embeddings.py",
    "datamodules/datasets/synthetic/media.py",
    "datamodules/media/sources.py",  # these add lines to a log, or hold a lock
    "experiments/sweep/launch.py",
    "experiments/runs/lock.py",
    "experiments/console/errors.py",  # the null device
    "experiments/runs/trackers.py",  # tries out whether there is room
    "experiments/report/figures.py",  # these write into memory
    "experiments/app/ranking.py",
    "experiments/report/tables.py",
}


def _opens_to_write(call: ast.Call) -> bool:
    modes = [a.value for a in (*call.args, *(k.value for k in call.keywords)) if isinstance(a, ast.Constant)]
    return ast.unparse(call.func).endswith(".open") and any(str(mode)[:1] in "wax" for mode in modes)


def _written_past(path: Path) -> list[str]:
    text = path.read_text()
    if not re.search(r"\.open\(|save|memmap|\.to_|\.write_", text):
        return []
    tree, drafted, past = ast.parse(text), set(), []
    for block in ast.walk(tree):
        if isinstance(block, ast.With) and any("draft_of(" in ast.unparse(item) for item in block.items):
            drafted |= set(map(id, ast.walk(block)))
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and id(call) not in drafted:
            name = ast.unparse(call.func)
            if _opens_to_write(call) or WRITES.search(name) or SAVES.match(name):
                past.append(f"{path.relative_to(REPOSITORY)}:{call.lineno}: {name}")
    return past


def test_nothing_is_written_past_the_one_mechanism() -> None:
    """Every call that writes a file stands in a block of ``draft_of``."""
    past = []
    for package in ("datamodules", "experiments", "lightning_modules", "postproc"):
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            name = str(path.relative_to(REPOSITORY))
            if name not in PAST and "/bench/" not in name:
                past += _written_past(path)
    assert past == [], past


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands below read, on a disk that is well."""
    root = tmp_path_factory.mktemp("ran")
    save_tested(root / "saved", "English", "HeadPair", 0)
    make_clips(root / "clips")
    assert main(["fit", "--config", str(TINY), f"--run_dir={root / 'run'}", "--data.steps_per_epoch=1"]) == 0
    media = str(media_world(root / "media"))
    assert main(["fit", "--config", media, f"--run_dir={root / 'media run'}".replace(" ", "_"), "--no-test"]) == 0
    for name, cells in (("english", ("heard", "unheard")), ("urdu", ("unheard", "heard"))):
        save_run(root / name, world(dict(zip(cells, ("English", "Urdu"), strict=True)), labelled=False))
        shutil.copy(root / "saved" / "config.yaml", root / name)
    points = {"config": {"value": str(TINY)}, "data.steps_per_epoch": {"values": [1]}}
    (root / "sweep.yaml").write_text(yaml.safe_dump({"method": "grid", "parameters": points}))
    (root / "tiny.yaml").write_text(TINY.read_text().replace("identities: 16", "identities: 16, fold: 0"))
    plan = {"configs": [str(root / "tiny.yaml")], "folds": [0], "seeds": [0], "methods": {"scc": {}}}
    (root / "protocol.yaml").write_text(yaml.safe_dump(plan))
    return root


COMMANDS = {  # R is what they read, D the disk that fails
    "report": "report R/saved --out D/report.html",
    "refine": "refine R/saved --postproc postproc/centring.yaml --out D/refined",
    "split": "split R/clips/manifest.csv --test 3 --val 2 --out D/split",
    "prepare": "prepare R/clips --out D/manifest.csv --pattern {any}/{identity}/{file} --language English --workers 1",
    "embed": f"embed --manifest R/clips/manifest.csv --out D/embedded {VOICE} {FACE}",
    "export": "export R/run --out D/export",
    "test": "test --config R/run/config.yaml --ckpt_path best --run_dir D/tested",
    "predict": "predict --config R/run/config.yaml --ckpt_path best --run_dir D/predicted",
    "validate": "validate --config R/run/config.yaml --ckpt_path best --run_dir D/validated",
    "fit": f"fit --config {TINY} --run_dir D/fit --data.steps_per_epoch=1 --resume auto",
    "score": "score R/media_run --voices R/clips --faces R/clips --out D/scores.csv",
    "score npz": "score R/media_run --voices R/clips --faces R/clips --out D/scores.npz",
    "submit": "submit R/english R/urdu --format fame --out D/submission.zip",
    "protocol": "protocol --config R/protocol.yaml --jobs 1 --out D/protocol --data.steps_per_epoch=1",
    "sweep": "sweep --config R/sweep.yaml --out D/sweep --launcher debug",
    "bench": "bench refine --sizes 200 --out D/bench.json",
    "dashboard": "dashboard --entity e --project p --out D/dashboard.json",
}


@contextmanager
def _here(*_: object) -> Iterator[SimpleNamespace]:
    """In place of a pool of processes."""

    def submit(job: Callable[[], str | None]) -> Future[str | None]:
        future: Future[str | None] = Future()
        future.set_result(job())
        return future

    yield SimpleNamespace(submit=submit)


MEASURED = {"seconds": 1.0, "estimated": False, "peak_gb": 1.0, "eer": 0.5}
ONCE = ("split", "embed")
"""Commands that write nothing where there is something."""


@pytest.mark.processes
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_on_a_disk_that_fails_is_a_line_and_keeps_what_was_there(
    command: str,
    fault: Fault,
    place: Path,
    ran: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("experiments.runs.fits.process_pool", _here)
    monkeypatch.setattr("experiments.bench.compare.run_apart", lambda *_: MEASURED)
    root = place / f"commands {fault}"
    root.mkdir(exist_ok=True)
    words = [word.replace("R/", f"{ran}/").replace("D/", f"{root}/") for word in COMMANDS[command].split()]
    for again in (False, True)[: 1 if command in ONCE else 2]:  # then over what the first one has written
        before = contents(place)
        with failing(place, fault):
            capsys.readouterr()
            assert main(words) == 2
            lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
            assert len(lines) == 1
            assert str(root) in lines[0]
            assert REASONS[fault] in lines[0]
        assert contents(place) == before
        if not again:
            assert main(words) == 0
