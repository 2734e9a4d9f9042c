"""Fusion of several models' scores of the same trials."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyarrow import ArrowException

from datamodules.schema import DataError, ScoredCell, one_line
from postproc.cells import DegenerateInput, initial_distances
from postproc.refinement import Refined, Refinement, unchanged


class Fusion(Refinement):
    """The weighted mean of the normalised distances of this run and of other runs.

    Trials are matched by test condition and key before the refinement (:meth:`for_cell`); keys are used for nothing
    else. Distances are normalised over the listed pairs, so the relative weights of the models depend a little on the
    list.

    Args:
        scores: ``scores.parquet`` files of other runs on the same lists.
        column: which of their distances: ``distance`` (raw) or ``refined``.
        normalise: ``z`` (mean 0, standard deviation 1) or ``rank`` (0..1, ties share their mean rank).
        weights: of this run, then of each other run; None = equal weights.

    Raises:
        ValueError: no file, or weights that do not fit.
    """

    assumes_identities = False

    def __init__(
        self,
        scores: list[str],
        column: Literal["distance", "refined"] = "distance",
        normalise: Literal["z", "rank"] = "z",
        weights: list[float] | None = None,
    ) -> None:
        if not scores:
            raise ValueError("scores: names no file; give scores.parquet of other runs")
        if column not in ("distance", "refined") or normalise not in ("z", "rank"):
            raise ValueError(f"column: {column!r} is distance or refined; normalise: {normalise!r} is z or rank")
        weights = [1.0] * (len(scores) + 1) if weights is None else list(weights)
        if len(weights) != len(scores) + 1 or min(weights) < 0 or sum(weights) <= 0:
            raise ValueError(
                f"weights: {weights} must be {len(scores) + 1} numbers of 0 or more: this run's, then the others'"
            )
        self.scores, self.column, self.normalise, self.weights = list(scores), column, normalise, weights
        self._others: list[NDArray[np.float64]] | None = None

    def for_cell(self, name: str, keys: NDArray[np.str_]) -> Fusion:
        """A copy with the other runs' distances of this test condition's trials, in their order.

        Raises:
            DataError: a file that cannot be read, or lacks the column, the test condition, or a key; or a
                distance that is not finite.
        """
        bound = Fusion(self.scores, self.column, self.normalise, self.weights)
        bound._others = [_read(Path(path).expanduser(), name, keys, self.column) for path in self.scores]
        return bound

    def __call__(self, cell: ScoredCell) -> Refined:
        """Refines one test condition; the trace holds the files' ``correlation`` with this run's distances."""
        if self._others is None:
            return unchanged(cell, "the other runs' scores were not matched by trial keys")
        try:
            systems = [_normalised(d, self.normalise) for d in (initial_distances(cell), *self._others)]
        except DegenerateInput as reason:
            return unchanged(cell, str(reason))
        fused = np.average(systems, axis=0, weights=self.weights)
        correlation = [float(np.corrcoef(systems[0], other)[0, 1]) for other in systems[1:]]
        return Refined(fused, {"scores": self.scores, "correlation": correlation})


def _normalised(d: NDArray[np.float64], how: str) -> NDArray[np.float64]:
    scale = float(np.abs(d).max()) or 1.0
    d = d / scale  # sums of large distances do not overflow
    if not d.std() > 1e-12:
        raise DegenerateInput("all distances of a model are equal")
    if how == "rank":
        from scipy.stats import rankdata  # slow to import

        normalised: NDArray[np.float64] = rankdata(d) / len(d)
    else:
        normalised = (d - d.mean()) / d.std()
    return normalised


def _read(path: Path, name: str, keys: NDArray[np.str_], column: str) -> NDArray[np.float64]:
    try:
        table = pd.read_parquet(path, columns=["cell", "key", column])
    except (OSError, ValueError, KeyError, ArrowException) as error:
        raise DataError(
            f"fusion {path}: unreadable as scores with cell, key, {column} ({one_line(error, 160)}); run test first"
        ) from error
    rows = table[table["cell"] == name]
    if rows.empty:
        there = ", ".join(map(str, table["cell"].unique()[:8])) or "none"
        raise DataError(f"fusion {path}: has no test condition {name}, only {there}; test both runs on the same lists")
    if rows["key"].duplicated().any():
        raise DataError(f"fusion {path}: key {rows['key'][rows['key'].duplicated()].iloc[0]} of {name} occurs twice")
    aligned = rows.set_index("key")[column].astype(float).reindex(keys.tolist())
    distances: NDArray[np.float64] = aligned.to_numpy(dtype=np.float64)
    bad = ~np.isfinite(distances)
    if bad.any():
        raise DataError(
            f"fusion {path}: {int(bad.sum())} trials of {name} have no finite {column}, first {keys[bad.argmax()]}; "
            "test both runs on the same lists"
        )
    return distances
