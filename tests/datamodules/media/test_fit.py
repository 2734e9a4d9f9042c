"""From wav and jpg to scored trials: a tiny version of the paper's network on synthetic media."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from datamodules.datasets.mavceleb.module import MAVCelebDataModule
from datamodules.media.module import MediaOptions
from lightning_modules.networks.cavmae import CAVMAE
from lightning_modules.networks.frontend import FrontEnd
from lightning_modules.scc import SCC
from lightning_modules.training.optim import AveragedWeights, LayerwiseAdamW, WarmupCosine
from postproc.metrics import evaluate_cell
from tests.datamodules.media_tree import make_test, make_training

SIZES: dict[str, Any] = {"width": 24, "depth": 1, "heads": 3, "frames": 48, "image_size": 32}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mav")
    make_training(root, "v1", ("English", "Urdu"), people=24, clips=3)
    for language in ("English", "Urdu"):
        make_test(root / "v1", language, f"voices/{language}", f"faces/{language}", people=10, clips=4)
    return root


def data(tree: Path, steps: int = 20) -> MAVCelebDataModule:
    return MAVCelebDataModule(
        "v1",
        "English",
        str(tree),
        labels={"English": "v1/English_labels.txt", "Urdu": "v1/Urdu_labels.txt"},
        val_trials=100,
        media=MediaOptions(frames=48, image_size=32, colour=0.0),
        batch_size=16,
        steps_per_epoch=steps,
    )


def model(steps: int, **network: Any) -> SCC:
    frontend = FrontEnd(frequency_mask=8, time_mask=8, gain_db=3.0, noise_snr_db=(20.0, 30.0))
    return SCC(
        (128, 3),
        network=partial(CAVMAE, **SIZES, frontend=frontend, **network),
        tau=0.1,
        optimizer=partial(LayerwiseAdamW, lr=3e-3, weight_decay=0.05, layer_decay=0.9),
        scheduler=partial(WarmupCosine, total_steps=steps, warmup_steps=5),
    )


def trainer(folder: Path, epochs: int, **options: Any) -> Trainer:
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    quiet |= {"use_distributed_sampler": False, "num_sanity_val_steps": 0, "accelerator": "cpu", "devices": 1}
    return Trainer(max_epochs=epochs, default_root_dir=folder, **quiet, **options)


def test_learns_what_pitch_and_colour_have_in_common(tree: Path, tmp_path: Path) -> None:
    seed_everything(0, verbose=False)
    scc, media, run = model(60), data(tree), trainer(tmp_path, 3, enable_checkpointing=False)
    run.fit(scc, datamodule=media)
    assert run.callback_metrics["val/eer"] < 0.35
    run.test(scc, datamodule=media, verbose=False)
    test = media.evaluation_set("test")
    for name, cell in test.cells.items():
        assert evaluate_cell(cell, test.voices, test.faces, scc.scores[name])["eer"] < 0.3


def test_ema_checkpoint_resume_and_frozen_parts(tree: Path, tmp_path: Path) -> None:
    seed_everything(0, verbose=False)
    frozen = {"freeze": ["blocks_[av].0.*"], "grad_checkpointing": True, "patch_dropout": 0.25}
    scc, media = model(12, **frozen), data(tree, 6)
    before = {name: p.detach().clone() for name, p in scc.network.named_parameters()}
    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=3, save_top_k=-1)
    run = trainer(tmp_path, 1, callbacks=[AveragedWeights(decay=0.5), keep])
    run.fit(scc, datamodule=media)
    for name, parameter in scc.network.named_parameters():
        assert torch.equal(parameter, before[name]) == name.startswith(("blocks_a.0.", "blocks_v.0.")), name
    path = tmp_path / "step=3.ckpt"
    saved = torch.load(path, weights_only=True)
    assert any(not torch.equal(value, saved["current_model_state"][key]) for key, value in saved["state_dict"].items())
    resumed = trainer(tmp_path, 2, callbacks=[AveragedWeights(decay=0.5)], enable_checkpointing=False)
    resumed.fit(model(12, **frozen), datamodule=data(tree, 6), ckpt_path=path, weights_only=True)
    assert resumed.global_step == 12  # the rest of the first epoch and the second
    # and another fit can start from the trained network
    again = CAVMAE(128, 3, **SIZES, checkpoint=str(path))
    assert torch.equal(again.norm_a.weight, saved["state_dict"]["network.norm_a.weight"])
