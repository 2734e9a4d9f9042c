"""The error rates of results.json that tables show, and their statistics."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

RATES = {
    "raw": "eer",
    "refined": "eer_refined",
    "same_gender": "eer_same_gender",
    "refined_same_gender": "eer_same_gender_refined",
    "gender_only": "eer_gender_only",
    "chance": "eer_chance",
}


def paired(differences: NDArray[np.float64]) -> dict[str, float | None]:
    """``mean``, ``low`` and ``high`` of the 95 % t-interval of paired differences (folds,); no interval for one."""
    mean, n = float(differences.mean()), len(differences)
    if n < 2:
        return {"mean": mean, "low": None, "high": None}
    half = float(stats.t.ppf(0.975, n - 1) * differences.std(ddof=1) / np.sqrt(n))
    return {"mean": mean, "low": mean - half, "high": mean + half}
