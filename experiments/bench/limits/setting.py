"""Where and at which sizes ``bench gpu`` and ``bench cpu`` measure, and what a measurement is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_modules.training.precision import computes_bf16

Target = Literal["gpu", "cpu", "quick"]

FULL = {"frames": 512, "image_size": 224}
TINY = {"width": 48, "depth": 1, "heads": 3, "frames": 64, "image_size": 32}


@dataclass(frozen=True, eq=False)
class Setting:
    """Sizes of all benches, and the device.

    Attributes:
        network: options of CAVMAE.
        batches: pairs of a training step; every way at the first one.
        chunked: pairs of a step whose batch is embedded in chunks of the first of ``batches``.
        checked: pairs on which gradients are compared with float64.
        clips: of ``network.frames`` each, for the filter bank.
        pairs: of the contrastive loss, ``width`` wide.
        width: of embeddings and points.
        points: of k-means.
        clusters: of k-means.
        files: voices, and as many faces.
        batch: files embedded at once.
        workers: loader processes.
        trials: of an EER.
        items: voices, and as many faces, of a refinement.
        gathered: rows that each rank gives.
        bytes: that are copied to measure the copy rate.
        side: of the matrices that are multiplied to measure that rate.
        warm: runs that are not timed.
        least: timed runs, at least.
        spend: seconds until no more runs are timed.
        imitate: compute in bf16 also on a processor that only imitates it.
        device: torch's name.
    """

    network: dict[str, Any]
    batches: tuple[int, ...]
    chunked: int
    checked: int
    clips: int
    pairs: tuple[int, ...]
    width: int
    points: int
    clusters: int
    files: int
    batch: int
    workers: int
    trials: int
    items: int
    gathered: int
    bytes: int
    side: int
    warm: int
    least: int
    spend: float
    imitate: bool = False
    device: str = "cpu"

    @property
    def precision(self) -> str:
        """In which a network computes: bf16, or fp32 on a processor that only imitates bf16."""
        return "bf16" if self.imitate or computes_bf16(torch.device(self.device).type) else "fp32"

    def autocast(self) -> torch.autocast:
        """Makes a network compute in :attr:`precision`."""
        return torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.precision == "bf16")


_CPU: dict[str, Any] = {
    "network": FULL, "batches": (4,), "chunked": 8, "checked": 2, "clips": 64, "pairs": (4096, 8192), "width": 768,
    "points": 20_000, "clusters": 100, "files": 128, "batch": 8, "workers": 0, "trials": 10_000_000, "items": 10_000,
    "gathered": 8192, "bytes": 1 << 28, "side": 2048, "warm": 1, "least": 2, "spend": 1.0,
}  # fmt: skip
SIZES: dict[Target, dict[str, Any]] = {
    "cpu": _CPU,
    "gpu": _CPU | {
        "batches": (256, 64, 128, 512, 1024), "chunked": 2048, "checked": 8, "clips": 1024,
        "pairs": (8192, 16_384, 32_768, 65_536), "points": 1_000_000, "clusters": 1000, "files": 4096, "batch": 256,
        "workers": 8, "trials": 100_000_000, "bytes": 1 << 32, "side": 8192, "warm": 2, "least": 3,
    },
    "quick": _CPU | {
        "network": TINY, "batches": (4, 6), "chunked": 8, "clips": 2, "pairs": (64,), "width": 24, "points": 600,
        "clusters": 5, "files": 8, "batch": 4, "trials": 20_000, "items": 200, "gathered": 16, "bytes": 1 << 16,
        "side": 64, "least": 1, "spend": 0.0, "imitate": True,
    },
}  # fmt: skip


def setting_of(target: Target, device: str) -> Setting:
    """The sizes of a target on a device."""
    return Setting(**SIZES[target], device=device)


@dataclass
class Measured:
    """One measurement.

    Attributes:
        seconds: of one run, the median of several.
        amount: what one run works off, in ``unit``.
        unit: of ``amount``.
        work: what one run cannot do without, by name of the rate that limits it: bytes read and written for ``copy``
            (the device's memory) and ``host copy``, floating-point operations for ``bf16``, ``tf32`` and ``fp32``.
        best: seconds that a run cannot beat, measured beside it; 0 = none.
        peak_gb: largest memory of a GPU in use; None on a CPU.
        error: norm of the difference to float64, divided by the norm of the float64 result.
        note: for the reader.
    """

    seconds: float
    amount: float
    unit: str
    work: dict[str, float] = field(default_factory=dict)
    best: float = 0.0
    peak_gb: float | None = None
    error: float | None = None
    note: str = ""


Case = Callable[[], Measured]


def seconds_of(work: Callable[[], object], setting: Setting) -> float:
    """Median seconds of a run, after runs that are not timed; waits for the GPU before and after each."""
    for _ in range(setting.warm):
        work()
    times: list[float] = []
    while len(times) < setting.least or sum(times) < setting.spend:
        wait(setting.device)
        start = time.perf_counter()
        work()
        wait(setting.device)
        times.append(time.perf_counter() - start)
    return median(times)


def wait(device: str) -> None:
    """Until the GPU is done with what it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def reset_peak(device: str) -> None:
    """Starts a new measurement of the largest memory in use."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak_gb(device: str) -> float | None:
    """Largest memory in use of a GPU since :func:`reset_peak`; None on a CPU."""
    return torch.cuda.max_memory_allocated() / (1 << 30) if torch.device(device).type == "cuda" else None


def relative_error(found: Iterable[Tensor], right: Iterable[Tensor]) -> float:
    """Norm of the difference of some tensors to those in float64, over the norm of the latter."""
    pairs = [(a.detach().double(), b.detach()) for a, b in zip(found, right, strict=True)]
    difference = sum(float((a - b.to(a.device)).square().sum()) for a, b in pairs)
    return float((difference / sum(float(b.square().sum()) for _, b in pairs)) ** 0.5)
