"""Results of costly computations on embeddings, kept while a run lasts."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Value = TypeVar("Value", int, list[NDArray[np.int64]], list[NDArray[Any]])


class Memory:
    """Computes a result once for the same arrays; the least recently used results are dropped first.

    Encoder embeddings of the same lists come again for other steps, strategies and models. A run owns one memory and
    hands it to its steps (:meth:`postproc.Refinement.share`).

    Args:
        limit: bytes that the results may take together; a larger result is not kept.
    """

    def __init__(self, limit: int = 1 << 28) -> None:
        self.limit, self.used = limit, 0
        self._results: OrderedDict[str, Any] = OrderedDict()

    def __len__(self) -> int:
        return len(self._results)

    def __deepcopy__(self, memo: dict[int, Any]) -> Memory:
        """Itself: copies of a step, calibrated on other identities, share what does not depend on calibration."""
        return self

    def recall(self, what: str, arrays: Sequence[NDArray[Any]], compute: Callable[[], Value]) -> Value:
        """The result of a computation, from an earlier call where the arrays are equal.

        Args:
            what: the computation with all its options.
            arrays: what it is computed from.
            compute: computes it; the result must not be changed afterwards.
        """
        digest = hashlib.sha256(what.encode())
        for x in arrays:
            digest.update(f"{x.shape} {x.dtype}".encode())
            digest.update(np.ascontiguousarray(x).data)
        key = digest.hexdigest()
        if key in self._results:
            self._results.move_to_end(key)
        else:
            value = compute()
            if _size(value) > self.limit:
                return value
            self._results[key] = value
            self.used += _size(value)
            while self.used > self.limit:
                self.used -= _size(self._results.popitem(last=False)[1])
        result: Value = self._results[key]
        return result


def _size(value: int | list[NDArray[Any]]) -> int:
    """Bytes a result takes, its key and bookkeeping included."""
    return 256 + (sum(x.nbytes + 128 for x in value) if isinstance(value, list) else 32)
