"""``submit``: archives in the challenges' formats from run folders, and the validator over them."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from datamodules.io.trials import write_trials
from datamodules.schema import EvaluationSet
from experiments.run import main
from tests.experiments.saved import save_run, world


def write_lists(folder: Path, evaluation: EvaluationSet) -> list[str]:
    """The challenge's lists: ``<key> <voice> <face>``, CRLF, no final newline."""
    paths = []
    for cell in evaluation.cells.values():
        path = folder / f"{cell.language}_test.txt"
        lines = map(" ".join, zip(cell.trials.keys, cell.trials.voices, cell.trials.faces, strict=True))
        path.write_bytes("\r\n".join(lines).encode())
        paths.append(str(path))
    return paths


@pytest.fixture
def fame(tmp_path: Path) -> tuple[list[str], list[str]]:
    """Run folders of both train languages, and the unlabelled lists."""
    english = world({"heard": "English", "unheard": "Urdu"}, labelled=False)
    urdu = world({"unheard": "English", "heard": "Urdu"}, labelled=False)
    # the same test lists, whatever the model was trained on
    for name, other in (("unheard", "heard"), ("heard", "unheard")):
        cell = english.cells[other]
        urdu.cells[name] = type(cell)(name, cell.language, cell.trials, cell.voice_index, cell.face_index)
    runs = [str(save_run(tmp_path / "run e", english)), str(save_run(tmp_path / "run u", urdu))]
    return runs, write_lists(tmp_path, english)


@pytest.fixture
def archive(fame: tuple[list[str], list[str]], tmp_path: Path) -> Path:
    out = tmp_path / "submission.zip"
    assert main(["submit", *fame[0], "--format", "fame", "--out", str(out)]) == 0
    return out


def test_fame_archive_holds_the_refined_distances_in_list_order(
    archive: Path, fame: tuple[list[str], list[str]]
) -> None:
    names = [f"sub_score_{lang}_{cond}.txt" for lang in ("English", "Urdu") for cond in ("heard", "unheard")]
    with zipfile.ZipFile(archive) as opened:
        assert sorted(opened.namelist()) == names
        lines = opened.read("sub_score_Urdu_unheard.txt").decode().splitlines()
    table = pd.read_parquet(Path(fame[0][0]) / "scores.parquet").query("cell == 'unheard'")
    assert [line.split()[0] for line in lines] == table["key"].tolist()
    np.testing.assert_array_equal([float(line.split()[1]) for line in lines], table["refined"])


def test_our_own_archive_is_valid(
    archive: Path, fame: tuple[list[str], list[str]], capsys: pytest.CaptureFixture
) -> None:
    assert main(["submit", "--check", str(archive), "--trials", *fame[1], "--scores-of", *fame[0]]) == 0
    out = capsys.readouterr().out
    assert out.count("300 trials, direction right: rank correlation 1.00 with the raw distances") == 4
    assert main(["submit", "--check", str(archive), "--trials", *fame[1]]) == 0
    assert capsys.readouterr().out.count("direction not checked") == 4


def test_pattern_version_and_raw_scores(fame: tuple[list[str], list[str]], tmp_path: Path) -> None:
    pattern, out = "sub_scores_{version}_{language}_{condition}.txt", str(tmp_path / "x.zip")
    options = ["--pattern", pattern, "--version", "v1", "--scores", "raw", "--out", out]
    assert main(["submit", *fame[0], "--format", "fame", *options]) == 0
    with zipfile.ZipFile(out) as opened:
        assert "sub_scores_v1_English_heard.txt" in opened.namelist()
        first = float(opened.read("sub_scores_v1_English_heard.txt").split()[1])
    table = pd.read_parquet(Path(fame[0][0]) / "scores.parquet")
    assert first == table["distance"][0] != table["refined"][0]
    assert main(["submit", "--check", out, "--trials", *fame[1], "--pattern", pattern]) == 0


