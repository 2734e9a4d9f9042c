"""The face-voice matching loss: is this the voice of this face? ([FAA]; the sampling follows ALBEF, Li et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.losses.gather import gather_rows, rank


class MatchingLoss(nn.Module):
    """Binary cross-entropy of a matching head on three pairs per clip: one positive, one wrong face, one wrong voice.

    Candidates are the batches of all ranks. A clip whose batch holds no other pseudo-identity has no negatives.

    Args:
        diverse_positives: the positive face is of another video of the same pseudo-identity, where the batch has one;
            False: of the same clip.
        hard_negatives: draw wrong partners by their similarity to the anchor; False: all alike.
    """

    def __init__(self, diverse_positives: bool = True, hard_negatives: bool = True) -> None:
        super().__init__()
        self.diverse_positives, self.hard_negatives = diverse_positives, hard_negatives

    def forward(
        self,
        head: Callable[[Tensor, Tensor], Tensor],
        voice: Tensor,
        face: Tensor,
        label: Tensor,
        video: Tensor,
        uniform: Tensor,
    ) -> Tensor:
        """Mean loss of the rank's clips.

        Args:
            head: aligned voices (n, d) and faces (n, d) -> logits (n,), high = same person.
            voice: (B, d) unit embeddings.
            face: (B, d), row i of the same clip as row i of ``voice``.
            label: (B,) pseudo-identity.
            video: (B,) source video.
            uniform: (3, N) numbers in [0, 1), float64, for the clips of all ranks: what the draws are made from.
        """
        voices, faces, labels, videos = (gather_rows(x) for x in (voice, face, label, video))
        own = torch.arange(len(voice), device=voice.device) + rank() * len(voice)
        for_positive, for_face, for_voice = uniform.to(voice.device)[:, own]
        positive = own
        if self.diverse_positives:
            positive = draw(diverse_positives(label, video, labels, videos, own), for_positive)
        with torch.no_grad():
            to_faces, to_voices = (a.float() @ b.float().T for a, b in ((voice, faces), (face, voices)))
        wrong_face = draw(negatives(to_faces, label, labels, self.hard_negatives), for_face)
        wrong_voice = draw(negatives(to_voices, label, labels, self.hard_negatives), for_voice)
        logits = head(
            torch.cat([voice, voice, voices[wrong_voice]]), torch.cat([faces[positive], faces[wrong_face], face])
        )
        same = torch.cat([torch.ones_like(own), torch.zeros_like(own), torch.zeros_like(own)])
        found = (label[:, None] != labels).any(dim=1)
        losses = F.binary_cross_entropy_with_logits(logits.float(), same.float(), reduction="none")
        return (losses * torch.cat([torch.ones_like(found), found, found])).mean()


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
