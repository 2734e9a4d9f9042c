"""The same seed gives the same numbers, and so does another number of processes."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from tests import TINY, warm

pytestmark = pytest.mark.processes

STEPS = 20


def fit(run: Path, *options: str) -> pd.Series:
    """Training losses by step of a fit in a separate process."""
    command = [
        "fit", "--config", str(TINY), f"--run_dir={run}",
        "--logger=logger/csv.yaml", "--trainer.log_every_n_steps=1", f"--trainer.max_steps={STEPS}",
        "--trainer.max_epochs=-1", "--data.steps_per_epoch=5", *options,
    ]  # fmt: skip
    environment = {**os.environ, "VOICEFACE_CACHE": str(run.parent / "cache"), "OMP_NUM_THREADS": "1"}
    done = warm.run(*command, environment=environment, timeout=400)
    assert done.returncode == 0, done.stderr[-2000:]
    (metrics,) = run.rglob("metrics.csv")
    return pd.read_csv(metrics).set_index("step")["train/loss"].dropna()


@pytest.mark.timeout(900)
def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    first, again, other = (
        fit(tmp_path / name, f"--seed_everything={seed}", f"--data.seed={seed}")
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    )
    assert len(first) == STEPS
    assert first.equals(again)
    assert not first.equals(other)
    tables = [pd.read_parquet(tmp_path / name / "scores.parquet") for name in ("first", "again", "other")]
    for column in ("distance", "refined"):
        values = [table[column].to_numpy().tobytes() for table in tables]
        assert values[0] == values[1] != values[2]
    results = [(tmp_path / name / "results.json").read_bytes() for name in ("first", "again")]
    assert results[0] == results[1]


@pytest.mark.timeout(900)
def test_two_processes_have_the_losses_of_one_over_the_same_global_batches(tmp_path: Path) -> None:
    options = ["--no-test", "--trainer.accelerator=cpu", "--data.batch_size=12"]
    one = fit(tmp_path / "one", *options)
    two = fit(tmp_path / "two", *options, "--trainer.devices=2", "--trainer.strategy=ddp")
    assert len(one) == STEPS
    assert one.index.equals(two.index)
    assert (one - two).abs().max() < 1e-4
    assert one.iloc[-1] < one.iloc[0]  # and something was learnt, so that equal losses mean equal steps
