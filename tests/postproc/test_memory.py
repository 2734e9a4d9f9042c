"""What a run remembers: by the bytes of the arrays, bounded, and shared by copies and inner steps."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from postproc import Guarded, Selected, Transport
from postproc.memory import Memory


def test_results_come_back_for_equal_arrays_only() -> None:
    memory, x = Memory(), np.arange(6.0)
    assert memory.recall("sum", [x], lambda: 1) == 1
    assert memory.recall("sum", [x.copy()], lambda: pytest.fail("computed again")) == 1
    for what, arrays in (("mean", [x]), ("sum", [x.reshape(2, 3)]), ("sum", [x.astype(np.float32)]), ("sum", [x, x])):
        assert memory.recall(what, arrays, lambda: 2) == 2
    assert len(memory) == 5


def test_the_least_recently_used_results_go_first_and_large_ones_are_not_kept() -> None:
    memory = Memory(limit=3_000)
    recall = memory.recall
    for seed in (0, 1, 0, 2):
        recall("labels", [np.array([seed])], lambda: [np.zeros(100, dtype=np.int64)])
    assert (len(memory), memory.used) == (2, 2 * (256 + 128 + 800))
    recall("labels", [np.array([0])], lambda: pytest.fail("was used last but one"))
    recall("labels", [np.array([3])], lambda: [np.zeros(1_000, dtype=np.int64)])
    assert len(memory) == 2


def test_steps_share_it_with_steps_inside_and_with_copies() -> None:
    inner, guarded = Transport(), Transport()
    steps = [Selected({"a": [inner], "b": [Guarded(guarded)]}), Transport()]
    memory = Memory()
    for step in steps:
        step.share(memory)
    assert inner.memory is guarded.memory is steps[1].memory is memory
    assert copy.deepcopy(steps)[1].memory is memory
    assert Transport().memory is not Transport().memory
