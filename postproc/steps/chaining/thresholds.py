"""Cut-offs T_m, T_g and T_alpha of [SCC] Algorithm 1, which the paper does not publish."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import MODALITIES, Modality

NAMES = ("female", "male")
"""Gender clusters of probes, as thresholds name them; clusters of k-means have no names."""


@dataclass(frozen=True)
class Threshold:
    """A cut-off, as a value or as a quantile of the values it cuts; exactly one of the two.

    Attributes:
        absolute: the value.
        quantile: the fraction (0..1) of values at or below the cut-off.

    Raises:
        ValueError: none or both given, not finite, or a quantile outside 0..1.
    """

    absolute: float | None = None
    quantile: float | None = None

    def __post_init__(self) -> None:
        if (self.absolute is None) == (self.quantile is None):
            raise ValueError(
                f"threshold: absolute is {self.absolute}, quantile is {self.quantile}; give one, and null for the other"
            )
        if self.absolute is not None and not np.isfinite(self.absolute):
            raise ValueError(f"threshold: absolute {self.absolute} is not a number to compare with")
        if self.quantile is not None and not 0 <= self.quantile <= 1:
            raise ValueError(f"threshold: quantile {self.quantile} is outside 0..1")

    def of(self, values: NDArray[np.float64]) -> float:
        """The cut-off for these values."""
        if self.quantile is None:
            return float(self.absolute)  # type: ignore[arg-type]  # exactly one is set
        return float(np.quantile(values, self.quantile))


Thresholds = Threshold | dict[str, Threshold]
"""One threshold, or several by modality (``voice``, ``face``), by gender (``female``, ``male``) or by both
(``voice_female``, ``voice_male``, ``face_female``, ``face_male``)."""


def check_thresholds(name: str, thresholds: Thresholds, named: bool) -> None:
    """Checks that thresholds cover both modalities and both genders, each once.

    Args:
        name: of the option.
        thresholds: one, or several by name.
        named: whether the gender clusters have names.

    Raises:
        ValueError: a name is missing or unknown, or genders are named where clusters have no names.
    """
    if isinstance(thresholds, Threshold):
        return
    ways: list[set[str]] = [set(MODALITIES), set(NAMES), {f"{m}_{gender}" for m in MODALITIES for gender in NAMES}]
    if set(thresholds) not in ways:
        raise ValueError(
            f"{name}: {', '.join(thresholds) or 'no names'}; give one threshold, or all of "
            f"{'; or of '.join(', '.join(sorted(way)) for way in ways)}"
        )
    if set(thresholds) != ways[0] and not named:
        raise ValueError(f"{name}: clusters of k-means have no gender; set genders: probe, or give quantiles")


def threshold_of(thresholds: Thresholds, modality: Modality, gender: int) -> Threshold:
    """The threshold of a modality and of a gender cluster (0 = female, 1 = male, where clusters have names)."""
    if isinstance(thresholds, Threshold):
        return thresholds
    names: Mapping[str, Threshold] = thresholds
    return next(names[key] for key in (f"{modality}_{NAMES[gender]}", modality, NAMES[gender]) if key in names)
