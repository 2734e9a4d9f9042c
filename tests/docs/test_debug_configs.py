"""The presets of ``configs/debug`` shorten any run when they are the second ``--config``."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import yaml

from experiments.run import main
from tests import TINY


def test_one_batch_runs_all_stages(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main(["fit", "--config", str(TINY), "--config", "debug/one_batch.yaml", "--run_dir", str(run)]) == 0
    assert pd.read_csv(run / "history.csv")["step"].max() <= 2
    assert (run / "results.json").is_file()
    assert not list(run.glob("pictures/*"))


def test_overfit_sees_one_batch_until_its_loss_is_gone(tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ["--config", str(TINY), "--config", "debug/overfit.yaml", "--run_dir", str(run)]
    assert main(["fit", *arguments, "--model.optimizer.init_args.lr", "0.01"]) == 0
    loss = pd.read_csv(run / "history.csv")["train/loss"].dropna()
    assert loss.iloc[-1] < 0.2 * loss.iloc[0]
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["data"]["init_args"]["sampling"] == "once"
    assert not (run / "results.json").exists()
