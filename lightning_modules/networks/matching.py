"""The multimodal encoder of [FAA]: a transformer that says whether a voice and a face are of the same person."""

from __future__ import annotations

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from datamodules.schema import DataError


class MatchingEncoder(nn.Module):
    """CLS, voice and face tokens through a few transformer layers, and a linear head on CLS.

    The paper gives no sizes. A voice or face token is a linear map of the unimodal embedding, scaled to unit variance,
    plus a learned token of the modality. The map is shared, since the two modalities are aligned. Not from the paper:
    the CLS token is a linear map of the product of both embeddings, and the logit is ``slope`` * cosine plus the output
    of the transformer, which starts at 0. A head without this start needs hundreds of steps to reach the cosine.

    Args:
        embedding_dim: d, width of the unimodal embeddings.
        width: of the tokens.
        depth: number of transformer layers.
        heads: number of attention heads.
        dropout: probability in the layers.
        slope: initial factor of the cosine in the logit; the larger, the less the transformer changes.

    Raises:
        DataError: ``width`` is not a multiple of ``heads``.
    """

    def __init__(
        self,
        embedding_dim: int,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        dropout: float = 0.0,
        slope: float = 20.0,
    ) -> None:
        super().__init__()
        if width % heads:
            raise DataError(f"matching.width is {width}; it must be a multiple of matching.heads, {heads}")
        self.scale = embedding_dim**0.5
        self.token, self.product = nn.Linear(embedding_dim, width), nn.Linear(embedding_dim, width)
        self.modality = nn.Parameter(0.02 * torch.randn(3, width))
        self.blocks = nn.Sequential(
            *(Block(width, heads, qkv_bias=True, proj_drop=dropout, attn_drop=dropout) for _ in range(depth))
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 1)
        nn.init.zeros_(self.head.weight)
        self.slope = nn.Parameter(torch.tensor(slope))

    def forward(self, voice: Tensor, face: Tensor) -> Tensor:
        """Aligned unit embeddings (n, d) and (n, d) -> logits (n,), high = same person."""
        cosine = (
            (voice * face).sum(dim=1).detach()
        )  # only the contrastive loss trains it: both losses together collapse
        voice, face = voice * self.scale, face * self.scale
        tokens = torch.stack([self.product(voice * face), self.token(voice), self.token(face)], dim=1) + self.modality
        out: Tensor = self.slope * cosine + self.head(self.norm(self.blocks(tokens)[:, 0])).squeeze(1)
        return out
