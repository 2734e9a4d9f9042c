"""The multi-similarity loss ([MultiSimilarity] Eq. 12) of voices and faces, as [FAA] and [Self-Lifting] use it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.schema import DataError
from lightning_modules.losses.gather import gather_rows, rank


class MultiSimilarityLoss(nn.Module):
    """Pulls anchors towards the other modality of their label, and pushes the rest away, hard pairs most.

    ``mean_i( log(1 + sum_P exp(-alpha (s_ij - base))) / alpha + log(1 + sum_N exp(beta (s_ij - base))) / beta )`` with
    s the cosine of anchor i and candidate j, P the candidates with the anchor's label and N the others. Under DDP, j
    runs over the batches of all ranks, as in :class:`ContrastiveLoss`.

    Args:
        alpha: sharpness over positives. The defaults 2, 50 and 1 are those of [Self-Lifting], which [FAA] extends.
        beta: sharpness over negatives.
        base: cosine that positives should exceed and negatives should not reach.
        joint: voices and faces of the batch are one set of anchors and candidates, so that voice-voice and face-face
            pairs count too ([Self-Lifting]); False: candidates are of the other modality, and the loss is the mean of
            both directions.

    Raises:
        DataError: alpha or beta is not positive.
    """

    def __init__(self, alpha: float = 2.0, beta: float = 50.0, base: float = 1.0, joint: bool = False) -> None:
        super().__init__()
        if not (alpha > 0 and beta > 0):
            raise DataError(f"alpha is {alpha} and beta is {beta}; both must be positive")
        self.alpha, self.beta, self.base, self.joint = alpha, beta, base, joint

    def forward(self, voice: Tensor, face: Tensor, label: Tensor) -> Tensor:
        """Mean loss of the rank's anchors.

        Args:
            voice: (B, d) embeddings of any length.
            face: (B, d), row i of the same clip as row i of ``voice``.
            label: (B,) int64.
        """
        with torch.autocast(voice.device.type, enabled=False):
            voice, face = F.normalize(voice.float(), dim=1), F.normalize(face.float(), dim=1)
            if self.joint:
                anchors, labels = torch.cat([voice, face]), torch.cat([label, label])
                candidates, same = gather_rows(anchors), labels[:, None] == gather_rows(labels)
                rows = torch.arange(len(anchors), device=voice.device)
                itself = torch.zeros_like(same).index_put((rows, rows + rank() * len(anchors)), same.new_ones(()))
                return self._one_way(anchors @ candidates.T, same & ~itself, ~same)
            same = label[:, None] == gather_rows(label)
            return (
                self._one_way(voice @ gather_rows(face).T, same, ~same)
                + self._one_way(face @ gather_rows(voice).T, same, ~same)
            ) / 2

    def _one_way(self, similarity: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Mean over rows of similarities (B, N); the masks mark the anchors' positives and negatives."""
        pull = _log1p_sum_exp(-self.alpha * (similarity - self.base), positive) / self.alpha
        push = _log1p_sum_exp(self.beta * (similarity - self.base), negative) / self.beta
        return (pull + push).mean()


def _log1p_sum_exp(x: Tensor, mask: Tensor) -> Tensor:
    """log(1 + sum of exp(x) where ``mask``) of each row (B, N) -> (B,); 0 where the mask is empty."""
    return F.pad(x.masked_fill(~mask, -torch.inf), (1, 0)).logsumexp(dim=1)  # the padded 0 gives exp(0) = 1
