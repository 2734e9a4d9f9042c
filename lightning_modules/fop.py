"""FOP: fusion and orthogonal projection ([FOP]), the baseline of the FAME challenges."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, cast, get_args

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.evaluation.learnt import Learnt
from datamodules.schema import DataError, PairBatch
from lightning_modules.base import AssociationModule, NetworkFactory
from lightning_modules.losses.orthogonal import OrthogonalProjectionLoss
from lightning_modules.networks.weights import load_weights, made_here, other_classes, read_state_dict, set_learnt

Fusion = Literal["gated", "linear"]
WEIGHT, OF_FACE, OF_VOICE = (f"fusion_layer.{name}" for name in ("weight", "weight1", "weight2"))
"""Names of the weights of linear fusion: ours, a vector of two, and the two of the baseline's code."""


class _Branch(nn.Module):
    """Linear, BatchNorm, ReLU, Dropout, then unit length; named ``fc1`` as in the official checkpoints."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU(), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.fc1(x), dim=1)


class FOP(AssociationModule):
    """Classifies training identities from fused voice and face embeddings, which are orthogonal between identities.

    Loss ([FOP], fusion and orthogonal projection): cross-entropy + ``alpha`` * OPL, both on the fused embedding. The
    distance of a trial is the L2 distance of what is fused, as in the baseline's code: of tanh(face) and tanh(voice)
    with gated fusion, of face and voice with linear fusion. :meth:`embed_voice` and :meth:`embed_face` return that, so
    that refinements work in the space of the scores. Under DDP, batch normalisation uses the batch of one rank; on
    GPUs, ``trainer.sync_batchnorm`` makes it global.

    ``configs/presets/fop_baseline.yaml`` trains as the baseline's code does. What is left of differences: OPL has no
    1e-6 in its denominators, and the test takes the checkpoint of the last epoch, where the baseline keeps all.

    Args:
        dims: input sizes (voice, face); commands take them from the data.
        num_identities: number of training identities; commands take it from the data.
        network: ``(voice_dim, face_dim) -> module`` below the branches, with methods ``voice`` and ``face`` and their
            output width as ``embedding_dim``: the SCC network in [SCC] Table 3. None = the baseline, whose branches
            take the features of the data.
        embedding_dim: output width of both branches.
        dropout: probability in both branches.
        fusion: ``gated`` (the baseline) or ``linear`` (used by [SCC] Table 3).
        alpha: weight of OPL in the loss.
        baseline_start: start as the baseline's code does: linear layers with Xavier-uniform weights and biases of
            0.01, linear fusion with weights drawn from 0 to 1. False = as PyTorch draws them, and weights of 1/2.
        weights: official checkpoint or state dict to start from; every key must fit. A classifier for another number
            of identities is skipped with a warning; scores do not depend on it. Official weights take embeddings as the
            baseline's files hold them, so the data do not scale them to unit length, where ``data.normalise`` is unset.
        optimizer: by default the baseline's Adam with learning rate 0.01 and weight decay 0.01.
        scheduler: see :class:`AssociationModule`.

    Raises:
        DataError: an option out of range, or weights that do not fit.
    """

    sampling: ClassVar[str] = "shuffle"

    def __init__(
        self,
        dims: tuple[int, int] | None = None,
        num_identities: int | None = None,
        network: NetworkFactory | None = None,
        embedding_dim: int = 128,
        dropout: float = 0.5,
        fusion: Fusion = "gated",
        alpha: float = 1.0,
        baseline_start: bool = False,
        weights: str | None = None,
        optimizer: OptimizerCallable = lambda p: torch.optim.Adam(p, lr=1e-2, weight_decay=0.01),
        scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(dims, optimizer, scheduler)
        if num_identities is None or num_identities < 2:
            raise DataError(f"model.num_identities is {num_identities}; FOP needs at least 2 training identities")
        if fusion not in get_args(Fusion):
            raise DataError(f"model.fusion is {fusion!r}; choose from {', '.join(get_args(Fusion))}")
        encoder: Any = None if network is None else network(*self.dims)
        voice_dim, face_dim = self.dims if encoder is None else 2 * (encoder.embedding_dim,)
        self.network: Any = encoder
        self.voice_branch = _Branch(voice_dim, embedding_dim, dropout)
        self.face_branch = _Branch(face_dim, embedding_dim, dropout)
        self.fusion_layer: GatedFusion | LinearFusion
        self.fusion_layer = GatedFusion(embedding_dim) if fusion == "gated" else LinearFusion(embedding_dim)
        self.logits_layer = nn.Linear(embedding_dim, num_identities)
        self.opl = OrthogonalProjectionLoss()
        self.alpha = alpha
        if baseline_start:
            for part in (self.voice_branch, self.face_branch, self.fusion_layer, self.logits_layer):
                part.apply(_start_as_baseline)
        if weights is not None:
            self._load(weights)

    def embed_voice(self, x: Tensor) -> Tensor:
        return self.fusion_layer.side(self._voice(x))

    def embed_face(self, x: Tensor) -> Tensor:
        return self.fusion_layer.side(self._face(x))

    def loss(self, batch: PairBatch) -> dict[str, Tensor]:
        voice, face = self._voice(cast(Tensor, batch["voice"])), self._face(cast(Tensor, batch["face"]))
        identity = cast(Tensor, batch["identity"])
        fused = self.fusion_layer(face, voice)
        cross_entropy = F.cross_entropy(self.logits_layer(fused), identity)
        opl = self.opl(fused, identity)
        return {"loss": cross_entropy + self.alpha * opl, "cross_entropy": cross_entropy, "opl": opl}

    def _voice(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.voice_branch(x if self.network is None else self.network.voice(x)))

    def _face(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.face_branch(x if self.network is None else self.network.face(x)))

    def _load(self, path: str) -> None:
        self._load_branches(path)
        if not made_here(path):  # of the baseline, which trains on raw embeddings: of unit ones it makes garbage
            set_learnt(self, self.learnt | Learnt(unit_length=False))

    def _load_branches(self, path: str) -> None:
        state = read_state_dict(path)
        left_out = other_classes(path, "logits_layer.weight", self.logits_layer.out_features)
        renamed: dict[str, str | None] = dict.fromkeys(left_out)
        two = isinstance(self.fusion_layer, LinearFusion) and {OF_FACE, OF_VOICE} <= set(state)
        if two:
            renamed |= {OF_FACE: WEIGHT, OF_VOICE: None}

        def convert(key: str, value: Tensor) -> Tensor:
            return torch.cat([value.flatten(), state[OF_VOICE].flatten()]) if two and key == WEIGHT else value

        load_weights(self, path, rename=lambda key: renamed.get(key, key), optional=left_out, convert=convert)

    def distance(self, voices: Tensor, faces: Tensor) -> Tensor:
        """L2 distances (t,) of aligned embeddings, lower = same person."""
        return cast(Tensor, torch.linalg.vector_norm(voices - faces, dim=-1))


class _Block(nn.Module):
    """Linear, BatchNorm, ReLU; nested so that keys have the names of the official checkpoints."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.block(x))


