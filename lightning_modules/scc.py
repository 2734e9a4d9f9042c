"""SCC: two branches, one contrastive loss between voices and faces ([SCC] 3.1)."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from datamodules.schema import PairBatch
from lightning_modules.base import AssociationModule, NetworkFactory
from lightning_modules.losses.contrastive import ContrastiveLoss, Direction, SameIdentity
from lightning_modules.networks.heads import HeadPair
from lightning_modules.networks.weights import load_weights


class SCC(AssociationModule):
    """Contrastive face-voice association. The network is CAV-MAE in the paper, or heads on frozen encoders.

    Args:
        dims: input sizes (voice, face); linked from the data.
        network: ``(voice_dim, face_dim) -> module`` with methods ``voice`` and ``face`` that return unit-length
            embeddings; in YAML a class by ``class_path`` and ``init_args``.
        tau: temperature, see :class:`ContrastiveLoss`.
        learnable_tau: train it.
        direction: of the loss.
        same_identity: what another clip of the same person is.
        weights: whole-model weights to start from (checkpoint, state dict or safetensors); every key must fit.
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
        optimizer: OptimizerCallable = torch.optim.AdamW,
        scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(dims, optimizer, scheduler)
        self.network: Any = network(*self.dims)
        self.contrastive = ContrastiveLoss(tau, learnable_tau, direction, same_identity)
        if weights is not None:
            load_weights(self, weights)

    def embed_voice(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.network.voice(x))

    def embed_face(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.network.face(x))

    def loss(self, batch: PairBatch) -> dict[str, Tensor]:
        voice, face = self.embed_voice(cast(Tensor, batch["voice"])), self.embed_face(cast(Tensor, batch["face"]))
        terms = {"loss": self.contrastive(voice, face, cast(Tensor, batch["identity"]))}
        if self.contrastive.log_tau is not None:
            terms["tau"] = cast(Tensor, self.contrastive.tau)
        return terms
