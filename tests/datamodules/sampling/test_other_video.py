"""Positives from other videos: which clip is drawn for which, and that ranks share the batch of one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.sampling.samplers import OtherVideoSampler, draw_other_video
from datamodules.schema import DataError

VIDEO = np.array([f"v{i}" for i in np.arange(60) // 3])
GROUP = np.arange(60) % 4


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), min_size=1, max_size=40), st.integers(0, 99))
def test_a_positive_shares_the_group_and_not_the_video_where_there_is_one(
    clips: list[tuple[int, int]], seed: int
) -> None:
    group, video = np.array(clips).T
    positives = draw_other_video(group, video, np.random.default_rng(seed))
    for clip, positive in enumerate(positives):
        assert group[positive] == group[clip]
        elsewhere = (group == group[clip]) & (video != video[clip])
        assert (video[positive] != video[clip]) == elsewhere.any()


def test_every_possible_positive_is_drawn_alike() -> None:
    group, video = np.zeros(6, dtype=int), np.array([0, 1, 1, 2, 2, 2])
    drawn = [draw_other_video(group, video, np.random.default_rng(seed)) for seed in range(3000)]
    counts = np.stack([np.bincount(column, minlength=6) for column in np.array(drawn).T])
    assert np.array_equal(counts > 0, video[:, None] != video)
    np.testing.assert_allclose(counts[1][[0, 3, 4, 5]], 750, atol=120)


def test_an_epoch_passes_over_all_clips_each_followed_by_a_positive() -> None:
    sampler = OtherVideoSampler(VIDEO, 20, seed=3)
    sampler.set_groups(GROUP)
    pairs = [pair for batch in sampler for pair in batch]
    assert all(voice == face for voice, face in pairs)
    clips = [voice for voice, _ in pairs]
    assert sorted(clips[::2]) == list(range(60))
    assert all(GROUP[a] == GROUP[b] and VIDEO[a] != VIDEO[b] for a, b in zip(clips[::2], clips[1::2], strict=True))


def test_two_ranks_share_the_batch_of_one() -> None:
    samplers = [OtherVideoSampler(VIDEO, 20, 3), *(OtherVideoSampler(VIDEO, 20, 3, rank, 2) for rank in range(2))]
    for sampler in samplers:
        sampler.set_groups(GROUP)
        sampler.set_epoch(2)
    for one, first, second in zip(*samplers, strict=True):
        assert one == first + second


def test_new_groups_count_from_the_next_batch() -> None:
    sampler = OtherVideoSampler(VIDEO, 20)
    with pytest.raises(DataError, match="groups the clips"):
        sampler.batch(0)
    sampler.set_groups(GROUP)
    sampler.batch(0)
    sampler.set_groups(np.arange(60) % 5)
    clips = [voice for voice, _ in sampler.batch(0)]
    assert all((a - b) % 5 == 0 for a, b in zip(clips[::2], clips[1::2], strict=True))
