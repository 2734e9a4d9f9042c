"""Self-Lifting's heads on frozen encoders, which [FAA] takes over."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class SharedHeads(nn.Module):
    """``Dropout, Linear, ReLU`` of each modality, then one ``Linear, ReLU, Linear`` for both; unit length.

    Args:
        voice_dim: width of voice features.
        face_dim: width of face features.
        embedding_dim: width of the shared space.
        hidden: width of the hidden layers.
        dropout: on the features.
    """

    def __init__(
        self, voice_dim: int, face_dim: int, embedding_dim: int = 128, hidden: int = 256, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        self.voice_branch = nn.Sequential(nn.Dropout(dropout), nn.Linear(voice_dim, hidden), nn.ReLU())
        self.face_branch = nn.Sequential(nn.Dropout(dropout), nn.Linear(face_dim, hidden), nn.ReLU())
        self.shared = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, embedding_dim))

    def voice(self, x: Tensor) -> Tensor:
        """Voice features (B, voice_dim) -> unit embeddings (B, embedding_dim) float32."""
        return F.normalize(self.shared(self.voice_branch(x)).float(), dim=-1)

    def face(self, x: Tensor) -> Tensor:
        """Face features (B, face_dim) -> unit embeddings (B, embedding_dim) float32."""
        return F.normalize(self.shared(self.face_branch(x)).float(), dim=-1)
