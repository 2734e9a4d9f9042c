"""Lists that are empty, one-sided, contradictory, in another encoding or hostile, given to ``fit`` and ``submit``."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from datamodules.schema import DataError
from experiments.run import main
from experiments.submission.check import check
from experiments.submission.format import pack
from tests.faults.worlds import feature_world, media_world, refusal

LIST = "English.csv"


@pytest.fixture
def world(tmp_path: Path) -> Path:
    feature_world(tmp_path / "world")
    return tmp_path / "world"


def fit(world: Path, *options: str) -> list[str]:
    return ["fit", "--config", str(world / "world.yaml"), f"--run_dir={world.parent / 'run'}", *options]


def scores(world: Path) -> pd.DataFrame:
    return pd.read_parquet(world.parent / "run" / "scores.parquet").drop(columns="refined")


def as_challenge(text: str) -> str:
    """``<index> <label> <voice> <face>``."""
    rows = [line.split(",") for line in text.splitlines()[1:]]
    return "\n".join(f"{key} {label} {voice} {face}" for key, voice, face, label in rows)


READ_ALIKE = {
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "byte order mark": lambda text: ("\ufeff" + text).encode(),
    "CRLF, byte order mark, no last line end": lambda text: (
        "\ufeff" + text.rstrip("\n").replace("\n", "\r\n")
    ).encode(),
    "blank lines": lambda text: text.replace("\n", "\n\n").encode(),
    "the challenges' format": lambda text: as_challenge(text).encode(),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Scores of the list as it is."""
    root = tmp_path_factory.mktemp("plain") / "world"
    feature_world(root)
    assert main(fit(root)) == 0
    return scores(root)


@pytest.mark.parametrize("change", READ_ALIKE)
def test_other_line_ends_and_formats_give_the_same_scores(world: Path, change: str, plain: pd.DataFrame) -> None:
    for name in (LIST, "Urdu.csv"):
        path = world / name
        path.write_bytes(READ_ALIKE[change](path.read_text()))
    assert main(fit(world)) == 0
    pd.testing.assert_frame_equal(scores(world), plain)


