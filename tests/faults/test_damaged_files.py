"""Every reader through every command that reads its files: a damaged file is the one line that the reader raised."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml
from PIL import Image

from datamodules.io.trials import read_trials
from datamodules.schema import DataError
from experiments.config.build import read_steps
from experiments.run import main
from experiments.runs.people import read_people, write_people
from experiments.runs.refine import refine_run
from experiments.runs.saved import read_run, write_reference
from postproc.memory import Memory
from postproc.reference import Reference
from tests.experiments.clips import FACE, VOICE, make_clips
from tests.experiments.saved import save_run, save_tested, world
from tests.faults.worlds import feature_world, media_world

pytestmark = pytest.mark.fuzz  # some minutes

FITS = ("fit", "test", "validate", "predict")


class Row(NamedTuple):
    """A file that a command reads.

    Attributes:
        reader: what reads it.
        file: the file, in the world.
        command: the arguments; ``@`` stands for the folder of the world.
    """

    reader: str
    file: str
    command: str


def of_fits(reader: str, file: str, options: str, commands: tuple[str, ...] = FITS) -> list[Row]:
    """A file of the training data, which ``test`` and its like read as ``fit`` does."""
    start = dict.fromkeys(FITS, "--config @/run/config.yaml --ckpt_path best") | {"fit": "--config @/w/world.yaml"}
    return [Row(reader, file, f"{name} {start[name]} --run_dir @/out {options}") for name in commands]


def voices(**options: str | bool) -> str:
    return f"--data.voices={json.dumps([options], separators=(',', ':'))}"


ROWS = [
    *of_fits("npy", "w/voices.npy", ""),
    *of_fits("npz", "w/voices.npz", voices(path="voices.npz")),
    *of_fits("csv", "w/voices.csv", voices(path="voices.csv", index="manifest.csv", labelled=False)),
    *of_fits("index", "w/manifest.csv", ""),
    *of_fits("parquet index", "w/index.parquet", voices(path="voices.npy", index="index.parquet")),
    *of_fits("trial list", "w/English.csv", ""),
    *of_fits("exclude list", "w/tested.txt", "", ("fit", "validate")),
    *of_fits("folds", "w/folds.json", "--data.exclude_identities=folds.json#0", ("fit", "validate")),
    *of_fits("genders", "w/genders.csv", "--data.genders=genders.csv"),
    *of_fits("record of features", "w/learnt.json", "", ("fit", "test", "validate")),
    *of_fits("group file", "w/model.yaml", "--model @/w/model.yaml"),
    *of_fits("refinement", "w/steps.yaml", "--postproc @/w/steps.yaml", ("fit", "test")),
    *of_fits("weights", "w/w.ckpt", "--model.weights @/w/w.ckpt", ("fit",)),
    *of_fits("checkpoint", "run/checkpoints/best.ckpt", "", ("test", "validate", "predict")),
    Row("config", "w/world.yaml", "fit --config @/w/world.yaml --run_dir @/out"),
    Row("config", "run/config.yaml", "test --config @/run/config.yaml --ckpt_path best --run_dir @/out"),
    Row("checkpoint", "run/checkpoints/last.ckpt",
        "fit --config @/w/world.yaml --ckpt_path @/run/checkpoints/last.ckpt --run_dir @/out"),
    Row("safetensors", "export/model.safetensors",
        "fit --config @/w/world.yaml --model.weights @/export/model.safetensors --run_dir @/out"),
    Row("checkpoint", "run/checkpoints/best.ckpt", "export @/run --out @/out"),
    Row("config", "run/config.yaml", "export @/run --out @/out"),
    Row("config", "mexport/config.yaml", "score @/mexport --voices @/a.wav --faces @/a.jpg"),
    Row("config", "tested/config.yaml", "refine @/tested --out @/out"),
    Row("config", "tested/config.yaml", "report @/tested --out @/out.md"),
    Row("safetensors", "mexport/model.safetensors", "score @/mexport --voices @/a.wav --faces @/a.jpg"),
    Row("safetensors", "mexport/model.safetensors",
        "embed --manifest @/clips/manifest.csv --ckpt @/mexport --out @/out"),
    *[Row(f"{kind} audio", f"a.{kind}", f"score @/mexport --voices @/a.{kind} --faces @/a.jpg")
      for kind in ("wav", "flac", "ogg", "mp3", "aiff", "au", "caf", "w64")],
    *[Row(f"{kind} image", f"a.{kind}", f"score @/mexport --voices @/a.wav --faces @/a.{kind}")
      for kind in ("jpg", "png", "tif", "bmp", "gif", "webp", "pgm", "jp2")],
    Row("wav audio", "clips/voices/p0/0.wav", f"embed --manifest @/clips/manifest.csv --out @/out {VOICE} {FACE}"),
    Row("png image", "clips/faces/p0/0.png", f"embed --manifest @/clips/manifest.csv --out @/out {VOICE} {FACE}"),
    Row("manifest", "clips/manifest.csv", f"embed --manifest @/clips/manifest.csv --out @/out {VOICE} {FACE}"),
    Row("parquet manifest", "clips/m.parquet", f"embed --manifest @/clips/m.parquet --out @/out {VOICE} {FACE}"),
    Row("training list", "media/v1/English_train.txt", "fit --config @/media/world.yaml --run_dir @/out"),
    Row("labels", "media/v1/English_labels.txt", "fit --config @/media/world.yaml --run_dir @/out"),
    Row("speakers", "vox1_meta.csv", "prepare @/clips --people @/vox1_meta.csv --out @/out.csv"),
    *[Row(file, f"tested/{file}", command) for command in ("refine @/tested --postproc @/learns.yaml --out @/out",
                                                          "report @/tested --out @/out.md")
      for file in ("scores.parquet", "results.json", "embeddings/voices.csv", "embeddings/faces.npy")],
    *[Row(file, f"tested/{file}", "report @/tested --out @/out.md")
      for file in ("refinement.json", "environment.json", "history.csv")],
    Row("embeddings/reference.npz", "tested/embeddings/reference.npz",
        "refine @/tested --postproc @/learns.yaml --out @/out"),
    Row("scores.parquet", "run/scores.parquet", "refine @/tested --postproc @/fusion.yaml --out @/out"),
    Row("scores.parquet", "english/scores.parquet", "submit @/english @/urdu --format fame --out @/out.zip"),
    Row("refinement", "learns.yaml", "refine @/tested --postproc @/learns.yaml --out @/out"),
    Row("archive", "s.zip", "submit --check @/s.zip --trials @/English_test.txt @/Urdu_test.txt"),
    Row("score file", "s.txt", "submit --check @/s.txt --trials @/English_test.txt"),
    Row("trial list", "English_test.txt", "submit --check @/s.txt --trials @/English_test.txt"),
    Row("protocol file", "p.yaml", "protocol --config @/p.yaml --out @/out --jobs 1"),
    Row("config", "w/world.yaml", "protocol --config @/p.yaml --out @/out --jobs 1"),
    Row("sweep file", "sweep.yaml", "sweep --config @/sweep.yaml --dry_run --out @/out"),
    Row("SLURM settings", "slurm.yaml",
        "sweep --config @/sweep.yaml --launcher slurm --slurm @/slurm.yaml --out @/out"),
]  # fmt: skip


def _features(root: Path) -> None:
    """Every kind of file beside the world of embeddings."""
    feature_world(root)
    x, table = np.load(root / "voices.npy"), pd.read_csv(root / "manifest.csv")
    items = table["voice"].str.removesuffix(".wav").to_numpy(dtype=np.str_)
    columns = {name: table[name].to_numpy(dtype=np.str_) for name in ("identity", "language", "video")}
    np.savez(root / "voices.npz", x=x, clip_id=items, **columns)
    np.savetxt(root / "voices.csv", x, delimiter=",")
    table.to_parquet(root / "index.parquet")
    tested = (root / "tested.txt").read_text().split()
    (root / "folds.json").write_text(json.dumps({"0": tested}))
    table[["identity", "gender"]].drop_duplicates().to_csv(root / "genders.csv", index=False)
    config = yaml.safe_load((root / "world.yaml").read_text())
    (root / "model.yaml").write_text(yaml.safe_dump(config["model"]))
    (root / "steps.yaml").write_text("steps: []\n")


def _media(root: Path) -> None:
    """A recording and a picture in each format."""
    rng = np.random.default_rng(0)
    audio = np.sin(np.arange(8000) * rng.uniform(0.05, 0.2)) * 0.3
    for kind in ("wav", "flac", "ogg", "mp3", "aiff", "au", "caf", "w64"):
        soundfile.write(root / f"a.{kind}", audio, 16000)
    image = Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    for kind in ("jpg", "png", "tif", "bmp", "gif", "webp", "jp2"):
        image.save(root / f"a.{kind}")
    image.convert("L").save(root / "a.pgm")


def _runs(root: Path) -> None:
    """Folders of tested runs, files made of them, and the plans of protocols and sweeps."""
    save_tested(root / "tested", "English", "HeadPair", 0)
    english = world({"heard": "English", "unheard": "Urdu"}, labelled=False)
    urdu = world({"unheard": "English", "heard": "Urdu"}, labelled=False)
    for run, evaluation in (("english", english), ("urdu", urdu)):
        save_run(root / run, evaluation)
        shutil.copy(root / "tested" / "config.yaml", root / run / "config.yaml")
    for cell in english.cells.values():
        lines = [" ".join(row) for row in zip(cell.trials.keys, cell.trials.voices, cell.trials.faces, strict=True)]
        (root / f"{cell.language}_test.txt").write_text("\n".join(lines))
    keys = read_trials(root / "English_test.txt").keys
    (root / "s.txt").write_text("".join(f"{key} {i / 997:.4f}\n" for i, key in enumerate(keys)))
    (root / "learns.yaml").write_text("steps: [{class_path: postproc.GenderProbe, init_args: {weight: 0.5}}]\n")
    fused = {"class_path": "postproc.Fusion", "init_args": {"scores": [str(root / "run" / "scores.parquet")]}}
    (root / "fusion.yaml").write_text(yaml.safe_dump({"steps": [fused]}))
    plan = {"configs": [str(root / "w" / "world.yaml")], "folds": [0], "seeds": [0], "methods": {"scc": {}}}
    (root / "p.yaml").write_text(yaml.safe_dump(plan))
    parameters = {"config": {"value": str(root / "w" / "world.yaml")}, "data.batch_size": {"values": [4, 8]}}
    sweep = {"method": "grid", "parameters": parameters}
    (root / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    (root / "slurm.yaml").write_text("timeout_min: 5\n")
    (root / "vox1_meta.csv").write_text("VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\nid1\tp0\tm\tUK\tdev\n")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder with a file of every kind, and what commands make of them."""
    root = tmp_path_factory.mktemp("whole")
    _features(root / "w")
    fit = ["fit", "--config", str(root / "w" / "world.yaml"), f"--run_dir={root / 'run'}"]
    assert main([*fit, "--postproc.keep_reference=true"]) == 0
    shutil.copy(root / "run" / "checkpoints" / "best.ckpt", root / "w" / "w.ckpt")
    shutil.copy(root / "run" / "embeddings" / "learnt.json", root / "w" / "learnt.json")
    assert main(["export", str(root / "run"), "--out", str(root / "export")]) == 0
    media_world(root / "media")
    assert main(["fit", "--config", str(root / "media" / "world.yaml"), f"--run_dir={root / 'mrun'}", "--no-test"]) == 0
    assert main(["export", str(root / "mrun"), "--out", str(root / "mexport")]) == 0
    manifest = make_clips(root / "clips")
    pd.read_csv(manifest).to_parquet(root / "clips" / "m.parquet")
    _media(root)
    _runs(root)
    known = (np.array([f"q{i % 8}" for i in range(40)]), *[np.full(40, x) for x in ("English", "F", True)])
    known[2][1::2] = "M"
    spaces = [{"model": np.random.default_rng(i).normal(size=(40, 16)).astype(np.float32)} for i in range(2)]
    write_reference(root / "tested", Reference(*spaces, *known))
    archive = root / "s.zip"
    assert main(["submit", str(root / "english"), str(root / "urdu"), "--format=fame", f"--out={archive}"]) == 0
    return root


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(1, len(content))]


