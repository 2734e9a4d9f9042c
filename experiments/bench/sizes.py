"""What ``bench`` measures, at which sizes by default."""

from __future__ import annotations

SIZES = {"eer": (1_000_000, 10_000_000), "refine": (1_000, 10_000, 100_000)}
"""Trials, and items of each modality: ours against scikit-learn."""

MEDIA_SIZES = {"train_step": 8, "loader": 16, "loss_memory": 8192, "batch_memory": 1024, "recluster": 150_000}
"""Pairs of a step, batches of a loader, embeddings of a loss, pairs of a step, clips."""

QUICK = {
    "eer": (100_000,), "refine": (500,), "train_step": 1, "loader": 2, "loss_memory": 2048, "batch_memory": 64,
    "recluster": 3000,
}  # fmt: skip
"""Sizes of ``--quick``: seconds, to see that everything runs; the ratios say little."""

WAYS = {"loss_memory": ("whole matrix", "blockwise"), "batch_memory": ("one batch", "chunks")}
"""The ways of those that need a process each, for their peak memory; the plain one first."""

MEASURED = {"memory": ("loss_memory", "batch_memory")}
"""What one word of the command line stands for."""

GROWING: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "bank": ((1000, 10_000, 100_000, 1_000_000), (100, 1000)),
    "scoring": ((10_000, 100_000, 1_000_000, 10_000_000), (100, 1000)),
    "eer": ((10_000, 100_000, 1_000_000, 10_000_000), (1000, 10_000)),
    "sampler": ((6, 60, 600, 5000), (6, 60)),
    "record": ((6, 60, 600, 5000), (6, 60)),
    "prepare": ((1000, 10_000, 100_000, 1_000_000), (100, 1000)),
    "report": ((1, 20, 100, 500), (1, 4)),
    "ranks": ((1, 2, 3, 4), (1, 2)),
}
"""Sizes of ``bench growth``, and those of its ``--quick``."""
