"""The multimodal encoder of [FAA]: a transformer that says whether a voice and a face are of the same person."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from datamodules.schema import DataError

MOMENTUM, LEAST_SPREAD = 0.1, 0.01


class MatchingEncoder(nn.Module):
    """CLS, voice and face tokens through a few transformer layers, and a linear head on CLS.

    The paper gives no sizes. A voice or face token is a linear map of the unimodal embedding, scaled to unit variance,
    plus a learned token of the modality. The map is shared, since the two modalities are aligned. Not from the paper:
    the CLS token is a linear map of the product of both embeddings, and the logit is ``slope * (cosine - centre) /
    spread`` plus the output of the transformer, which starts at 0. So the head starts from the order of the cosine,
    and does not spend its steps on the offset: aligned embeddings have cosines near .9 before training, and near 0
    after. Centre and spread follow the batches by :meth:`centre_on`.

    Args:
        embedding_dim: d, width of the unimodal embeddings.
        width: of the tokens.
        depth: number of transformer layers.
        heads: number of attention heads.
        dropout: probability in the layers.
        slope: initial factor of the centred cosine in the logit; the larger, the less the transformer changes.

    Attributes:
        ADDED: tensors that checkpoints of earlier versions lack; their logit was ``slope * cosine``.

    Raises:
        DataError: ``width`` is not a multiple of ``heads``.
    """

    ADDED: ClassVar[tuple[str, ...]] = ("centre", "spread")
    centre: Tensor
    spread: Tensor

    def __init__(
        self,
        embedding_dim: int,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        dropout: float = 0.0,
        slope: float = 2.0,
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
        self.register_buffer("centre", torch.tensor(0.0))
        self.register_buffer("spread", torch.tensor(1.0))

    def forward(self, voice: Tensor, face: Tensor) -> Tensor:
        """Aligned unit embeddings (n, d) and (n, d) -> logits (n,), high = same person."""
        cosine = (voice * face).sum(dim=1)
        voice, face = voice * self.scale, face * self.scale
        tokens = torch.stack([self.product(voice * face), self.token(voice), self.token(face)], dim=1) + self.modality
        fused: Tensor = self.head(self.norm(self.blocks(tokens)[:, 0])).squeeze(1)
        return self.slope * (cosine - self.centre) / self.spread + fused

    @torch.no_grad()
    def centre_on(self, similarity: Tensor) -> None:
        """Follows the cosines (N, N) of a batch's voices and faces, true pairs on the diagonal, at a tenth a step.

        The centre is halfway between the means of true and of other pairs, the spread the standard deviation of others.
        """
        others = similarity[~torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)].float()
        if len(others) < 2:
            return
        middle = (similarity.diagonal().float().mean() + others.mean()) / 2
        self.centre.lerp_(middle, MOMENTUM)
        self.spread.lerp_(others.std().clamp(min=LEAST_SPREAD), MOMENTUM)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        if f"{prefix}slope" in state_dict:  # a file of an earlier version: its logit was slope * cosine
            state_dict.setdefault(f"{prefix}centre", torch.tensor(0.0))
            state_dict.setdefault(f"{prefix}spread", torch.tensor(1.0))
        super()._load_from_state_dict(state_dict, prefix, *args)
