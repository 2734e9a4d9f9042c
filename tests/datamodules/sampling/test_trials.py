"""Drawn trial lists have the properties of their kind."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.sampling.trials import Kind, all_pairs, make_trials
from datamodules.schema import DataError, Items, Trials

KINDS: tuple[Kind, ...] = ("balanced", "natural", "scrambled")


def items(clips: list[int]) -> Items:
    identity = np.repeat([f"p{i}" for i in range(len(clips))], clips)
    ids = np.array([f"{person}/{i}" for i, person in enumerate(identity)])
    empty = np.full(len(ids), "")
    return Items(ids, identity, empty, empty, empty)


def people(references: np.ndarray) -> np.ndarray:
    return np.array([reference.partition("/")[0] for reference in references])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 12), min_size=2, max_size=7), st.integers(2, 300), st.sampled_from(KINDS), st.integers(0, 9)
)
def test_labels_are_true_and_no_pair_comes_twice(clips: list[int], n: int, kind: Kind, seed: int) -> None:
    trials = make_trials(items(clips), items(clips[::-1]), n, seed, kind)
    assert trials.labels is not None
    same = people(trials.voices) == people(trials.faces)
    np.testing.assert_array_equal(trials.labels, same)
    assert len(set(zip(trials.voices, trials.faces, strict=True))) == len(trials) <= n
    assert len(set(trials.keys)) == len(trials)
    assert abs(2 * int(trials.labels.sum()) - len(trials)) <= 1


def test_balanced_gives_every_identity_the_same_share() -> None:
    clips = items([10, 20, 30, 200])
    trials = make_trials(clips, clips, 800, 0)
    assert len(trials) == 800
    positive = trials.labels == 1
    assert set(Counter(people(trials.voices)[positive]).values()) == {100}
    assert all(95 < count < 105 for count in Counter(people(trials.voices)[~positive]).values())
    assert all(80 < count < 120 for count in Counter(people(trials.faces)[~positive]).values())


def test_natural_uses_each_item_once_in_natural_shares() -> None:
    clips = [10, 20, 30, 20]
    trials = make_trials(items(clips), items(clips), 1000, 0, "natural")
    assert max(Counter(trials.voices).values()) == max(Counter(trials.faces).values()) == 1
    assert Counter(people(trials.voices)) == Counter(people(trials.faces))
    assert len(trials) >= 78  # odd clips may be left over


def test_scrambled_breaks_the_tie_between_numbers_of_voices_and_faces() -> None:
    clips = items([60] * 8)
    voices, faces = [], []
    for seed in range(10):
        trials = make_trials(clips, clips, 3000, seed, "scrambled")
        used = [Counter(people(np.unique(side))) for side in (trials.voices, trials.faces)]
        voices += [used[0][f"p{i}"] for i in range(8)]
        faces += [used[1][f"p{i}"] for i in range(8)]
    assert abs(np.corrcoef(voices, faces)[0, 1]) < 0.3
    assert min(voices) < 25 < 50 < max(voices)


def test_the_seed_decides() -> None:
    def drawn(seed: int) -> Trials:
        return make_trials(items([5, 6]), items([5, 6]), 20, seed)

    np.testing.assert_array_equal(drawn(1).voices, drawn(1).voices)
    assert drawn(1).voices.tolist() != drawn(2).voices.tolist()


def test_impossible_lists_are_refused() -> None:
    with pytest.raises(DataError, match="two identities with voices and faces; there are 1"):
        make_trials(items([3]), items([3, 3]), 10, 0)
    with pytest.raises(DataError, match="ask for 2 or more"):
        make_trials(items([3, 3]), items([3, 3]), 1, 0)
    with pytest.raises(DataError, match="kind 'naturel' is unknown"):
        make_trials(items([3, 3]), items([3, 3]), 10, 0, "naturel")  # type: ignore[arg-type]


@pytest.mark.parametrize(("voices", "faces", "missing"), [([2, 2], [], "faces"), ([], [2, 2], "voices")])
def test_all_pairs_of_identities_without_items_are_refused(voices: list[int], faces: list[int], missing: str) -> None:
    with pytest.raises(DataError, match=rf"^data\.test\.x: there are no {missing} of its identities; check"):
        all_pairs("x", items(voices), items(faces), ["p0", "p1"])
