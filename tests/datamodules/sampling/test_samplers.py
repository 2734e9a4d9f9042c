"""Samplers: what a batch contains, and that the ranks together get the batch of one process."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.sampling.samplers import (
    EvenShardSampler,
    FixedOrderPairSampler,
    IdentityBatchSampler,
    OncePairSampler,
    PairBatchSampler,
    ShuffledPairSampler,
)
from datamodules.schema import DataError

PEOPLE, CLIPS = 10, 8
IDENTITY = np.repeat(np.arange(PEOPLE), CLIPS)
ONE_LANGUAGE = np.full(len(IDENTITY), "English")


def batches(sampler: PairBatchSampler, epoch: int = 0) -> list[list[tuple[int, int]]]:
    sampler.set_epoch(epoch)
    return list(sampler)


@given(st.integers(1, 40), st.integers(1, 9))
def test_shards_cover_every_item_and_leave_no_rank_empty(size: int, world: int) -> None:
    shards = [list(EvenShardSampler(size, rank, world)) for rank in range(world)]
    assert all(shards)
    assert {row for shard in shards for row in shard} == set(range(size))
    assert sum(map(len, shards)) == max(size, world)  # nothing is repeated where there is an item for each
    assert [len(EvenShardSampler(size, rank, world)) for rank in range(world)] == [len(shard) for shard in shards]


def test_nothing_to_shard_is_an_error() -> None:
    with pytest.raises(DataError, match="has no items"):
        EvenShardSampler(0)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_each_identity_at_most_once_in_the_global_batch(world: int) -> None:
    ranks = [IdentityBatchSampler(IDENTITY, ONE_LANGUAGE, 6, 20, 1, rank, world) for rank in range(world)]
    for parts in zip(*map(batches, ranks), strict=True):
        voices, faces = np.array([pair for part in parts for pair in part]).T
        assert len(voices) == 6
        assert len(set(IDENTITY[voices])) == 6
        np.testing.assert_array_equal(IDENTITY[voices], IDENTITY[faces])


def test_ranks_share_out_the_batch_of_one_process() -> None:
    alone = IdentityBatchSampler(IDENTITY, ONE_LANGUAGE, 6, 5, seed=3)
    ranks = [IdentityBatchSampler(IDENTITY, ONE_LANGUAGE, 6, 5, 3, rank, 2) for rank in range(2)]
    assert batches(alone, 4) == [a + b for a, b in zip(*(batches(rank, 4) for rank in ranks), strict=True)]


def test_voice_and_face_are_drawn_independently_and_uniformly() -> None:
    sampler = IdentityBatchSampler(IDENTITY, ONE_LANGUAGE, PEOPLE, 4000, seed=0)
    pairs = np.array([pair for batch in batches(sampler) for pair in batch]) % CLIPS
    table = np.zeros((CLIPS, CLIPS))
    np.add.at(table, (pairs[:, 0], pairs[:, 1]), 1)
    expected = len(pairs) / CLIPS**2
    assert ((table - expected) ** 2 / expected).sum() < 108  # 0.999 quantile of chi-square with 63 degrees of freedom


def test_languages_are_balanced_where_identities_speak_several() -> None:
    language = np.where(np.arange(len(IDENTITY)) % CLIPS == 0, "Urdu", "English")  # one clip in eight
    language[IDENTITY < 2] = "English"
    sampler = IdentityBatchSampler(IDENTITY, language, PEOPLE, 50, seed=0)
    for batch in batches(sampler):
        for side in np.array(batch).T:
            assert Counter(language[side])["Urdu"] == 5


def test_epochs_differ_and_repeat_by_seed() -> None:
    for make in (
        lambda seed: IdentityBatchSampler(IDENTITY, ONE_LANGUAGE, 6, 3, seed),
        lambda seed: ShuffledPairSampler(len(IDENTITY), 6, seed),
    ):
        first = make(0)
        assert batches(first, 0) == batches(make(0), 0)
        assert batches(first, 0) != batches(first, 1)
        assert batches(make(0), 0) != batches(make(1), 0)
        assert batches(first, 0) == batches(make(0), 0)  # going back to an epoch gives it again


def test_start_skips_batches_without_changing_the_others() -> None:
    for sampler in (IdentityBatchSampler(IDENTITY, ONE_LANGUAGE, 6, 9), ShuffledPairSampler(len(IDENTITY), 9)):
        whole = batches(sampler, 2)
        sampler.start = 4
        assert batches(sampler, 2) == whole[4:]
        assert len(sampler) == len(whole)


def test_large_batch_is_cut_to_the_identities_and_ranks_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="batch_size 64 is cut to 10"):
        assert len(batches(IdentityBatchSampler(IDENTITY, ONE_LANGUAGE, 64))[0]) == 10
    with pytest.warns(UserWarning, match=r"batch of 10 is cut to 9 = 3 on each of 3 ranks"):
        assert len(batches(IdentityBatchSampler(IDENTITY, ONE_LANGUAGE, 10, world=3))[0]) == 3


def test_an_epoch_of_identity_sampling_has_as_many_pairs_as_clips() -> None:
    assert len(IdentityBatchSampler(IDENTITY, ONE_LANGUAGE, 6)) == -(-len(IDENTITY) // 6)
    assert len(IdentityBatchSampler(IDENTITY, ONE_LANGUAGE, 6, 7)) == 7


@given(st.integers(2, 60), st.integers(1, 20), st.integers(1, 4))
def test_shuffled_ranks_get_equal_batches_of_different_clips(size: int, batch_size: int, world: int) -> None:
    if batch_size < world:
        return
    per_rank = batch_size // world
    last = size % (per_rank * world) // world
    if size < per_rank * world and last < 2:
        with pytest.raises(DataError, match="too few"):
            ShuffledPairSampler(size, batch_size, 0, 0, world)
        return
    ranks = [batches(ShuffledPairSampler(size, per_rank * world, 0, rank, world)) for rank in range(world)]
    sizes = {tuple(map(len, rank)) for rank in ranks}
    assert sizes == {(per_rank,) * (size // (per_rank * world)) + (last,) * (last >= 2)}
    seen = [pair for rank in ranks for batch in rank for pair in batch]
    assert len(set(seen)) == len(seen)
    assert all(voice == face for voice, face in seen)


def test_shuffled_epoch_on_one_process_is_every_clip_once() -> None:
    seen = [voice for batch in batches(ShuffledPairSampler(23, 6)) for voice, _ in batch]
    assert sorted(seen) == list(range(23))
    assert seen != sorted(seen)


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 6))
def test_once_is_every_clip_once_in_equally_many_batches(size: int, batch_size: int, world: int) -> None:
    if size < world:
        with pytest.raises(DataError, match="fewer devices"):
            OncePairSampler(size, batch_size, 0, world)
        return
    ranks = [batches(OncePairSampler(size, batch_size, rank, world)) for rank in range(world)]
    assert len({len(rank) for rank in ranks}) == 1
    sizes = [len(batch) for rank in ranks for batch in rank]
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1
    assert sorted(voice for rank in ranks for batch in rank for voice, _ in batch) == list(range(size))
    if batch_size >= world:
        assert all(sum(map(len, parts)) <= batch_size + world for parts in zip(*ranks, strict=True))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seed": -1}, r"data\.seed: -1"),
        ({"batch_size": 0}, r"data\.batch_size: 0"),
        ({"batch_size": 2, "world": 4}, "batch of 2 cannot be split over 4 ranks"),
        ({"steps_per_epoch": 0}, r"data\.steps_per_epoch: 0"),
        ({"identity": np.zeros(len(IDENTITY), int)}, "2 training identities"),
    ],
)
def test_impossible_settings_are_named(options: dict, said: str) -> None:
    settings = {"identity": IDENTITY, "language": ONE_LANGUAGE, "batch_size": 6} | options
    with pytest.raises(DataError, match=said):
        IdentityBatchSampler(**settings)


def test_a_fixed_order_is_drawn_once_and_its_last_partial_batch_never_comes() -> None:
    sampler = FixedOrderPairSampler(23, 6, seed=4)
    first = list(sampler)
    sampler.set_epoch(7)
    assert list(sampler) == first
    seen = [voice for batch in first for voice, _ in batch]
    assert [len(batch) for batch in first] == [6, 6, 6]
    assert len(set(seen)) == 18
    assert seen != sorted(seen)
    assert list(FixedOrderPairSampler(23, 6, seed=5)) != first
    ranks = [list(FixedOrderPairSampler(23, 6, 4, rank, 2)) for rank in range(2)]
    assert [a + b for a, b in zip(*ranks, strict=True)] == first
    with pytest.raises(DataError, match=r"5 training clips make no full batch; set data\.batch_size to 5 or less"):
        FixedOrderPairSampler(5, 6)
