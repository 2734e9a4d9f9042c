"""Averaged weights are what is validated, kept and tested, in the run that made them and afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from experiments.run import main
from tests.experiments.conftest import TINY


def test_averaged_weights_survive_checkpoint_and_test(tmp_path: Path) -> None:
    run, again = tmp_path / "run", tmp_path / "again"
    small = ["--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.max_epochs=2", "--trainer.precision=32"]
    given = ["--config", str(TINY), "--trainer", "trainer/media_ema.yaml", *small]
    assert main(["fit", *given, "--model.optimizer=AdamW", "--model.optimizer.lr=0.05", f"--run_dir={run}"]) == 0
    saved = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    name = "network.voice_branch.1.weight"
    assert not torch.allclose(saved["state_dict"][name], saved["current_model_state"][name], rtol=0.1)
    assert main(["test", "--config", str(run / "config.yaml"), "--ckpt_path=best", f"--run_dir={again}"]) == 0
    records = [json.loads((folder / "results.json").read_text()) for folder in (run, again)]
    assert records[0] == records[1]
