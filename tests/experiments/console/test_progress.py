"""Progress as lines, where there is no terminal."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pandas as pd
import pytest

from experiments.console.progress import track
from experiments.run import main
from tests.experiments.conftest import TINY

FIT = ["fit", "--config", str(TINY), "--trainer.enable_progress_bar=true", "--trainer.log_every_n_steps=1"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_track_prints_a_line_per_tenth_and_passes_all_on() -> None:
    out = io.StringIO()
    assert list(track(range(200), "fits", 200, out)) == list(range(200))
    lines = out.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines] == [f"fits {n}/200" for n in range(20, 201, 20)]
    assert lines[-1].endswith("0:00:00 left")


def test_track_draws_a_bar_on_a_terminal() -> None:
    out = Terminal()
    assert list(track(range(3), "fits", 3, out)) == [0, 1, 2]
    assert "━━━" in out.getvalue()
    assert "fits 3/3" not in out.getvalue()


def test_a_fit_in_a_log_prints_steps_and_where_its_outputs_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "my run"
    assert main([*FIT, f"--run_dir={run}"]) == 0
    out = capsys.readouterr().out
    steps = [int(found) for found in re.findall(r"^step (\d+)/\d+, epoch \d+: train/loss [\d.]+", out, re.MULTILINE)]
    total = int(re.search(r"^trained (\d+) steps, 2 epochs in", out, re.MULTILINE).group(1))
    assert steps == list(range(1, total + 1))
    assert "test: 1/1 batches of voices" in out
    assert out.rstrip().endswith(f"run folder: {run}\nnext: python -m experiments.run report '{run}'")
    assert "━━━━━━━━ " not in out.split("┏")[0]  # no bar


def test_no_lines_where_progress_is_turned_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    off = ["--trainer.enable_progress_bar=false", "--no-test"]
    assert main([*FIT[:3], *off, f"--run_dir={tmp_path}"]) == 0
    assert "step " not in capsys.readouterr().out


def test_history_has_a_row_per_epoch_and_a_resumed_fit_goes_on(tmp_path: Path) -> None:
    assert main([*FIT[:3], "--no-test", f"--run_dir={tmp_path}"]) == 0
    first = pd.read_csv(tmp_path / "history.csv")
    assert first["epoch"].tolist() == [0, 1]
    assert {"step", "seconds", "lr", "train/loss", "val/eer"} <= set(first)
    again = ["--no-test", f"--run_dir={tmp_path}", f"--ckpt_path={tmp_path}/checkpoints/last.ckpt"]
    assert main([*FIT[:3], *again, "--trainer.max_epochs=4"]) == 0
    second = pd.read_csv(tmp_path / "history.csv")
    assert second["epoch"].tolist() == [0, 1, 2, 3]
    took = "seconds"  # the resumed fit may train the last epoch again
    pd.testing.assert_frame_equal(second[:2].drop(columns=took), first.drop(columns=took), check_dtype=False)
