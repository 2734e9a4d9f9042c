"""Small networks on the features of frozen encoders, which return unit-length embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.schema import DataError

Norm = Literal["none", "batch", "layer"]
_NORMS: dict[Norm, type[nn.Module]] = {"none": nn.Identity, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


class HeadPair(nn.Module):
    """One branch per modality: ``[Dropout, Linear, norm, ReLU] * len(hidden), Dropout, Linear``, then unit length.

    Without hidden layers, a branch is linear. Dropout also acts on the input features; with a few dozen training
    identities, it is the main protection against overfitting. Not from the papers.

    Args:
        voice_dim: width of voice features.
        face_dim: width of face features.
        embedding_dim: width of the shared space.
        hidden: widths of the hidden layers of each branch.
        dropout: probability before every Linear.
        norm: normalisation after every hidden Linear.

    Raises:
        DataError: an unknown norm.
    """

    def __init__(
        self,
        voice_dim: int,
        face_dim: int,
        embedding_dim: int = 128,
        hidden: Sequence[int] = (),
        dropout: float = 0.0,
        norm: Norm = "none",
    ) -> None:
        super().__init__()
        if norm not in get_args(Norm):
            raise DataError(f"norm is {norm!r}; choose from {', '.join(get_args(Norm))}")
        self.embedding_dim, self.linear = embedding_dim, not hidden
        self.voice_branch = _branch(voice_dim, hidden, embedding_dim, dropout, norm)
        self.face_branch = _branch(face_dim, hidden, embedding_dim, dropout, norm)

    def voice(self, x: Tensor) -> Tensor:
        """Voice features (B, voice_dim) -> unit embeddings (B, embedding_dim) float32."""
        return F.normalize(self.voice_branch(x).float(), dim=-1)

    def face(self, x: Tensor) -> Tensor:
        """Face features (B, face_dim) -> unit embeddings (B, embedding_dim) float32."""
        return F.normalize(self.face_branch(x).float(), dim=-1)

    def forward(self, voice: Tensor, face: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of voices (B, voice_dim) and faces (B, face_dim)."""
        return self.voice(voice), self.face(face)


def _branch(inputs: int, hidden: Sequence[int], outputs: int, dropout: float, norm: Norm) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Dropout(dropout), nn.Linear(inputs, width), _NORMS[norm](width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Dropout(dropout), nn.Linear(inputs, outputs))


class SharedHeads(nn.Module):
    """``Dropout, Linear, ReLU`` for each modality, then ``Linear, ReLU, Linear`` shared by both ([Self-Lifting]).

    Args:
        voice_dim: width of voice features.
        face_dim: width of face features.
        embedding_dim: width of the shared space.
        hidden: width of the hidden layers.
        dropout: probability on the features.
        normalise: scale embeddings to unit length. [Self-Lifting] clusters them as they are; its loss and its scores
            compare directions only.
    """

    def __init__(
        self,
        voice_dim: int,
        face_dim: int,
        embedding_dim: int = 128,
        hidden: int = 256,
        dropout: float = 0.5,
        normalise: bool = True,
    ) -> None:
        super().__init__()
        self.embedding_dim, self.normalise = embedding_dim, normalise
        self.voice_branch = nn.Sequential(nn.Dropout(dropout), nn.Linear(voice_dim, hidden), nn.ReLU())
        self.face_branch = nn.Sequential(nn.Dropout(dropout), nn.Linear(face_dim, hidden), nn.ReLU())
        self.shared = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, embedding_dim))

    def voice(self, x: Tensor) -> Tensor:
        """Voice features (B, voice_dim) -> embeddings (B, embedding_dim) float32."""
        return self._embed(self.voice_branch(x))

    def face(self, x: Tensor) -> Tensor:
        """Face features (B, face_dim) -> embeddings (B, embedding_dim) float32."""
        return self._embed(self.face_branch(x))

    def _embed(self, hidden: Tensor) -> Tensor:
        embeddings: Tensor = self.shared(hidden).float()
        return F.normalize(embeddings, dim=-1) if self.normalise else embeddings
