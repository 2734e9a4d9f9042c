"""What ``bench`` measures, at which sizes by default."""

from __future__ import annotations

SIZES = {"eer": (1_000_000, 10_000_000), "refine": (1_000, 10_000, 100_000)}
"""Trials, and items of each modality: ours against scikit-learn."""

MEDIA_SIZES = {"train_step": 8, "loader": 16, "loss_memory": 8192, "batch_memory": 1024, "recluster": 150_000}
"""Pairs of a step, batches of a loader, embeddings of a loss, pairs of a step, clips."""

WAYS = {"loss_memory": ("whole matrix", "blockwise"), "batch_memory": ("one batch", "chunks")}
"""The ways of those that need a process each, for their peak memory; the plain one first."""

MEASURED = {"memory": ("loss_memory", "batch_memory")}
"""What one word of the command line stands for."""
