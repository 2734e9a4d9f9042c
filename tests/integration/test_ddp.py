"""The command line on two real processes gives the numbers of one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from tests import TINY, warm

pytestmark = pytest.mark.processes

TWO_RANKS = ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu"]


def run(*arguments: str, cache: Path) -> None:
    environment = {**os.environ, "VOICEFACE_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    done = warm.run(*arguments, environment=environment)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("model", ["model/cca.yaml", "model/scc_heads.yaml"])
def test_two_ranks_test_a_checkpoint_as_one_does(model: str, tmp_path: Path) -> None:
    fit, one, two = tmp_path / "fit", tmp_path / "one", tmp_path / "two"
    run("fit", "--config", str(TINY), f"--model={model}", "--no-test", f"--run_dir={fit}", *TWO_RANKS, cache=tmp_path)
    config = ["test", "--config", str(fit / "config.yaml"), "--ckpt_path=best"]
    run(*config, f"--run_dir={two}", cache=tmp_path)
    run(*config, f"--run_dir={one}", "--trainer.devices=1", "--trainer.strategy=auto", cache=tmp_path)
    assert json.loads((two / "results.json").read_text()) == json.loads((one / "results.json").read_text())
    scores = [pd.read_parquet(folder / "scores.parquet") for folder in (one, two)]
    pd.testing.assert_frame_equal(*scores)
