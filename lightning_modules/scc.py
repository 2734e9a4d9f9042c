"""SCC: two branches trained by a contrastive loss between voices and faces ([SCC] 3.1)."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, cast

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from datamodules.schema import MODALITIES, DataError, PairBatch
from lightning_modules.base import AssociationModule, NetworkFactory
from lightning_modules.losses.contrastive import ContrastiveLoss, Direction, SameIdentity
from lightning_modules.networks.heads import HeadPair
from lightning_modules.networks.weights import load_weights
from lightning_modules.training.chunks import embed_in_chunks, refuse_batch_norm
from lightning_modules.training.closed_form import start_fit_from_cca


class SCC(AssociationModule):
    """Contrastive face-voice association. The network is CAV-MAE as in the paper, or heads on frozen encoders.

    Args:
        dims: input sizes (voice, face); commands take them from the data.
        network: ``(voice_dim, face_dim) -> module`` with methods ``voice`` and ``face`` that return unit-length
            embeddings; in YAML a class with ``class_path`` and ``init_args``.
        tau: temperature of the loss, see :class:`ContrastiveLoss` for this and the next three.
        learnable_tau: whether tau is trained.
        direction: which modality gives the anchors of the loss.
        same_identity: how the loss treats another clip of the anchor's identity.
        weights: file to start from; every key must fit. For a network with a method ``load`` (CAVMAE): a CAV-MAE file
            or a checkpoint of this project, without its tau. Otherwise: a checkpoint, state dict or safetensors file of
            the whole model.
        cca_start: linear heads start from regularised CCA of the training clips with this shrinkage; None = random. Not
            from the paper.
        chunk_size: number of voices or faces of a training batch that are embedded at once, so that batches can be
            larger than memory (:func:`embed_in_chunks`); None = all.
        optimizer: see :class:`AssociationModule`.
        scheduler: see :class:`AssociationModule`.

    Raises:
        DataError: an option out of range, or weights that do not fit.
    """

    sampling: ClassVar[str] = "identity"

    def __init__(
        self,
        dims: tuple[int, int] | None = None,
        network: NetworkFactory = HeadPair,
        tau: float = 0.05,
        learnable_tau: bool = False,
        direction: Direction = "voice_to_face",
        same_identity: SameIdentity = "negative",
        weights: str | None = None,
        cca_start: float | None = None,
        chunk_size: int | None = None,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(dims, optimizer, scheduler)
        self.network: Any = network(*self.dims)
        self.contrastive = ContrastiveLoss(tau, learnable_tau, direction, same_identity)
        if weights is not None:
            load = getattr(self.network, "load", partial(load_weights, self))
            load(weights)
        if cca_start is not None and weights is not None:
            raise DataError("model.cca_start and model.weights are both set; the heads can start from only one of them")
        self.cca_start = cca_start
        if chunk_size is not None:
            if chunk_size < 1:
                raise DataError(f"model.chunk_size is {chunk_size}; it must be 1 or more, or null")
            refuse_batch_norm(self.network)
        self.chunk_size = chunk_size

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self.cca_start is not None:
            start_fit_from_cca(self, self.network, self.cca_start)

    def embed_voice(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.network.voice(x))

    def embed_face(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.network.face(x))

    def loss(self, batch: PairBatch) -> dict[str, Tensor]:
        voices, faces, identity = (cast(Tensor, batch[name]) for name in ("voice", "face", "identity"))
        size = self.chunk_size or len(identity)
        voice, face = (
            embed_in_chunks(partial(self.embed, modality), x, size)
            for modality, x in zip(MODALITIES, (voices, faces), strict=True)
        )
        terms = {"loss": self.contrastive(voice, face, identity)}
        if self.contrastive.log_tau is not None:
            terms["tau"] = cast(Tensor, self.contrastive.tau)
        return terms
