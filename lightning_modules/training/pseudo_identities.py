"""Pseudo-identities: the training videos are clustered, and the clusters are the labels ([FAA])."""

from __future__ import annotations

from typing import Any, Literal, Protocol, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray

from datamodules.schema import MODALITIES, DataError
from lightning_modules.evaluation.bank import EmbeddingBank
from lightning_modules.evaluation.scorer import TrialScorer
from postproc.cells import unit
from postproc.clustering.kmeans import cluster_means, kmeans
from postproc.clustering.number import MOST_VIDEOS, count_by_silhouette
from postproc.metrics.clusters import cluster_quality

Labels = NDArray[np.int64]
Clusters = list[int] | Literal["silhouette"]
Pooling = Literal["both", "voice", "face"]
STARTS = 1  # restarts of k-means; more are not worth the time for labels that change every epoch


class LearnsFromClusters(Protocol):
    """A model that is trained on pseudo-identities."""

    def set_pseudo_identities(self, labels: Labels, videos: Labels) -> tuple[Labels, Labels | None]:
        """Sets pseudo-identities (n,) and videos (n,) of the training clips for the next batches.

        Returns:
            The (n,) units that batches are drawn from, and the (n,) groups of diverse positives or None; see
            :class:`datamodules.sampling.groups.GroupedPairSampler`.
        """