class GatedFusion(nn.Module):
    """``g * tanh(f) + (1 - g) * tanh(v)`` with ``g = sigmoid(Linear(Linear-BN-ReLU([f, v])))``, all (B, d)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(_Block(2 * dim, dim), nn.Linear(dim, dim))

    def forward(self, face: Tensor, voice: Tensor) -> Tensor:
        """Faces (B, d) and voices (B, d) -> fused (B, d)."""
        gate = torch.sigmoid(self.attention(torch.cat([face, voice], dim=1)))
        return gate * self.side(face) + (1 - gate) * self.side(voice)

    def side(self, x: Tensor) -> Tensor:
        """What is fused of one side and compared in a trial: tanh, (B, d) -> (B, d)."""
        return torch.tanh(x)


class LinearFusion(nn.Module):
    """``w1 * f + w2 * v`` with two learned scalars, both 1/2 at the start."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((2,), 0.5))

    def forward(self, face: Tensor, voice: Tensor) -> Tensor:
        """Faces (B, d) and voices (B, d) -> fused (B, d)."""
        return self.weight[0] * face + self.weight[1] * voice

    def side(self, x: Tensor) -> Tensor:
        """What is fused of one side and compared in a trial: the side itself, (B, d)."""
        return x


def _start_as_baseline(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.constant_(module.bias, 0.01)
    elif isinstance(module, LinearFusion):
        nn.init.uniform_(module.weight)
