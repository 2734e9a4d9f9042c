"""FAA's multimodal encoder: a transformer over a voice and a face that says whether they are of one person ([FAA])."""

from __future__ import annotations

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from datamodules.schema import DataError


class MatchingEncoder(nn.Module):
    """CLS, voice and face tokens through a few transformer layers; a linear head on CLS.

    Sizes are OPEN in the paper. A token is a linear map of the unimodal embedding scaled to unit variance, the same for
    both modalities, which are aligned already, plus a learned one for its modality. Not from the paper: CLS starts from
    the product of the two embeddings, and the logit from their cosine, to which the transformer adds what it learns,
    nothing at first. Started empty, a head needs hundreds of steps to become as good as the cosine, and on few videos
    does not become better.

    Args:
        embedding_dim: d, width of the unimodal embeddings.
        width: of the tokens.
        depth: transformer layers.
        heads: of their attention.
        dropout: in the layers.
        slope: of the logit over the cosine, at first: the steeper, the less the transformer changes.

    Raises:
        DataError: a width that its heads do not divide.
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
            raise DataError(f"matching.width: {width} is not a multiple of heads = {heads}")
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
        """Aligned unit embeddings (n, d) and (n, d) -> logits (n,) of being one person, high = same."""
        cosine = (voice * face).sum(dim=1).detach()  # the contrastive loss teaches it; both at once collapse
        voice, face = voice * self.scale, face * self.scale
        tokens = torch.stack([self.product(voice * face), self.token(voice), self.token(face)], dim=1) + self.modality
        out: Tensor = self.slope * cosine + self.head(self.norm(self.blocks(tokens)[:, 0])).squeeze(1)
        return out