class PseudoIdentities(Callback):
    """Clusters the training videos before epochs and passes the clusters to the model and its sampler.

    Each rank embeds a part of the unique voices and faces, each once and without augmentation. Rank 0 clusters the
    videos and sends the labels to all ranks. Checkpoints contain the labels, so that a run resumed within an epoch
    keeps them. Identity labels are used only to log the quality of the clusters by epoch (``cluster/nmi``,
    ``cluster/ari``, ``cluster/purity``), and as training labels if ``supervised``.

    Args:
        clusters: k of the first clustering, the second, ...; the last one stays ([FAA], progressive clustering).
            ``silhouette``: the number that :func:`count_by_silhouette` estimates at the first clustering.
        every: epochs between clusterings.
        learnt_from: number of the clustering (0 = the first) from which the learnt embeddings are clustered; until then
            those of the encoders are. None = always those of the encoders.
        pooling: see :func:`pool_videos`.
        seed: of k-means.
        supervised: use the true identities instead: an upper bound, not FAA.
    """

    def __init__(
        self,
        clusters: Clusters,
        every: int,
        learnt_from: int | None,
        pooling: Pooling,
        seed: int,
        supervised: bool,
    ) -> None:
        super().__init__()
        self.clusters, self.every, self.learnt_from = clusters, every, learnt_from
        self.pooling, self.seed, self.supervised = pooling, seed, supervised
        self.labels: Labels | None = None
        self._round = 0  # number of the clustering that gave the labels

    def state_dict(self) -> dict[str, Any]:
        return {} if self.labels is None else {"labels": torch.from_numpy(self.labels), "round": self._round}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:
            self.labels, self._round = state["labels"].cpu().numpy(), state["round"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data = cast(Any, trainer).datamodule
        train = data.training_set()
        if data.sampling not in (None, "grouped") and not self.supervised:
            raise DataError(
                f"data.sampling is {data.sampling}, but FAA draws pairs by its pseudo-identities; leave it unset"
            )
        unknown = int((train.video == "").sum())
        if unknown:
            raise DataError(
                f"data: {unknown} of {len(train.video)} training clips have no video, or voice and face of different "
                "videos; FAA needs a manifest or feature files with a video for both"
            )
        _, self._video = np.unique(train.video, return_inverse=True)
        self._check_clusters(int(self._video.max()) + 1)
        if self.labels is not None and len(self.labels) != len(train.video):
            raise DataError(
                f"ckpt_path: the checkpoint has pseudo-identities of {len(self.labels)} clips, the data have "
                f"{len(train.video)} clips; resume with the same data, or start a new run with --model.weights"
            )
        if getattr(trainer.checkpoint_callback, "monitor", None) and not self.supervised:
            rank_zero_warn(
                "the best checkpoint is chosen by validation identities and their labels; to use no labels, take the "
                "last checkpoint with --checkpoint.monitor null"
            )
        if self.labels is not None:  # resumed, perhaps within an epoch, whose start Lightning does not repeat
            self._refresh(trainer, pl_module)

    def _check_clusters(self, videos: int) -> None:
        """Refuses numbers of clusters that so many videos do not have."""
        if self.supervised:
            return
        if self.clusters == "silhouette" and videos > MOST_VIDEOS:
            raise DataError(
                f"model.clusters is silhouette, which compares all pairs of at most {MOST_VIDEOS:,} videos, and there "
                f"are {videos:,}; give numbers of clusters such as [1000]"
            )
        if self.clusters != "silhouette" and max(self.clusters) > videos:
            raise DataError(
                f"model.clusters is {self.clusters}, but there are only {videos} training videos; choose fewer clusters"
            )

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._refresh(trainer, pl_module)

    def _refresh(self, trainer: Trainer, module: LightningModule) -> None:
        """Clusters if a clustering is due, and passes the labels on."""
        train, due = cast(Any, trainer).datamodule.training_set(), trainer.current_epoch // self.every
        if self.supervised:
            self.labels = train.identity
        elif self.labels is None or (due != self._round and self._differ(due, self._round)):
            self.labels = self._cluster(trainer, cast(TrialScorer, module), due)
        self._round = due
        if not self.supervised:
            quality = cluster_quality(cast(Labels, self.labels), train.identity)
            module.log_dict({f"cluster/{name}": value for name, value in quality.items()}, rank_zero_only=True)
        units, diverse = cast(LearnsFromClusters, module).set_pseudo_identities(cast(Labels, self.labels), self._video)
        sampler = cast(Any, trainer.train_dataloader).pairs
        if hasattr(sampler, "set_groups"):
            sampler.set_groups(units, diverse)

    def _learnt(self, turn: int) -> bool:
        """Whether a clustering is one of the learnt embeddings."""
        return self.learnt_from is not None and turn >= self.learnt_from

    def _k(self, turn: int) -> int | None:
        """Number of clusters of a clustering; None = estimated at the first."""
        return None if self.clusters == "silhouette" else self.clusters[min(turn, len(self.clusters) - 1)]

    def _differ(self, turn: int, before: int) -> bool:
        """Whether two clusterings may differ: the embeddings of the encoders stay as they are."""
        return self._learnt(turn) or self._k(turn) != self._k(before)

    def _cluster(self, trainer: Trainer, module: TrialScorer, turn: int) -> Labels:
        """Pseudo-identity of each clip (n,), equal on all ranks."""
        voices, faces = embed_clips(trainer, module, self._learnt(turn))
        labels = None
        if trainer.is_global_zero:
            videos, k = pool_videos(voices, faces, self._video, self.pooling), self._k(turn)
            if k is None and self.labels is not None:  # a learnt space shrinks to few clusters: the estimate stays
                k = len(np.unique(self.labels))
            k = count_by_silhouette(videos) if k is None else k
            found = kmeans(videos, k, seed=self.seed + turn, n_init=STARTS).labels if k < len(videos) else np.arange(k)
            labels = found[self._video]
        return cast(Labels, trainer.strategy.broadcast(labels, src=0))


@torch.no_grad()
def embed_clips(
    trainer: Trainer, module: TrialScorer, learnt: bool = True
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Voices (n, d) and faces (n, d) of the training clips on every rank; each rank embeds a part of the unique items.

    The module is in evaluation mode meanwhile.

    Args:
        trainer: gives the data.
        module: embeds them.
        learnt: by the module; False: the embeddings of the encoders that the data module reads, scaled to unit length.

    Raises:
        DataError: ``learnt`` is False, and the data are wav and jpg.
    """
    data = cast(Any, trainer).datamodule
    train, loaders = data.training_set(), data.training_items()
    training = [part for part in module.modules() if part.training]
    module.eval()
    embeddings = []
    for modality, loader, rows in zip(MODALITIES, loaders, (train.voice_rows, train.face_rows), strict=True):
        bank = EmbeddingBank(len(loader.dataset), module.device)
        for batch in loader:
            x = batch["x"].to(module.device)
            if not learnt and x.ndim != 2:
                raise DataError(
                    "model.learnt_from: there are no embeddings of encoders to cluster, the data are wav and jpg; set "
                    "model.learnt_from to 0"
                )
            with trainer.precision_plugin.forward_context():
                bank.update(module.embed(modality, x) if learnt else x, batch["index"])
        items = bank.compute().cpu().numpy()
        embeddings.append((items if learnt else unit(items))[np.unique(rows, return_inverse=True)[1]])
    for part in training:
        part.training = True
    return embeddings[0], embeddings[1]


def pool_videos(
    voices: NDArray[np.floating], faces: NDArray[np.floating], video: Labels, pooling: Pooling = "both"
) -> NDArray[np.float64]:
    """Dual-modality pooling ([FAA]): mean voice and mean face of each video, concatenated.

    Args:
        voices: (n, d) embeddings of the clips.
        faces: (n, d), row i of the same clip.
        video: (n,) video of each clip, 0..V-1, each at least once.
        pooling: ``both`` as in the paper; ``voice`` or ``face``: one modality only.

    Returns:
        (V, 2 d), or (V, d) of one modality.
    """
    clips = {"voice": voices, "face": faces}.get(pooling)
    clips = np.concatenate([voices, faces], axis=1) if clips is None else clips
    return cluster_means(clips, video)
