"""Batches of units: each at most once, partners of other videos, the same batch on any number of ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.sampling.groups import GroupedPairSampler, _Groups
from datamodules.schema import DataError

VIDEO = np.array([f"v{i}" for i in np.arange(60) // 3])
CODE = np.unique(VIDEO, return_inverse=True)[1]
GROUP = np.arange(60) % 4


def sampler(unit: object = GROUP, diverse: Any = GROUP, batch_size: int = 20, **options: int) -> GroupedPairSampler:
    made = GroupedPairSampler(VIDEO, batch_size, seed=3, **options)
    made.set_groups(np.asarray(unit), diverse)
    return made


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), min_size=1, max_size=40), st.integers(0, 99))
def test_a_partner_shares_the_group_and_not_the_video_where_there_is_one(
    clips: list[tuple[int, int]], seed: int
) -> None:
    group, video = np.array(clips).T
    partners = _Groups(group, video).draw_other_video(np.arange(len(group)), np.random.default_rng(seed))
    for clip, partner in enumerate(partners):
        assert group[partner] == group[clip]
        elsewhere = (group == group[clip]) & (video != video[clip])
        assert (video[partner] != video[clip]) == elsewhere.any()


def test_every_possible_partner_is_drawn_alike() -> None:
    groups = _Groups(np.zeros(6, dtype=int), np.array([0, 1, 1, 2, 2, 2]))
    rng = np.random.default_rng(0)
    counts = np.bincount(groups.draw_other_video(np.full(3000, 1), rng), minlength=6)
    np.testing.assert_allclose(counts, [750, 0, 0, 750, 750, 750], atol=120)
    np.testing.assert_allclose(np.bincount(groups.draw(np.zeros(3000, dtype=int), rng)), 500, atol=100)


@pytest.mark.parametrize(("unit", "diverse"), [(GROUP, GROUP), (GROUP, None), (CODE, None), (CODE, GROUP)])
def test_a_batch_holds_each_unit_once_with_a_face_of_the_unit_or_of_another_video(unit: Any, diverse: Any) -> None:
    for batch in sampler(unit, diverse):
        voices, faces = np.array(batch).T
        assert len(set(unit[voices])) == len(voices) == min(20, unit.max() + 1)
        group = unit if diverse is None else diverse
        assert (group[voices] == group[faces]).all()
        assert diverse is None or (CODE[voices] != CODE[faces]).all()


def test_two_ranks_share_the_batch_of_one() -> None:
    samplers = [sampler(CODE, None), *(sampler(CODE, None, rank=rank, world=2) for rank in range(2))]
    for each in samplers:
        each.set_epoch(2)
    for one, first, second in zip(*samplers, strict=True):
        assert one == first + second


def test_new_groups_count_from_the_next_batch_and_the_length_stays() -> None:
    made = GroupedPairSampler(VIDEO, 20)
    with pytest.raises(DataError, match="groups the clips"):
        made.batch(0)
    for groups in (4, 5):
        made.set_groups(np.arange(60) % groups, np.arange(60) % groups)
        assert (len(made.batch(0)), len(made)) == (groups, 3)
    assert len(sampler(steps_per_epoch=7)) == 7


def test_what_it_cannot_draw_from_is_refused() -> None:
    with pytest.raises(DataError, match="at least 2"):
        sampler(np.zeros(60, dtype=int))
    with pytest.raises(DataError, match="steps_per_epoch: 0"):
        sampler(steps_per_epoch=0)
