"""Pseudo-identities: embeds the training videos, clusters them, and goes on with the clusters as labels ([FAA])."""

from __future__ import annotations

from typing import Any, Protocol, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from datamodules.schema import MODALITIES, DataError
from lightning_modules.evaluation.bank import EmbeddingBank
from lightning_modules.evaluation.scorer import TrialScorer
from postproc.clustering.kmeans import kmeans

Labels = NDArray[np.int64]
STARTS = 1  # of k-means: labels that change with every epoch need not be the best of ten


class LearnsFromClusters(Protocol):
    """What a model takes pseudo-identities by."""

    def set_pseudo_identities(self, labels: Labels, videos: Labels) -> None:
        """Labels (n,) and videos (n,) of the training clips, from the next batch on."""


class PseudoIdentities(Callback):
    """Clusters the training videos between epochs and hands the clusters to the model and its sampler.

    Every rank embeds its share of the unique voices and faces, each once and without augmentation; rank 0 clusters the
    videos and sends the labels to all. The labels in use are saved in checkpoints, so a run resumed inside an epoch
    goes on with them. Identity labels are read in two places: to log how pure the clusters are (``cluster/nmi``,
    ``cluster/ari``, ``cluster/purity``), which changes nothing, and as labels if ``supervised``.

    Args:
        clusters: k of the first clustering, the second, ...; the last stays (progressive clustering).
        every: epochs between clusterings.
        seed: of k-means.
        supervised: take the true identities instead, which is an upper bound and not FAA.
    """

    def __init__(self, clusters: list[int], every: int, seed: int, supervised: bool) -> None:
        super().__init__()
        self.clusters, self.every, self.seed, self.supervised = clusters, every, seed, supervised
        self.labels: Labels | None = None
        self._round = 0  # which clustering they are of

    def state_dict(self) -> dict[str, Any]:
        return {} if self.labels is None else {"labels": torch.from_numpy(self.labels), "round": self._round}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:
            self.labels, self._round = state["labels"].cpu().numpy(), state["round"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data = cast(Any, trainer).datamodule
        train = data.training_set()
        if data.sampling not in (None, "shuffle", "other_video") and not self.supervised:
            raise DataError(f"data.sampling: {data.sampling} draws clips by identity, which FAA may not know; unset")
        unknown = int((train.video == "").sum())
        if unknown:
            raise DataError(
                f"data: {unknown} of {len(train.video)} training clips have no video, or a voice and a face of two; "
                "FAA learns from videos: give a manifest or feature files with a video for both"
            )
        _, self._video = np.unique(train.video, return_inverse=True)
        videos = int(self._video.max()) + 1
        if not self.supervised and max(self.clusters) > videos:
            raise DataError(f"model.clusters: {max(self.clusters)} pseudo-identities of {videos} videos; give fewer")
        if self.labels is not None and len(self.labels) != len(train.video):
            raise DataError(
                f"ckpt_path: has pseudo-identities of {len(self.labels)} clips, the data have {len(train.video)}; "
                "resume on the same data, or start anew from the weights"
            )
        if getattr(trainer.checkpoint_callback, "monitor", None) and not self.supervised:
            rank_zero_warn(
                "validation identities choose the checkpoint by their labels; --checkpoint.monitor null takes the last "
                "one, without any"
            )
        if self.labels is not None:  # resumed, perhaps inside an epoch, and then Lightning announces no epoch
            self._refresh(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._refresh(trainer, pl_module)

    def _refresh(self, trainer: Trainer, module: LightningModule) -> None:
        """Clusters if a clustering is due, and hands the labels out."""
        train, due = cast(Any, trainer).datamodule.training_set(), trainer.current_epoch // self.every
        if self.supervised:
            self.labels = train.identity
        elif self.labels is None or due != self._round:
            self.labels, self._round = self._cluster(trainer, cast(TrialScorer, module), due), due
            quality = cluster_quality(self.labels, train.identity)
            module.log_dict({f"cluster/{name}": value for name, value in quality.items()}, rank_zero_only=True)
        self._hand_out(trainer, module)

    def _cluster(self, trainer: Trainer, module: TrialScorer, turn: int) -> Labels:
        """Pseudo-identity of each clip (n,), the same on every rank."""
        voices, faces = embed_clips(trainer, module)
        labels = None
        if trainer.is_global_zero:
            k = self.clusters[min(turn, len(self.clusters) - 1)]
            videos = pool_videos(voices, faces, self._video)
            labels = kmeans(videos, k, seed=self.seed + turn, n_init=STARTS).labels[self._video]
        return cast(Labels, trainer.strategy.broadcast(labels, src=0))

    def _hand_out(self, trainer: Trainer, module: LightningModule) -> None:
        labels = cast(Labels, self.labels)
        cast(LearnsFromClusters, module).set_pseudo_identities(labels, self._video)
        sampler = cast(Any, trainer.train_dataloader).pairs
        if hasattr(sampler, "set_groups"):
            sampler.set_groups(labels)


@torch.no_grad()
def embed_clips(trainer: Trainer, module: TrialScorer) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Voices (n, d) and faces (n, d) of the training clips on every rank; each rank embeds a share of the unique items.

    The module is put into evaluation mode for it, and back.
    """
    data = cast(Any, trainer).datamodule
    train, loaders = data.training_set(), data.training_items()
    training = [part for part in module.modules() if part.training]
    module.eval()
    found = []
    for modality, loader, rows in zip(MODALITIES, loaders, (train.voice_rows, train.face_rows), strict=True):
        bank = EmbeddingBank(len(loader.dataset)).to(module.device)
        for batch in loader:
            with trainer.precision_plugin.forward_context():
                bank.update(module.embed(modality, batch["x"].to(module.device)), batch["index"])
        found.append(bank.compute().cpu().numpy()[np.unique(rows, return_inverse=True)[1]])
    for part in training:
        part.training = True
    return found[0], found[1]


def pool_videos(voices: NDArray[np.floating], faces: NDArray[np.floating], video: Labels) -> NDArray[np.float64]:
    """Dual-modality pooling ([FAA]): mean voice and mean face of each video, side by side.

    Args:
        voices: (n, d) embeddings of the clips.
        faces: (n, d), row i of the same clip.
        video: (n,) video of each clip, 0..V-1, each at least once.

    Returns:
        (V, 2 d).
    """
    both = np.concatenate([voices, faces], axis=1)
    sums = np.zeros((int(video.max()) + 1, both.shape[1]))
    np.add.at(sums, video, both)
    return sums / np.bincount(video)[:, None]


def cluster_quality(labels: Labels, identity: Labels) -> dict[str, float]:
    """How well clusters (n,) are people (n,), for people who watch a run: ``nmi``, ``ari``, ``purity``, all 1 at best.

    Purity is the share of clips that are of the most frequent person of their cluster.
    """
    table = np.zeros((int(labels.max()) + 1, int(identity.max()) + 1), dtype=np.int64)
    np.add.at(table, (labels, identity), 1)
    return {
        "nmi": float(normalized_mutual_info_score(identity, labels)),
        "ari": float(adjusted_rand_score(identity, labels)),
        "purity": float(table.max(axis=1).sum() / len(labels)),
    }
