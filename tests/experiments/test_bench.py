"""``bench`` compares what computes the same thing, and measures it in processes of their own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from experiments import bench
from experiments.bench_baseline import chaining, roc_eer
from experiments.run import main
from postproc.chaining import ChainingCluster
from postproc.roc import eer


def test_the_baselines_do_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    distances, labels = bench.synthetic_trials(20_000)
    assert roc_eer(distances, labels) == pytest.approx(eer(distances, labels, direction="distance").eer, abs=1e-9)
    for name, value in {"WIDTH": 32, "TRIALS": 5000, "PEOPLE": 4}.items():
        monkeypatch.setattr(bench, name, value)
    cell, _ = bench.synthetic_cell(300)
    ours = ChainingCluster(elbow_range=(2, 4), n_init=5)(cell).distances
    theirs, left_out = chaining(cell, range(1, 5), sets=4)
    assert left_out == pytest.approx(0)
    assert np.mean(np.isclose(ours, theirs)) > 0.9  # k-means starts differ
    assert chaining(cell, (1, 2, 4), sets=1)[1] > 0


def test_the_command_prints_and_writes_figures(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["bench", "eer", "--sizes", "1000", "--out", str(tmp_path / "bench.json")]) == 0
    (row,) = json.loads((tmp_path / "bench.json").read_text())
    assert row["ours"]["eer"] == pytest.approx(row["sklearn"]["eer"], abs=1e-9)
    assert 0 < row["ours"]["start_gb"] <= row["ours"]["peak_gb"] < 4
    assert "1e+03" in capsys.readouterr().out


def test_a_measurement_that_fails_is_one_line(capsys: pytest.CaptureFixture) -> None:
    assert main(["bench", "eer", "--sizes", "0"]) == 2
    assert capsys.readouterr().err.startswith("error: bench eer ours 0: ")
