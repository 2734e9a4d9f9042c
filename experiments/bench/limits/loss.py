"""The contrastive loss and its gradient: in blocks of rows, against the whole matrix of logits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from experiments.bench.limits.setting import Case, Measured, Setting, peak_gb, relative_error, reset_peak, seconds_of
from lightning_modules.losses import contrastive

TAU, CHECKED = 0.05, 2048
LARGER = (16, 256)  # times the usual blocks: a GPU may want them larger than a CPU


def cases(setting: Setting) -> dict[str, Case]:
    """Both ways at every size, and larger blocks at the largest one."""
    made: dict[str, Case] = {}
    for size in setting.pairs:
        made[f"blockwise, {size} pairs"] = partial(_measure, setting, size, contrastive.LOGITS_AT_ONCE)
        made[f"whole matrix, {size} pairs"] = partial(_measure, setting, size, None)
    for times in LARGER:
        name = f"blockwise, blocks {times} times as large, {setting.pairs[-1]} pairs"
        made[name] = partial(_measure, setting, setting.pairs[-1], times * contrastive.LOGITS_AT_ONCE)
    return made


def _measure(setting: Setting, size: int, at_once: int | None) -> Measured:
    torch.manual_seed(0)
    voice, face = (F.normalize(torch.randn(size, setting.width, device=setting.device), dim=1) for _ in range(2))
    usual = contrastive.LOGITS_AT_ONCE
    contrastive.LOGITS_AT_ONCE = at_once or usual
    try:
        loss = _whole if at_once is None else contrastive.ContrastiveLoss(TAU)
        reset_peak(setting.device)
        seconds = seconds_of(lambda: _gradients(loss, voice, face), setting)
        peak = peak_gb(setting.device)
        few = voice[:CHECKED], face[:CHECKED]
        error = relative_error(_gradients(loss, *few), _gradients(_whole, *(x.double() for x in few)))
    finally:
        contrastive.LOGITS_AT_ONCE = usual
    # one product forwards and two backwards; embeddings read, gradients written
    work = {"fp32": 6.0 * size**2 * setting.width, "copy": 16.0 * size * setting.width}
    return Measured(seconds, size, "pairs", work, peak_gb=peak, error=error)


def _gradients(loss: Callable[[Tensor, Tensor, Tensor], Tensor], voice: Tensor, face: Tensor) -> list[Tensor]:
    inputs = [x.detach().requires_grad_() for x in (voice, face)]
    loss(inputs[0], inputs[1], torch.arange(len(voice), device=voice.device)).backward()
    return [x.grad for x in inputs if x.grad is not None]


def _whole(voice: Tensor, face: Tensor, rows: Tensor) -> Tensor:
    return F.cross_entropy(voice @ face.T / TAU, rows)
