"""Training batches under a real Trainer: epochs, and runs that stop and resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, Dataset

from datamodules.sampling.samplers import IdentityBatchSampler, PairBatchSampler, ShuffledPairSampler
from datamodules.training_set import ResumableLoader

Seen = list[tuple[int, int, list[int]]]
STEPS, EPOCHS = 4, 3


class Echo(Dataset):
    def __getitems__(self, pairs: list[tuple[int, int]]) -> torch.Tensor:
        return torch.tensor(pairs)


class Recorder(LightningModule):
    """A model without parameters that records (epoch, step, voices) of every batch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: Seen = []

    def training_step(self, batch: torch.Tensor, step: int) -> torch.Tensor:
        self.seen.append((self.current_epoch, step, batch[:, 0].tolist()))
        return self.weight.sum()

    def validation_step(self, batch: Any, step: int) -> None: ...

    def val_dataloader(self) -> DataLoader:
        return DataLoader([0])  # type: ignore[arg-type]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def identity_sampler() -> PairBatchSampler:
    return IdentityBatchSampler(np.arange(40) % 10, np.full(40, "English"), 4, STEPS, seed=1)


def shuffled_sampler() -> PairBatchSampler:
    return ShuffledPairSampler(40, 10, seed=1)


def fit(
    sampler: PairBatchSampler, workers: int = 0, resume: Path | None = None, save: ModelCheckpoint | None = None
) -> Seen:
    loader = ResumableLoader(
        Echo(), sampler, num_workers=workers, collate_fn=lambda batch: batch, persistent_workers=workers > 0
    )
    model = Recorder()
    trainer = Trainer(
        max_epochs=EPOCHS, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, enable_checkpointing=save is not None, callbacks=[save] if save else [],
    )  # fmt: skip
    trainer.fit(model, loader, ckpt_path=resume)
    return model.seen


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [identity_sampler, shuffled_sampler])
@pytest.mark.parametrize("options", [{"every_n_train_steps": 1}, {"every_n_epochs": 1}], ids=["by_step", "by_epoch"])
def test_a_resumed_run_continues_with_the_next_batch(tmp_path: Path, make: Any, options: dict) -> None:
    saving = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, **options)
    whole = fit(make(), save=saving)
    assert [(epoch, step) for epoch, step, _ in whole] == [(e, s) for e in range(EPOCHS) for s in range(STEPS)]
    assert len({tuple(voices) for _, _, voices in whole}) == len(whole)
    checkpoints = list(tmp_path.glob("*.ckpt"))
    assert len(checkpoints) == EPOCHS * (STEPS if "every_n_train_steps" in options else 1)
    for checkpoint in checkpoints:
        done = int(checkpoint.stem.partition("=")[2])
        assert fit(make(), resume=checkpoint) == whole[done:], checkpoint.name


@pytest.mark.filterwarnings("ignore")
def test_workers_change_neither_the_batches_nor_the_resumed_position(tmp_path: Path) -> None:
    saving = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, every_n_train_steps=1)
    whole = fit(identity_sampler(), save=saving)
    assert fit(identity_sampler(), workers=2) == whole
    for done in (2, STEPS, STEPS + 3):
        assert fit(identity_sampler(), workers=2, resume=tmp_path / f"step={done}.ckpt") == whole[done:]
