"""A small synthetic world: people with latent traits that show in voice and face; and one way to run a model on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from numpy.typing import NDArray
from torch import Tensor

from datamodules.base import VoiceFaceDataModule
from datamodules.schema import Cell, EvaluationSet, Items, Modality, Stage, Trials
from datamodules.training_set import TrainingSet
from lightning_modules.base import AssociationModule

DIMS = (12, 20)


class Rows:
    """An ``ItemSource`` over a matrix."""

    def __init__(self, x: NDArray[np.float32]) -> None:
        self.x = torch.from_numpy(x)

    def read(self, rows: Sequence[int] | NDArray[np.int64]) -> Tensor:
        return self.x[torch.as_tensor(np.asarray(rows))]


class TinyData(VoiceFaceDataModule):
    """``people`` training identities with a few clips each, and 6 more to validate and test on."""

    def __init__(self, people: int = 12, clips: int = 7, noise: float = 0.3, **options: Any) -> None:
        super().__init__(**{"batch_size": 8, "eval_batch_size": 5, **options})
        rng = np.random.default_rng(3)
        maps = [rng.normal(size=(5, d)) for d in DIMS]
        traits = rng.normal(size=(people + 6, 5))

        def clips_of(persons: NDArray[np.int64]) -> list[NDArray[np.float32]]:
            x = [traits[persons] @ m + noise * rng.normal(size=(len(persons), m.shape[1])) for m in maps]
            return [(v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float32) for v in x]

        self.identity = np.repeat(np.arange(people), clips)
        self.train = clips_of(self.identity)
        held_out = np.repeat(np.arange(people, people + 6), [3, 3, 3, 3, 3, 2])  # 17 items: an odd number for two ranks
        self.held_out = clips_of(held_out)
        blank = np.full(len(held_out), "")
        names = np.array([f"id{i}" for i in held_out])
        items = [
            Items(np.array([f"{m}{i}" for i in range(len(names))]), names, blank, blank, blank, x)
            for m, x in zip("vf", self.held_out, strict=True)
        ]
        v, f = (index.ravel() for index in np.indices((len(names), len(names))))
        labels = (names[v] == names[f]).astype(np.int8)
        trials = Trials(np.array([str(i) for i in range(len(v))]), items[0].ids[v], items[1].ids[f], labels, "tiny")
        self._evaluation = EvaluationSet(items[0], items[1], {"heard": Cell("heard", "", trials, v, f)})

    @property
    def dims(self) -> tuple[int, int]:
        return DIMS

    @property
    def num_identities(self) -> int:
        return int(self.identity.max()) + 1

    def training_set(self) -> TrainingSet:
        rows = np.arange(len(self.identity))
        language = np.full(len(rows), "en")
        names = np.array([f"id{i}" for i in range(self.num_identities)])
        video = np.array([f"video{i}" for i in rows // 2])  # of two clips; some hold two people
        return TrainingSet(Rows(self.train[0]), Rows(self.train[1]), rows, rows, self.identity, language, names, video)

    def evaluation_set(self, stage: Stage) -> EvaluationSet:
        return self._evaluation

    def evaluation_source(self, stage: Stage, modality: Modality) -> Rows:
        return Rows(self.held_out[0 if modality == "voice" else 1])


def trainer(folder: Path, **options: Any) -> Trainer:
    """A quiet CPU trainer that keeps the best checkpoint by val/eer."""
    best = ModelCheckpoint(folder, "best", monitor="val/eer", enable_version_counter=False)
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 2,
        "logger": False,
        "callbacks": [best],
        "default_root_dir": folder,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
    }
    return Trainer(**{**defaults, **options})


def fit_and_test(make: Callable[[], AssociationModule], folder: Path, **options: Any) -> dict[str, Any]:
    """fit -> best checkpoint -> test in a fresh module; returns scores, embeddings, weights and val/eer."""
    torch.manual_seed(0)
    data, run = TinyData(), trainer(folder, **options)
    model = make()
    run.fit(model, data)
    eer = float(run.callback_metrics["val/eer"])
    best = run.checkpoint_callback.best_model_path
    fresh = make()
    run.test(fresh, data, ckpt_path=best, weights_only=True, verbose=False)
    return {
        "val/eer": eer,
        "scores": fresh.scores,
        "embeddings": fresh.embeddings,
        "weights": {k: v.numpy() for k, v in fresh.state_dict().items()},
        "steps": run.global_step,
        "epochs": run.current_epoch,
    }
