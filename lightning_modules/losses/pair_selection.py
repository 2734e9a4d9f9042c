"""Which pairs the matching head learns from ([FAA] effective pair selection; the formulas are not from the paper)."""

from __future__ import annotations

import torch
from torch import Tensor


def diverse_positives(label: Tensor, video: Tensor, labels: Tensor, videos: Tensor, own: Tensor) -> Tensor:
    """Chances (B, N) of the clips that may stand for an anchor: its pseudo-identity in another video, else itself.

    Args:
        label: (B,) pseudo-identity of the anchors.
        video: (B,) their video.
        labels: (N,) of all candidates.
        videos: (N,) likewise.
        own: (B,) where the anchors are among the candidates.
    """
    chances = (label[:, None] == labels) & (video[:, None] != videos)
    alone = ~chances.any(dim=1)
    chances[alone, own[alone]] = True
    return chances.double()


def negatives(similarity: Tensor, label: Tensor, labels: Tensor, hard: bool) -> Tensor:
    """Chances (B, N) of the clips of other pseudo-identities: in proportion to 1 + cosine, or all alike.

    Not harder than that: a softmax with temperature .1 draws negatives that are closer than the positives while the
    encoders are bad, and the head learns that what is alike does not belong together.

    Args:
        similarity: (B, N) cosines of anchors and candidates.
        label: (B,) pseudo-identity of the anchors.
        labels: (N,) of the candidates.
        hard: the more similar, the likelier.
    """
    other = (label[:, None] != labels).double()
    return other * (1 + similarity.double()).clamp(min=0) if hard else other


def draw(chances: Tensor, uniform: Tensor) -> Tensor:
    """One column of each row (B, N), with the given chances, by its uniform number (B,) in [0, 1); float64.

    A row without any chance gives column 0. Numbers that come from outside make the draw of a row the same on any rank.
    """
    total = chances.cumsum(dim=1)
    return torch.searchsorted(total, (1 - uniform[:, None]) * total[:, -1:]).squeeze(1)
