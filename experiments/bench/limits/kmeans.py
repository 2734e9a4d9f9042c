"""An iteration of k-means: by faiss, by torch, and by flash-kmeans where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from experiments.bench.limits.rates import tensor_cores
from experiments.bench.limits.setting import Case, Measured, Setting, peak_gb, relative_error, reset_peak, seconds_of

ITERATIONS, CHECKED, AT_ONCE = 4, 20_000, 1 << 16
Lloyd = Callable[[Tensor, Tensor, int], Tensor]


def cases(setting: Setting) -> dict[str, Case]:
    """Each way, named with its size."""
    ways: dict[str, tuple[Lloyd, str, str]] = {"faiss": (partial(_faiss, setting.device), "fp32", "cpu")}
    for precision in (
        dict.fromkeys(("fp32", setting.precision)) if setting.device == "cpu" else ("fp32", "tf32", "bf16")
    ):
        ways[f"torch {precision}"] = partial(_torch, precision), precision, setting.device
    if setting.device != "cpu":
        ways["flash-kmeans bf16"] = _flash, "bf16", setting.device
    what = f"{setting.points:.0e} points, {setting.clusters} clusters"
    return {f"{way}, {what}": partial(_measure, setting, *how) for way, how in ways.items()}


def _measure(setting: Setting, lloyd: Lloyd, precision: str, place: str) -> Measured:
    """Measures a way whose points lie in the memory of the device ``place``."""
    torch.manual_seed(0)
    points = torch.randn(setting.points, setting.width, device=place)
    starts = points[: setting.clusters].clone()
    reset_peak(setting.device)
    one, more = (seconds_of(partial(lloyd, points, starts, count), setting) for count in (1, 1 + ITERATIONS))
    few = points[:CHECKED]
    found, right = lloyd(few, starts, 1), _torch("fp64", few.double(), starts.double(), 1)
    n, k, d = setting.points, setting.clusters, setting.width
    return Measured(
        (more - one) / ITERATIONS if more > one else more / (1 + ITERATIONS),  # tiny sizes: the start is all
        n,
        "points",
        {precision: 2.0 * n * k * d, "copy": float(n * d * (2 if precision == "bf16" else 4))},
        peak_gb=peak_gb(setting.device),
        error=relative_error([found], [right]),
        note="an iteration",
    )


def _torch(precision: str, points: Tensor, centres: Tensor, count: int) -> Tensor:
    """Lloyd's iterations from ``centres`` (k, d); a cluster without points keeps its centre."""
    inputs = points.bfloat16() if precision == "bf16" else points
    for _ in range(count):
        half, sums = 0.5 * centres.square().sum(1), torch.zeros_like(centres)
        counts = torch.zeros(len(centres), device=points.device, dtype=centres.dtype)
        with tensor_cores(precision == "tf32"):
            for part in inputs.split(AT_ONCE):
                labels = (half - (part @ centres.to(part.dtype).T)).argmin(1)
                sums.index_add_(0, labels, part.to(sums.dtype))
                counts += labels.bincount(minlength=len(centres))
        centres = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], centres)
    return centres


def _faiss(device: str, points: Tensor, centres: Tensor, count: int) -> Tensor:
    from postproc.clustering.kmeans import lloyd  # needs faiss, which a GPU machine may lack: its row says so

    return torch.from_numpy(lloyd(points.numpy(), centres.numpy(), "cpu" if device == "cpu" else "gpu", count))


def _flash(points: Tensor, centres: Tensor, count: int) -> Tensor:
    from flash_kmeans import batch_kmeans_Euclid  # no package of ours needs it: its row says where it lacks

    _, found, *_ = batch_kmeans_Euclid(
        points.bfloat16()[None], len(centres), max_iters=count, tol=-1.0, init_centroids=centres.bfloat16()[None]
    )
    return found[0].to(points.dtype)  # type: ignore[no-any-return]