def flipped(content: bytes, rng: random.Random) -> bytes:
    spoilt = bytearray(content)
    for _ in range(rng.choice((1, 4, 40))):
        spoilt[rng.randrange(len(spoilt))] ^= rng.randrange(1, 256)
    return bytes(spoilt)


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "junk": lambda content, rng: b"\xff\x00junk" * 50,
    "empty": lambda content, rng: b"",
    "another kind": lambda content, rng: b"\x89PNG\r\n\x1a\n" + bytes(99) if content[:4] != b"\x89PNG" else b"RIFF" * 9,
    "cut": cut,
    "flipped": flipped,
}


@pytest.fixture
def spoilt(whole: Path) -> Iterator[Callable[[str, str, int], Path]]:
    """Damages a file, and puts it back after the test."""
    kept: dict[Path, bytes] = {}

    def spoil(file: str, damage: str, seed: int) -> Path:
        path = whole / file
        content = kept.setdefault(path, path.read_bytes())
        path.write_bytes(DAMAGES[damage](content, random.Random(f"{file}{damage}{seed}")))
        return path

    yield spoil
    for path, content in kept.items():
        path.write_bytes(content)
    for path in whole.glob("out*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def ended(row: Row, whole: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    """The status of a command and its lines of errors. A traceback would be an exception here."""
    capsys.readouterr()
    status = main([part.replace("@", str(whole)) for part in row.command.split()])
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return status, [line for line in said.splitlines() if line.startswith("error:")]


def name(row: Row) -> str:
    return f"{row.reader} through {row.command.split()[0]}"


QUICK = ("score", "embed", "refine", "report", "submit", "prepare", "protocol", "sweep", "export")
IN_FIT = ("npy", "npz", "trial list", "weights", "config")  # the other readers of a fit have quick tests of their own
FORMATS = ("wav", "mp3", "jpg", "tif")
LIGHT = [
    row
    for row in ROWS
    for command in [row.command.split()[0]]
    if (command in QUICK and (command != "score" or row.file[-3:] in FORMATS or "mexport" in row.file))
    or (command == "fit" and row.reader in IN_FIT)
    or (command in FITS and row.reader == "npy")
    or (command == "test" and row.reader == "checkpoint")
]
EMPTY_IS_RIGHT = {"SLURM settings", "environment.json", "refinement", "history.csv"}


@pytest.mark.parametrize("row", LIGHT, ids=name)
def test_a_damaged_file_is_the_line_of_its_reader(
    row: Row, whole: Path, spoilt: Callable[[str, str, int], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = spoilt(row.file, "junk", 0)
    status, lines = ended(row, whole, capsys)
    assert status == 2
    assert len(lines) == 1
    assert str(path) in lines[0]
    assert not lines[0].endswith(": ")
    assert len(lines[0]) < 1000


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("row", ROWS, ids=name)
def test_damage_of_any_kind_is_read_or_the_line_of_its_reader(
    row: Row, damage: str, whole: Path, spoilt: Callable[[str, str, int], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = spoilt(row.file, damage, 0)
    status, lines = ended(row, whole, capsys)
    assert status in (0, 2)
    assert len(lines) == (status == 2), lines
    if damage in ("junk", "another kind") or (damage == "empty" and row.reader not in EMPTY_IS_RIGHT):
        assert status == 2
        assert path.name in lines[0], lines  # what is cut or flipped may be a right file that fits no other one


@pytest.mark.parametrize("file", ["faces.npy", "reference.npz"])
def test_a_reference_of_another_width_is_one_line(file: str, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "tested", tmp_path / "tested")
    path = tmp_path / "tested" / "embeddings" / file
    if file == "faces.npy":
        np.save(path, np.load(path)[:, :6])
    else:
        np.savez(path, **{name: x[:, :6] if x.ndim == 2 else x for name, x in np.load(path).items()})
    steps = read_steps(whole / "learns.yaml")
    with pytest.raises(DataError, match=r"^.*/embeddings: \w+s.npy has \d+ numbers a row .* reference.npz has \d+;"):
        refine_run(read_run(tmp_path / "tested"), steps, Memory())


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", ["people.csv", "people.npz"])
def test_damaged_rates_of_identities_are_one_line(file: str, damage: str, whole: Path, tmp_path: Path) -> None:
    write_people(tmp_path, read_run(whole / "tested"))
    read_people(tmp_path)
    content = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(DAMAGES[damage](content, random.Random(1)))
    if damage in ("cut", "flipped"):
        with contextlib.suppress(DataError):
            read_people(tmp_path)
    else:
        with pytest.raises(DataError, match=rf"^{tmp_path / file}: [^\n]*$"):
            read_people(tmp_path)
