"""The exact EER of many trials: ours on the CPU, and by sorting them on the device."""

from __future__ import annotations

from functools import lru_cache, partial

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.bench.limits.setting import Case, Measured, Setting, peak_gb, reset_peak, seconds_of
from postproc.metrics.roc import eer


def cases(setting: Setting) -> dict[str, Case]:
    """Ours, and sorting."""
    what = f"{setting.trials:.0e} trials"
    return {
        f"ours on the CPU, {what}": partial(_ours, setting),
        f"sorted on the device, {what}": partial(_sorting, setting),
    }


@lru_cache(maxsize=1)
def _trials(count: int) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (count,), generator=generator, dtype=torch.int8)
    distances = torch.randn(count, generator=generator).sub_(labels)
    distances[: count // 10] = (distances[: count // 10] * 1e4).round() / 1e4  # ties
    return distances.numpy(), labels.numpy()


def _ours(setting: Setting) -> Measured:
    distances, labels = _trials(setting.trials)
    seconds = seconds_of(lambda: eer(distances, labels, direction="distance"), setting)
    rate = eer(distances, labels, direction="distance").eer
    work = {"host copy": float(distances.nbytes + labels.nbytes)}
    error = abs(rate - sorted_eer(*(torch.from_numpy(x).to(setting.device) for x in (distances, labels)))) / rate
    return Measured(seconds, setting.trials, "trials", work, error=error)


def _sorting(setting: Setting) -> Measured:
    distances, labels = (torch.from_numpy(x).to(setting.device) for x in _trials(setting.trials))
    reset_peak(setting.device)
    seconds = seconds_of(lambda: sorted_eer(distances, labels), setting)
    rate = eer(*_trials(setting.trials), direction="distance").eer
    work = {"copy": float(5 * setting.trials)}
    error = abs(rate - sorted_eer(distances, labels)) / rate
    return Measured(seconds, setting.trials, "trials", work, peak_gb=peak_gb(setting.device), error=error)


def sorted_eer(distances: torch.Tensor, labels: torch.Tensor) -> float:
    """The EER from all points of the ROC; tied distances share one point."""
    values, order = distances.sort()
    positive = labels[order].to(torch.int64).cumsum(0)
    last = torch.cat([values[1:] != values[:-1], torch.ones(1, dtype=torch.bool, device=values.device)])
    upto = torch.arange(1, len(values) + 1, device=values.device)[last]
    accepted = positive[last]
    fpr = (upto - accepted).double() / (len(values) - positive[-1])
    excess = fpr + accepted.double() / positive[-1] - 1
    after = int((excess >= 0).to(torch.int8).argmax())
    high, low = (float(fpr[after]), float(fpr[after - 1])) if after else (float(fpr[0]), 0.0)
    above, below = float(excess[after]), float(excess[after - 1]) if after else -1.0
    return low + (high - low) * below / (below - above)
