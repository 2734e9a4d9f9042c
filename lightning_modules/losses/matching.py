"""The face-voice matching loss ([FAA]); negatives are drawn by similarity as in [ALBEF]."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.losses.gather import gather_rows, rank


class MatchingLoss(nn.Module):
    """Binary cross-entropy of a matching head on three pairs per row: one positive, one wrong face, one wrong voice.

    The positive is the row's own pair; candidates for the wrong ones are the rows of all ranks. A row without another
    pseudo-identity in the batch has no negatives.

    Args:
        hard_negatives: wrong faces and voices are drawn by their similarity to the anchor ([FAA], effective pair
            selection); False: uniformly.
    """

    def __init__(self, hard_negatives: bool = True) -> None:
        super().__init__()
        self.hard_negatives = hard_negatives

    def forward(
        self,
        head: Callable[[Tensor, Tensor], Tensor],
        voice: Tensor,
        face: Tensor,
        label: Tensor,
        uniform: Tensor,
    ) -> Tensor:
        """Mean loss of the rank's rows.

        Args:
            head: aligned voices (n, d) and faces (n, d) -> logits (n,), high = same person.
            voice: (B, d) unit embeddings.
            face: (B, d), row i of the same pseudo-identity as row i of ``voice``.
            label: (B,) pseudo-identity.
            uniform: (2, N) uniform random numbers in [0, 1), float64, for the rows of all ranks.
        """
        voices, faces, labels = (gather_rows(x) for x in (voice, face, label))
        rank_rows = torch.arange(len(voice), device=voice.device) + rank() * len(voice)
        for_face, for_voice = uniform.to(voice.device)[:, rank_rows]
        with torch.no_grad():
            to_faces, to_voices = (
                F.normalize(a.float(), dim=1) @ F.normalize(b.float(), dim=1).T
                for a, b in ((voice, faces), (face, voices))
            )
        wrong_face = draw(negatives(to_faces, label, labels, self.hard_negatives), for_face)
        wrong_voice = draw(negatives(to_voices, label, labels, self.hard_negatives), for_voice)
        logits = head(torch.cat([voice, voice, voices[wrong_voice]]), torch.cat([face, faces[wrong_face], face]))
        same = torch.cat([torch.ones_like(rank_rows), torch.zeros_like(rank_rows), torch.zeros_like(rank_rows)])
        has_negative = (label[:, None] != labels).any(dim=1)
        losses = F.binary_cross_entropy_with_logits(logits.float(), same.float(), reduction="none")
        return (losses * torch.cat([torch.ones_like(has_negative), has_negative, has_negative])).mean()


def negatives(similarity: Tensor, label: Tensor, labels: Tensor, hard: bool) -> Tensor:
    """Weights (B, N) of candidate negatives, clips of other pseudo-identities: 1 + cosine, or uniform.

    Sharper weights do harm early in training: a softmax with a low temperature draws negatives that are closer than the
    positives, and the head learns that similar embeddings do not match.

    Args:
        similarity: (B, N) cosines of anchors and candidates.
        label: (B,) pseudo-identities of the anchors.
        labels: (N,) pseudo-identities of the candidates.
        hard: whether more similar candidates are more likely.
    """
    other = (label[:, None] != labels).double()
    return other * (1 + similarity.double()).clamp(min=0) if hard else other


def draw(chances: Tensor, uniform: Tensor) -> Tensor:
    """Draws one column per row of weights (B, N), by a uniform random number (B,) in [0, 1) each; float64.

    A row of zeros gives column 0. The numbers are passed in so that the draw of a row does not depend on the rank.
    """
    total = chances.cumsum(dim=1)
    return torch.searchsorted(total, (1 - uniform[:, None]) * total[:, -1:]).squeeze(1)
