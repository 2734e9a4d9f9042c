"""A refinement of the scores of many items, against reading them once."""

from __future__ import annotations

from functools import partial

from experiments.bench import compare
from experiments.bench.limits.setting import Case, Measured, Setting, seconds_of
from experiments.bench.sklearn_baseline import ALPHA, KEEP, REWARD


def cases(setting: Setting) -> dict[str, Case]:
    """Chaining-cluster with the elbow, a million trials."""
    return {f"chaining-cluster, {setting.items} items": partial(_measure, setting)}


def _measure(setting: Setting) -> Measured:
    from postproc.steps.chaining.step import ChainingCluster  # needs faiss, which may lack: the row says so
    from postproc.steps.chaining.thresholds import Threshold

    cell, _ = compare.synthetic_cell(setting.items)
    keep, reward = Threshold(quantile=KEEP), Threshold(quantile=REWARD)
    largest = max(2, min(compare.LARGEST_K, setting.items // 16))  # clusters of a gender, each of several items
    step = ChainingCluster("elbow", (2, largest), keep, keep, reward, ALPHA, n_init=1)
    arrays = [cell.distances, cell.voice_index, cell.face_index, *cell.voices.values(), *cell.faces.values()]
    work = {"host copy": float(sum(x.nbytes for x in arrays) + cell.distances.nbytes)}
    return Measured(seconds_of(lambda: step(cell), setting), compare.TRIALS, "trials", work)