@pytest.mark.parametrize("language", ["a/b", "../b", "a\\b", "=a", "a\nb", "a:b", "\x1b[2J", "\u202ea"])
def test_a_language_names_no_other_place(language: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    runs = [
        str(save_run(tmp_path / str(i), world({"heard": first, "unheard": second})))
        for i, (first, second) in enumerate([(language, "Urdu"), ("Urdu", language)])
    ]
    pattern = ["--pattern", "{language}_{condition}.txt", "--out", str(tmp_path / "x.zip")]
    assert main(["submit", *runs, "--format", "fame", *pattern]) == 2
    error = capsys.readouterr().err
    assert re.search("is no part of a file name|is not a plain relative path", error), error
    assert error.count("\n") == 1
    assert not (tmp_path / "x.zip").exists()


def test_flag_archive_has_two_tracks(tmp_path: Path) -> None:
    names = {
        f"{track}/{c}": lang
        for track in ("no_gender", "gender")
        for c, lang in (("heard", "English"), ("unheard", "Bangla"))
    }
    evaluation = world(names)
    run, out = save_run(tmp_path / "run", evaluation), tmp_path / "flag.zip"
    assert main(["submit", str(run), "--format", "flag", "--out", str(out)]) == 0
    with zipfile.ZipFile(out) as opened:
        assert sorted(opened.namelist()) == [
            "gender/sub_score_v4_Bangla_unheard.txt",
            "gender/sub_score_v4_English_heard.txt",
            "no_gender/sub_score_v4_Bangla_unheard.txt",
            "no_gender/sub_score_v4_English_heard.txt",
        ]
    lists = []
    for name, cell in evaluation.cells.items():
        path = tmp_path / "dev_set" / name.split("/")[0] / f"{cell.language}_test.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_trials(cell.trials, path)
        lists.append(str(path))
    assert main(["submit", "--check", str(out), "--trials", *lists]) == 0
    tracks = [
        f"{name.split('/')[0]}/{cell.language}={path}"
        for (name, cell), path in zip(evaluation.cells.items(), lists, strict=True)
    ]
    assert main(["submit", "--check", str(out), "--trials", *tracks]) == 0


def rewrite(archive: Path, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    with zipfile.ZipFile(archive) as opened:
        files = {name: opened.read(name).decode() for name in opened.namelist()}
    with zipfile.ZipFile(archive, "w") as opened:
        for name, text in change(files).items():
            opened.writestr(name, text)


def in_first(change: Callable[[list[str]], list[str]]) -> Callable[[dict[str, str]], dict[str, str]]:
    def apply(files: dict[str, str]) -> dict[str, str]:
        name = "sub_score_English_heard.txt"
        return files | {name: "".join(change(files[name].splitlines(keepends=True)))}

    return apply


def similarity(line: str) -> str:
    key, value = line.split()
    return f"{key} {1 - float(value)}\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (in_first(lambda lines: lines[:-1]), "English_heard.txt: 1 of 300 trials are missing"),
        (in_first(lambda lines: [*lines, lines[0]]), "English_heard.txt, line 301: key .* is already in line 1"),
        (in_first(lambda lines: [lines[1], lines[0], *lines[2:]]), "English_heard.txt, line 1: key .* instead of"),
        (
            in_first(lambda lines: [lines[0].split()[0] + " nan\n", *lines[1:]]),
            "English_heard.txt, line 1: .* not finite",
        ),
        (in_first(lambda lines: [lines[0].split()[0] + " [0.6438]\n", *lines[1:]]), "line 1: .*write 0.6438"),
        (in_first(lambda lines: [line.strip() for line in lines]), "line 1: .* a line end is missing"),
        (
            in_first(lambda lines: [similarity(line) for line in lines]),
            "English_heard.txt: the scores point the wrong way",
        ),
        (in_first(lambda lines: [f"{line.split()[0]} 1\n" for line in lines]), "all 300 distances are 1.0"),
        (in_first(lambda lines: ["../../etc 0.5\n", *lines[1:]]), "line 1: key '../../etc' is not in"),
        (lambda files: dict(list(files.items())[:3]), "four files are expected"),
        (lambda files: files | {"__MACOSX/x": ""}, "5 files where 4 are expected, e.g. '__MACOSX/x'"),
        (lambda files: {f"out/{name}": text for name, text in files.items()}, "is not named sub_score_"),
        (lambda files: {f"../{name}": text for name, text in files.items()}, "is not a printable relative path"),
        (
            lambda files: dict(zip(files, [*list(files.values())[2:], *list(files.values())[:2]], strict=True)),
            "line 1: key .* is not in",
        ),
    ],
)
def test_each_mistake_is_one_line_that_names_the_place(
    archive: Path,
    fame: tuple[list[str], list[str]],
    change: Callable[[dict[str, str]], dict[str, str]],
    message: str,
    capsys: pytest.CaptureFixture,
) -> None:
    rewrite(archive, change)
    capsys.readouterr()
    assert main(["submit", "--check", str(archive), "--trials", *fame[1], "--scores-of", *fame[0]]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {archive}")
    assert len(error.splitlines()) == 1
    assert re.search(message, error), error


def test_labels_of_a_list_show_the_direction_of_a_single_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    evaluation = world({"heard": "English"})
    run = save_run(tmp_path / "run", evaluation)
    cell, table = evaluation.cells["heard"], pd.read_parquet(run / "scores.parquet")
    write_trials(cell.trials, tmp_path / "list.csv")
    for sign, status in ((1, 0), (-1, 2)):
        file = tmp_path / "scores.txt"
        file.write_text("".join(f"{k} {sign * d}\n" for k, d in zip(table["key"], table["distance"], strict=True)))
        assert main(["submit", "--check", str(file), "--trials", str(tmp_path / "list.csv")]) == status
    captured = capsys.readouterr()
    assert "direction right: AUC" in captured.out
    assert "scores point the wrong way (AUC" in captured.err


@pytest.mark.parametrize(
    ("cells", "options", "message"),
    [
        ({"heard": "English", "unheard": "Urdu"}, [], "English_unheard, Urdu_heard missing; .* both train languages"),
        ({"heard": "English"}, [], "test languages English; FAME expects four files of two languages"),
        (
            {"balanced/heard": "English"},
            [],
            "have test conditions balanced/heard; choose a set of .* --lists",
        ),
        ({"heard": ""}, [], "language of its voices is unknown"),
        ({"heard": "English", "unheard": "Urdu"}, ["--format", "flag"], "gender/Bangla_unheard.* missing"),
    ],
)
def test_runs_that_make_no_submission_are_refused(
    cells: dict[str, str], options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = save_run(tmp_path / "run", world(cells) if "" not in cells.values() else unnamed())
    out = tmp_path / "s.zip"
    assert main(["submit", str(run), "--format", "fame", "--out", str(out), *options]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not out.exists()


def unnamed() -> EvaluationSet:
    evaluation = world({"heard": "English"})
    cell = evaluation.cells["heard"]
    evaluation.cells["heard"] = type(cell)("heard", "", cell.trials, cell.voice_index, cell.face_index)
    return evaluation


def test_missing_runs_and_scores_are_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["submit", str(tmp_path / "no"), "--format", "fame"]) == 2
    run = save_run(tmp_path / "run", world({"heard": "English"}), refined=False)
    assert main(["submit", str(run), "--format", "fame"]) == 2
    error = capsys.readouterr().err
    assert "no such run folder" in error
    assert "test condition heard: has no refined scores; use --scores raw" in error
