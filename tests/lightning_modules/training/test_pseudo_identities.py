"""Pseudo-identities: pooling, quality, one embedding per item on any number of ranks, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from datamodules.schema import DataError
from datamodules.training_set import TrainingSet
from lightning_modules.faa import FAA
from lightning_modules.networks.heads import SharedHeads
from lightning_modules.training.pseudo_identities import embed_clips, pool_videos
from postproc.metrics.clusters import cluster_quality
from tests.lightning_modules.tiny import DIMS, TinyData, trainer
from tests.ranks import TwoRanks


class Recycled(TinyData):
    """Clips share items, as where a video has fewer faces than voices, and leave some rows of the sources out."""

    def training_set(self) -> TrainingSet:
        train = super().training_set()
        rows = train.voice_rows
        return TrainingSet(
            train.voices, train.faces, 1 + rows // 2, rows - rows % 3, *(getattr(train, name) for name in
            ("identity", "language", "identities", "video"))
        )  # fmt: skip


class Counted(FAA):
    """Counts what it embeds."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(DIMS, clusters=[4], network=partial(SharedHeads, embedding_dim=4, hidden=8))
        self.embedded = [0, 0]

    def embed_voice(self, x: Tensor) -> Tensor:
        self.embedded[0] += len(x)
        return super().embed_voice(x)

    def embed_face(self, x: Tensor) -> Tensor:
        self.embedded[1] += len(x)
        return super().embed_face(x)


class EmbedOnce(Callback):
    """Embeds the training clips when training starts; keeps them, and how many items that took."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Counted)
        pl_module.embedded = [0, 0]
        self.clips, self.count = embed_clips(trainer, pl_module), list(pl_module.embedded)
        assert pl_module.training
        assert pl_module.network.voice_branch.training


def embed_on_rank(folder: Path, **options: Any) -> tuple[Any, list[int]]:
    once = EmbedOnce()
    trainer(folder, max_steps=1, limit_val_batches=0, callbacks=[once], **options).fit(Counted(), Recycled())
    return once.clips, once.count


def run_on_rank(folder: Path) -> tuple[Any, list[int]]:
    return embed_on_rank(folder, devices=2, strategy="ddp")


def test_each_unique_item_is_embedded_once_over_all_ranks(two_ranks: TwoRanks, tmp_path: Path) -> None:
    train = Recycled().training_set()
    unique = [len(np.unique(rows)) for rows in (train.voice_rows, train.face_rows)]
    model = Counted().eval()
    with torch.no_grad():
        voices = model.embed_voice(train.voices.read(train.voice_rows)).numpy()
        faces = model.embed_face(train.faces.read(train.face_rows)).numpy()
    one, *two = [embed_on_rank(tmp_path), *two_ranks.run(run_on_rank, tmp_path)]
    assert one[1] == unique == [a + b for a, b in zip(*(count for _, count in two), strict=True)]
    for clips, _ in (one, *two):
        np.testing.assert_allclose(clips[0], voices, atol=1e-6)
        np.testing.assert_allclose(clips[1], faces, atol=1e-6)


def test_pooling_is_the_mean_voice_and_the_mean_face_of_each_video() -> None:
    voices, faces = np.arange(8.0).reshape(4, 2), 10 * np.arange(4.0)[:, None]
    pooled = pool_videos(voices, faces, np.array([1, 0, 1, 1]))
    np.testing.assert_allclose(pooled, [[2, 3, 10], [(0 + 4 + 6) / 3, (1 + 5 + 7) / 3, 50 / 3]])
    one = [pool_videos(voices, faces, np.array([1, 0, 1, 1]), pooling) for pooling in ("voice", "face")]
    np.testing.assert_array_equal(np.concatenate(one, axis=1), pooled)


def test_quality_of_perfect_and_of_worthless_clusters() -> None:
    people = np.repeat(np.arange(4), 5)
    assert cluster_quality(3 - people, people) == pytest.approx({"nmi": 1, "ari": 1, "purity": 1})
    assert cluster_quality(np.zeros(20, dtype=int), people) == pytest.approx({"nmi": 0, "ari": 0, "purity": 0.25})
    assert cluster_quality(np.arange(20), people)["purity"] == 1


def no_video(data: TinyData) -> TinyData:
    train = data.training_set()
    video = train.video.copy()
    video[:3] = ""
    data.training_set = lambda: replace(train, video=video)  # type: ignore[method-assign]
    return data


@pytest.mark.parametrize(
    ("data", "clusters", "message"),
    [
        (no_video(TinyData()), [4], "3 of 84 training clips have no video"),
        (TinyData(sampling="identity"), [4], "sampling is identity, but FAA draws pairs by its pseudo-identities"),
        (TinyData(), [4, 43], "only 42 training videos"),
    ],
)
def test_what_it_cannot_learn_from_is_refused(
    data: TinyData, clusters: list[int], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        trainer(tmp_path).fit(FAA(DIMS, clusters=clusters), data)


def test_a_checkpoint_of_other_data_is_refused(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=1)
    run.fit(FAA(DIMS, clusters=[4]), TinyData())
    run.save_checkpoint(tmp_path / "c.ckpt")
    with pytest.raises(DataError, match="pseudo-identities of 84 clips, the data have 70 clips"):
        trainer(tmp_path).fit(FAA(DIMS, clusters=[4]), TinyData(clips=5, people=14), ckpt_path=tmp_path / "c.ckpt")


class Quality(Callback):
    """NMI of the clusters by epoch."""

    def __init__(self) -> None:
        self.nmi: list[float] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.nmi.append(float(trainer.callback_metrics["cluster/nmi"]))


@pytest.mark.parametrize(
    ("learnt_from", "clusters"), [(None, "silhouette"), (None, [12]), (2, [12]), (2, "silhouette")]
)
def test_clusters_get_no_worse_while_training(learnt_from: int | None, clusters: Any, tmp_path: Path) -> None:
    """Of videos that show one identity each, as those of real data."""
    quality, data = Quality(), TinyData(clips=8)
    torch.manual_seed(0)
    model = FAA(
        DIMS, clusters=clusters, learnt_from=learnt_from, matching=None, optimizer=partial(torch.optim.Adam, lr=5e-3)
    )
    trainer(tmp_path, max_epochs=5, limit_val_batches=0, callbacks=[quality]).fit(model, data)
    assert len(quality.nmi) == 5
    assert min(quality.nmi) >= quality.nmi[0] - 0.02
    assert quality.nmi[0] > 0.8


def test_embeddings_of_encoders_are_clustered_until_the_learnt_ones_are(tmp_path: Path) -> None:
    train = TinyData().training_set()
    model, seen = FAA(DIMS, clusters=[4], learnt_from=2, matching=None), []

    class Watch(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            for turn in range(3):
                clips = embed_clips(trainer, model, model._clustering._learnt(turn))
                seen.append(
                    np.allclose(clips[0], train.voices.read(train.voice_rows), atol=1e-6)
                    if clips[0].shape[1] == DIMS[0]
                    else False
                )

    trainer(tmp_path, max_steps=1, limit_val_batches=0, callbacks=[Watch()]).fit(model, TinyData())
    assert seen == [True, True, False]