REFUSED = {
    "empty": (lambda _: b"", "is empty; give key, voice and face per line"),
    "column names alone": (lambda t: t.splitlines()[0].encode(), "has column names but no trials"),
    "one class": (
        lambda t: "\n".join([line for line in t.splitlines() if not line.endswith(",0")]).encode(),
        r"data\.test\.heard: all \d+ labels of .* are 1; an error rate needs both 0 and 1; correct the list, or remove",
    ),
    "a key twice": (
        lambda t: (t + t.splitlines()[1]).encode(),
        r"line \d+, column key: 'E0' is already used in .*line 2$",
    ),
    "an unknown file": (
        lambda t: t.replace("p6/English/1.wav", "p6/English/one.wav", 1).encode(),
        r"line \d+, column voice: unknown item p6/English/one\.wav; did you mean p6/English/\d\?",
    ),
    "not UTF-8": (lambda t: t.replace("E3", "\u00e93").encode("latin-1"), r"line 5: not UTF-8"),
    "UTF-16": (lambda t: t.encode("utf-16"), r"line 1: not UTF-8"),
    "a zero byte": (lambda t: t.replace("E3", "E\0").encode(), r"line 5: contains a zero byte"),
    "path traversal": (
        lambda t: t.replace("p6/English/1.wav", "p6/../../../etc/passwd", 1).encode(),
        r"line \d+, column voice: .* leaves the data folder",
    ),
    "an absolute path": (
        lambda t: t.replace("p6/English/1.wav", "/etc/passwd", 1).encode(),
        r"line \d+, column voice: '/etc/passwd' is absolute",
    ),
    "a column short": (lambda t: t.replace(",1\n", "\n", 1).encode(), r"line \d+: 3 columns, expected 4"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_bad_list_stops_the_run_before_it_starts(world: Path, fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    change, said = REFUSED[fault]
    path = world / LIST
    path.write_bytes(change(path.read_text()))
    line = refusal(fit(world), capsys)
    assert str(path) in line
    assert re.search(said, line), line
    assert not (world.parent / "run" / "checkpoints").exists()


def test_a_list_of_one_class_may_be_scored(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(fit(world, "--no-test")) == 0
    path = world / LIST
    path.write_text("\n".join(line for line in path.read_text().splitlines() if not line.endswith(",0")))
    config = str(world.parent / "run" / "config.yaml")
    predicted = world.parent / "predicted"
    predict = ["predict", "--config", config, "--ckpt_path=best", f"--run_dir={predicted}"]
    assert main(predict) == 0
    assert (predicted / "scores.parquet").is_file()
    (predicted / "results.json").write_text("{}")  # of a test
    assert "holds the results of a test, which a prediction replaces" in refusal(predict, capsys)
    assert (predicted / "results.json").is_file()


def test_an_unknown_language_names_the_nearest(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(fit(world, "--data.train_languages=[Englisch]"), capsys)
    assert line == "data.train_languages: Englisch is unknown; did you mean English?"


def test_a_million_lines_are_checked_and_the_bad_one_is_named(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voices = [f"p{6 + i % 4}/English/{i % 3}.wav" for i in range(12)]
    lines = (f"k{i},{voices[i % 12]},p{6 + i % 3}/English/{i % 3}.jpg,{i % 2}" for i in range(1_000_000))
    path = world / LIST
    path.write_text("key,voice,face,label\n" + "\n".join(lines))
    with path.open("a") as file:
        file.write("\nk1000000,p6/English/9.wav,p6/English/0.jpg,1\n")
    assert "line 1000002, column voice: unknown item p6/English/9.wav" in refusal(fit(world), capsys)


def test_a_hostile_training_list_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = media_world(tmp_path / "media")
    path = tmp_path / "media" / "v1" / "English_train.txt"
    path.write_text("../../../etc/passwd id0001/English/vid0/0.jpg\n" + path.read_text())
    line = refusal(["fit", "--config", str(config), f"--run_dir={tmp_path / 'run'}"], capsys)
    assert "English_train.txt, line 1: ../../../etc/passwd leaves the data folder" in line


# -- submissions ---------------------------------------------------------------------------------------------------

KEYS = [f"k{i}" for i in range(8)]
NAMES = [f"sub_score_{language}_{cell}.txt" for language in ("English", "Urdu") for cell in ("heard", "unheard")]


@pytest.fixture
def lists(tmp_path: Path) -> list[str]:
    for language in ("English", "Urdu"):
        rows = [f"{key} v/{i}.wav f/{i}.jpg\n" for i, key in enumerate(KEYS)]
        (tmp_path / f"{language}_test.txt").write_text("".join(rows))
    return [str(tmp_path / f"{language}_test.txt") for language in ("English", "Urdu")]


def archive(path: Path, changes: dict[str, str] | None = None, rename: dict[str, str] | None = None) -> Path:
    good = "".join(f"{key} {i / 8}\n" for i, key in enumerate(KEYS))
    files = dict.fromkeys(NAMES, good) | (changes or {})
    with zipfile.ZipFile(path, "w") as out:
        for name, text in files.items():
            out.writestr((rename or {}).get(name, name), text)
    return path


HOSTILE = {
    "terminal control": ("k0\x1b[2J 0.1\n", r"key 'k0\\x1b\[2J' contains a blank or control character"),
    "path as key": ("../../etc/passwd 0.1\n", "key '../../etc/passwd' is not in"),
    "a formula": ("=cmd|calc 0.1\n", "is not in"),
    "a key of a megabyte": ("k" * 1_000_000 + " 0.1\n", "contains a blank or control"),
    "right-to-left override": ("k\u202e0 0.1\n", "contains a blank or control character"),
    "a similarity in brackets": ("k0 [0.6438]\n", "has brackets, quotes or commas; write 0.6438"),
    "NaN": ("k0 nan\n", "is not finite"),
    "overflow": ("k0 1e999\n", "is not finite"),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_hostile_lines_of_a_submission_are_refused(
    tmp_path: Path, lists: list[str], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text, said = HOSTILE[fault]
    path = archive(tmp_path / "s.zip", {NAMES[0]: text})
    line = refusal(["submit", "--check", str(path), "--trials", *lists], capsys)
    assert re.search(said, line), line
    assert line.isprintable()
    assert len(line) < 500


@pytest.mark.parametrize(
    "name", ["../evil.txt", "/etc/cron.d/evil", "a/../../evil.txt", "..\\evil.txt", "C:\\evil.txt"]
)
def test_names_that_lead_out_of_an_archive_are_refused(
    tmp_path: Path, lists: list[str], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = archive(tmp_path / "s.zip", rename={NAMES[0]: name})
    before = sorted(tmp_path.parent.rglob("*"))
    assert "is not a printable relative path" in refusal(["submit", "--check", str(path), "--trials", *lists], capsys)
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_an_archive_that_is_right_passes(tmp_path: Path, lists: list[str]) -> None:
    good = {name: "".join(f"{key} {i / 8}\n" for i, key in enumerate(KEYS)) for name in NAMES}
    (tmp_path / "s.zip").write_bytes(pack(good))
    assert len(check(tmp_path / "s.zip", lists, None, None, None)) == 4
    with pytest.raises(DataError, match="missing"):
        check(archive(tmp_path / "t.zip", {NAMES[1]: "k0 0.1\n"}), lists, None, None, None)
