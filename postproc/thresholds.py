"""Cut-offs that a config gives as a value or as a quantile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Threshold:
    """A cut-off, as a value or as a quantile of the values it cuts; exactly one of the two.

    Attributes:
        absolute: the value.
        quantile: the share (0..1) of values at or below the cut-off.

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
