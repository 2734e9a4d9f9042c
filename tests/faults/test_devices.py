"""Devices that this machine does not have: an error that says what to change, before anything is trained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from tests.faults.worlds import feature_world, refusal

if torch.cuda.is_available():
    pytest.skip("this machine has a GPU", allow_module_level=True)

SET = r"This machine has 0 CUDA GPUs and \d+ CPU cores: set trainer\.accelerator and trainer\.devices\.$"
CLUSTERING = "--postproc.steps.init_args.clustering.backend=gpu"
BACKEND = r"backend: gpu, but .*; set backend: auto or cpu$"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--trainer.accelerator=gpu"], SET),
        (["--trainer.accelerator=gpu", "--trainer.devices=8"], SET),
        (["--trainer.accelerator=cuda", "--trainer.devices=8"], SET),
        (["--trainer.accelerator=gpu", "--trainer.devices=[3]"], SET),
        (["--trainer.accelerator=mps"], SET),
        (["--trainer.accelerator=gpuu"], r"invalid accelerator name.*Available names are: .*cpu"),
        (["--trainer.accelerator=tpu"], r"torch_xla.*not met"),
        (["--trainer.devices=0"], SET),
        (["--trainer.devices=-2"], r"devices|processes"),
        (["--trainer.strategy=ddpp"], r"invalid strategy name: `strategy='ddpp'`"),
        (["--postproc=postproc/chaining.yaml", "--postproc.steps.init_args.backend=gpu"], BACKEND),
        (["--postproc=postproc/transport.yaml", CLUSTERING], BACKEND),
        (["--postproc=postproc/blocks.yaml", CLUSTERING], BACKEND),
    ],
)
def test_what_is_not_there_is_said_before_training(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, run = feature_world(tmp_path / "world"), tmp_path / "run"
    line = refusal(["fit", "--config", str(config), f"--run_dir={run}", *options], capsys)
    assert re.search(said, line), line
    assert not (run / "checkpoints").exists()
