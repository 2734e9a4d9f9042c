"""No command writes over what another one, or somebody, has made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datamodules.schema import DataError
from experiments.run import main
from experiments.runs.folder import OTHER, refuse_others
from experiments.runs.lock import exclusive
from tests.experiments.saved import save_tested
from tests.faults.worlds import refusal

OVER = {
    "report --out D/notes.md R": "# my notes",
    "report --out D/table.csv R": "run,folder,mine",
    "report --out D/page.html R": "<!doctype html>\n<html>mine",
    "report --out D/table.tex R": "\\begin{table}mine",
    "report --out D/world.yaml R": "model: {}",
    "report --out D/history.csv R": "epoch,loss",
    "report --out D/voices.npy R": "\x93NUMPY",
    "dashboard --entity e --project p --out D/mine.json": '{"mine": 1}',
    "dashboard --entity e --project p --out D/results.json": '{\n "heard": {}}',
    "bench eer --sizes 1000 --out D/mine.json": '{"mine": 1}',
    "score R --voices R --faces R --out D/list.csv": "key,voice,face,label",
    "score R --voices R --faces R --out D/manifest.npz": "mine",
    "submit R --format fame --out D/scores.parquet": "PAR1",
    "prepare R --out D/list.csv": "key,voice,face,label",
    "prepare R --out D/list.parquet": "key,voice,face,label",
}


@pytest.mark.parametrize("command", OVER)
def test_a_file_of_another_kind_is_not_written_over(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "a.wav").write_bytes(b"x")
    words = [word.replace("D/", f"{tmp_path}/") for word in command.split()]
    out = Path(words[words.index("--out") + 1])
    out.write_text(OVER[command])
    line = refusal([str(run) if word == "R" else word for word in words], capsys)
    assert str(out) in line
    assert out.read_text() == OVER[command]


def test_a_report_is_made_again(tmp_path: Path) -> None:
    run = save_tested(tmp_path / "run", "English", "HeadPair", 0)
    for name in ("r.md", "r.csv", "r.tex", "r.html"):
        for _ in range(2):
            assert main(["report", str(run), "--out", str(tmp_path / name)]) == 0


@pytest.mark.parametrize("file", OTHER)
def test_no_run_in_a_folder_of_something_else(file: str, tmp_path: Path) -> None:
    (tmp_path / file).touch()
    for command in ("fit", "test", "validate", "predict"):
        with pytest.raises(DataError, match=f"holds {OTHER[file]}"):
            refuse_others(tmp_path, command, None, tmp_path)


def test_a_test_in_the_folder_of_another_run_and_a_prediction_over_a_test_are_refused(tmp_path: Path) -> None:
    mine, other = (tmp_path / name / "checkpoints" / "best.ckpt" for name in ("mine", "other"))
    for path in (mine, other):
        path.parent.mkdir(parents=True)
        path.touch()
    for command in ("test", "validate", "predict"):
        refuse_others(mine.parents[1], command, str(mine), tmp_path)
        refuse_others(tmp_path / "new", command, str(mine), tmp_path)
        for checkpoint in (str(mine), None):
            with pytest.raises(DataError, match="holds another run"):
                refuse_others(other.parents[1], command, checkpoint, tmp_path)
    again = tmp_path / "again"
    again.mkdir()
    for folder in (mine.parents[1], again):
        (folder / "results.json").touch()
    refuse_others(again, "validate", str(mine), tmp_path)
    with pytest.raises(DataError, match="holds the results of a test, which a test replaces; choose another --run_dir"):
        refuse_others(again, "test", str(mine), tmp_path)
    refuse_others(mine.parents[1], "test", str(mine), tmp_path)
    with pytest.raises(DataError, match="holds the results of a test"):
        refuse_others(mine.parents[1], "predict", str(mine), tmp_path)


def test_a_split_keeps_lists_that_are_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    rows = [(f"p{i}/{j}", f"p{i}", language) for i in range(12) for language in ("English", "Urdu") for j in range(3)]
    for modality in ("voice", "face"):
        lines = [f"{item}{language},{name},{language},v{item}" for item, name, language in rows]
        (tmp_path / f"{modality}s.csv").write_text("\n".join(["item,identity,language,video", *lines]) + "\n")
        np.save(tmp_path / f"{modality}s.npy", rng.normal(size=(len(rows), 4)).astype(np.float32))
    words = ["split", str(tmp_path), "--test", "4", "--val", "2", "--trials", "20"]
    assert main(words) == 0
    (tmp_path / "folds.json").unlink()
    with exclusive(tmp_path):
        assert f"{tmp_path}: another command is at work in it" in refusal(words, capsys)
    assert "which a split would replace" in refusal(words, capsys)
