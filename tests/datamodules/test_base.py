"""A trainer's loops over a data module: every item once, training pairs by the named sampler."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from datamodules.sampling.samplers import IdentityBatchSampler, OncePairSampler, ShuffledPairSampler
from datamodules.schema import DataError
from datamodules.training_set import ResumableLoader
from datamodules.workers import workers_by_cores
from tests.datamodules.feature_world import module, six_people


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return six_people(tmp_path)


class Collector(LightningModule):
    """A model that records the items of each loader."""

    sampling = "shuffle"

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[tuple[str, int], list[int]] = {}
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.identities: list[int] = []

    def training_step(self, batch: Any, step: int) -> Tensor:
        assert batch["voice"].shape[1:] == (5,)
        assert batch["face"].shape[1:] == (7,)
        self.identities += batch["identity"].tolist()
        return self.weight.sum()

    def _collect(self, stage: str, batch: Any, loader: int) -> None:
        self.seen.setdefault((stage, loader), []).extend(batch["index"].tolist())
        assert len(batch["x"]) == len(batch["index"])

    def validation_step(self, batch: Any, step: int, dataloader_idx: int = 0) -> None:
        self._collect("validate", batch, dataloader_idx)

    def test_step(self, batch: Any, step: int, dataloader_idx: int = 0) -> None:
        self._collect("test", batch, dataloader_idx)

    def predict_step(self, batch: Any, step: int, dataloader_idx: int = 0) -> None:
        self._collect("predict", batch, dataloader_idx)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.filterwarnings("ignore")
def test_every_loop_of_a_trainer_gets_every_item_once(root: Path) -> None:
    data, model = module(root, eval_batch_size=3), Collector()
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    trainer.predict(model, data)
    assert sorted(model.identities) == [0] * 4 + [1] * 4
    for stage in ("validate", "test", "predict"):
        found = data.evaluation_set(stage)  # type: ignore[arg-type]
        for loader, items in enumerate((found.voices, found.faces)):
            assert model.seen[stage, loader] == list(range(len(items)))


@pytest.mark.filterwarnings("ignore")
def test_no_validation_is_skipped_by_the_trainer(root: Path) -> None:
    data, model = module(root, val_identities=0), Collector()
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, data)
    assert not model.seen
    assert len(model.identities) == 16


@pytest.mark.parametrize(
    ("sampling", "kind"),
    [
        ("identity", IdentityBatchSampler),
        ("shuffle", ShuffledPairSampler),
        ("once", OncePairSampler),
        (None, IdentityBatchSampler),
    ],
)
def test_sampling_by_name(root: Path, sampling: Any, kind: type) -> None:
    loader = module(root, sampling=sampling).train_dataloader()
    assert isinstance(loader, ResumableLoader)
    assert isinstance(loader.pairs, kind)
    batch = next(iter(loader))
    assert batch["voice"].dtype == torch.float32
    assert batch["identity"].dtype == torch.int64


def test_unknown_sampling_is_named(root: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"data\.sampling: 'shuffel' is unknown; use one of identity, shuffle, fixed_order, grouped, once",
    ):
        module(root, sampling="shuffel").train_dataloader()


def test_a_temporary_folder_too_long_for_sockets_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/tmp/" + 80 * "x")
    data = module(root, num_workers=1)
    with pytest.raises(DataError, match="10 characters too long for that; set TMPDIR"):
        data.train_dataloader()


def test_too_little_shared_memory_reads_without_processes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=64 << 20))
    with pytest.warns(UserWarning, match=r"1 loader processes need 96 MB .* has 64 MB free; .* --shm-size"):
        loader = module(root, num_workers=1).train_dataloader()
    assert loader.num_workers == 0
    assert len(next(iter(loader))["voice"])


@pytest.mark.parametrize(
    ("cores", "ranks", "slurm", "expected"),
    [(2, 1, "", 2), (16, 1, "", 8), (16, 4, "", 4), (2, 4, "", 1), (64, 8, "6", 6), (64, 8, "32", 8)],
)
def test_loader_processes_go_by_cores(
    cores: int, ranks: int, slurm: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", slurm)
    assert workers_by_cores(ranks) == expected
