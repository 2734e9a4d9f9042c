"""The contrastive loss of SCC between voices and faces ([SCC] 3.1, Eq. 1)."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from datamodules.schema import DataError
from lightning_modules.losses.gather import gather_rows, rank

Direction = Literal["voice_to_face", "face_to_voice", "both", "joint"]
SameIdentity = Literal["negative", "masked", "positive"]

LOGITS_AT_ONCE = 1 << 21  # larger batches are computed in blocks of rows with 8 MB of logits
MIN_TAU = 0.01  # lower limit of a learnt tau, as in [CLIP]


class ContrastiveLoss(nn.Module):
    """Eq. 1 of [SCC]: ``-1/N sum_i log( exp(v_i.f_i / tau) / sum_j exp(v_i.f_j / tau) )``.

    Under DDP, j runs over the batches of all ranks and i over the rank's own batch. The mean over ranks and the
    gradients equal those of one process with the whole batch. (Gradient accumulation does not add negatives.)
    The loss is computed in float32 under any autocast. Memory grows with B, not B^2: logits are made in blocks of rows.

    Args:
        tau: temperature. The paper does not give it; 0.05 is that of [CAV-MAE] and of the authors' later code.
        learnable_tau: train ``tau`` (as its logarithm, at least 0.01). Not from the paper.
        direction: ``voice_to_face`` is Eq. 1. ``face_to_voice`` swaps the roles. ``both`` is the mean of the two, as in
            the authors' later code. ``joint`` (not from the paper) compares true pairs with all wrong pairs of the
            batch, ``-1/N sum_i log( exp(v_i.f_i / tau) / sum_jk exp(v_j.f_k / tau) )`` over j != k, since an EER uses
            one threshold for all trials.
        same_identity: how a pair of two clips of one identity counts: ``negative`` as in Eq. 1; ``masked``: left out of
            the sum; ``positive``: as a further positive (mean of the log term over positives, [SupCon]). The last two
            are not from the paper. All three are equal if each identity occurs once in the batch. ``joint`` supports
            the first two.

    Raises:
        DataError: an option out of range, or a batch with fewer than 2 pairs over all ranks.
        ValueError: inputs that are not two aligned (B, d) batches.
    """

    def __init__(
        self,
        tau: float = 0.05,
        learnable_tau: bool = False,
        direction: Direction = "voice_to_face",
        same_identity: SameIdentity = "negative",
    ) -> None:
        super().__init__()
        if not (math.isfinite(tau) and tau > 0):
            raise DataError(f"tau is {tau}; it must be a positive number such as 0.05")
        if direction not in get_args(Direction):
            raise DataError(f"direction is {direction!r}; choose from {', '.join(get_args(Direction))}")
        if same_identity not in get_args(SameIdentity):
            raise DataError(f"same_identity is {same_identity!r}; choose from {', '.join(get_args(SameIdentity))}")
        if direction == "joint" and same_identity == "positive":
            raise DataError("same_identity positive does not work with direction joint; choose masked or negative")
        self.direction, self.same_identity = direction, same_identity
        log_tau = torch.tensor(math.log(tau))
        self.log_tau = nn.Parameter(log_tau) if learnable_tau else None
        self._fixed_tau = tau

    @property
    def tau(self) -> Tensor | float:
        """The temperature in use."""
        return self._fixed_tau if self.log_tau is None else self.log_tau.clamp(min=math.log(MIN_TAU)).exp()

    def forward(self, voice: Tensor, face: Tensor, identity: Tensor) -> Tensor:
        """Mean loss of the rank's pairs.

        Args:
            voice: (B, d) embeddings, L2-normalised by the network.
            face: (B, d), row i of the same clip or identity as row i of ``voice``.
            identity: (B,) int64 class index.
        """
        if voice.ndim != 2 or voice.shape != face.shape or identity.shape != voice.shape[:1]:
            raise ValueError(
                f"voice {tuple(voice.shape)}, face {tuple(face.shape)} and identity {tuple(identity.shape)} "
                "must be (B, d), (B, d) and (B,)"
            )
        with torch.autocast(voice.device.type, enabled=False):
            voice, face = voice.float(), face.float()
            identities = gather_rows(identity)
            if len(identities) < 2:
                raise DataError("a contrastive batch needs at least 2 pairs; raise data.batch_size")
            if self.direction == "joint":
                return self._jointly(voice, gather_rows(face), identity, identities)
            terms = []
            if self.direction != "face_to_voice":
                terms.append(self._one_way(voice, gather_rows(face), identity, identities))
            if self.direction != "voice_to_face":
                terms.append(self._one_way(face, gather_rows(voice), identity, identities))
            return torch.stack(terms).mean()

    def _one_way(self, anchors: Tensor, others: Tensor, identity: Tensor, identities: Tensor) -> Tensor:
        """Mean loss of the rank's anchors (B, d) against the other modality (N, d) of all ranks."""
        tau = torch.as_tensor(self.tau, device=anchors.device)
        loss: Tensor = _BlockwiseLoss.apply(anchors, others, tau, identity, identities, self.same_identity)
        return loss

    def _jointly(self, voices: Tensor, faces: Tensor, identity: Tensor, identities: Tensor) -> Tensor:
        """Loss of the rank's true pairs, voices (B, d) and faces (N, d), against the wrong pairs of all ranks."""
        rows = torch.arange(len(voices), device=voices.device)
        partner, totals = rows + rank() * len(voices), []
        for block in rows.split(max(1, LOGITS_AT_ONCE // len(faces))):
            if self.same_identity == "masked":
                left_out = identity[block, None] == identities
            else:
                left_out = partner[block, None] == torch.arange(len(faces), device=faces.device)
            totals.append(recompute(_sum_of_block, voices[block], faces, self.tau, left_out, use_reentrant=False))
        total = gather_rows(torch.stack(totals).logsumexp(dim=0, keepdim=True)).logsumexp(dim=0)
        positive = (voices * faces[partner]).sum(dim=1).mean() / self.tau
        return total - positive


def _sum_of_block(voices: Tensor, faces: Tensor, tau: Tensor | float, left_out: Tensor) -> Tensor:
    """Log of the sum of exponentials of a block of logits (b, N), without those in ``left_out``."""
    return (voices @ faces.T / tau).masked_fill(left_out, -torch.inf).flatten().logsumexp(dim=0)


class _BlockwiseLoss(torch.autograd.Function):
    """Mean of log-sum-exp minus positive, in blocks of rows.

    The gradient by a row of logits is P - T, with P the softmax and T the weights of the positives (one-hot except for
    ``same_identity: positive``). It is computed in the forward pass together with the loss, so that all B x N logits
    never exist at once and nothing is computed twice.
    """

    @staticmethod
    def forward(
        ctx: Any,
        anchors: Tensor,
        others: Tensor,
        tau: Tensor,
        identity: Tensor,
        identities: Tensor,
        same_identity: SameIdentity,
    ) -> Tensor:
        rows = torch.arange(len(anchors), device=anchors.device)
        partner = rows + rank() * len(anchors)  # the rank's rows among those of all ranks
        loss, by_others = anchors.new_zeros(()), torch.zeros_like(others)
        by_anchors = torch.empty_like(anchors)
        for block in rows.split(max(1, LOGITS_AT_ONCE // len(others))):
            matching_column = partner[block, None]
            logits = (anchors[block] @ others.T).div_(tau)
            same = identity[block, None] == identities if same_identity != "negative" else None
            if same_identity == "positive" and same is not None:
                share = same / same.sum(dim=1, keepdim=True)
                positive = (share * logits).sum(dim=1)
            else:
                positive = logits.gather(1, matching_column).squeeze(1)
                if same is not None:
                    logits.masked_fill_(same.scatter_(1, matching_column, False), -torch.inf)
            total = logits.logsumexp(dim=1)
            loss += (total - positive).sum()
            by_logits = logits.sub_(total[:, None]).exp_()
            if same_identity == "positive":
                by_logits.sub_(share)
            else:
                by_logits.scatter_add_(1, matching_column, torch.full_like(matching_column, -1, dtype=by_logits.dtype))
            by_anchors[block] = by_logits @ others
            by_others.addmm_(by_logits.T, anchors[block])
        scale = 1 / (tau * len(anchors))
        by_anchors, by_others = by_anchors.mul_(scale), by_others.mul_(scale)
        ctx.save_for_backward(by_anchors, by_others, -(by_anchors * anchors).sum() / tau)
        return loss / len(anchors)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        by_anchors, by_others, by_tau = ctx.saved_tensors
        return gradient * by_anchors, gradient * by_others, gradient * by_tau, None, None, None
