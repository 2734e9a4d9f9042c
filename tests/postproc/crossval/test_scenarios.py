"""Scenario sets: what each promises about numbers of clips, missing identities and labels."""

from __future__ import annotations

import numpy as np
import pytest

from postproc.crossval.scenarios import SCENARIOS, Scenario, scenario_sets
from postproc.reference import Reference


def held_out(people: int = 8, clips: int = 60) -> Reference:
    """Clips whose embeddings spell their identity: one-hot, so that it can be read off a test set."""
    person = np.repeat(np.arange(people), clips)
    x = np.eye(people)[person]
    spaces = {"input": x, "model": x}
    language = np.where(np.arange(len(person)) % 2, "English", "Urdu")
    gender = np.where(person % 3 == 0, "F", "M")
    return Reference(spaces, spaces, np.array([f"id{p}" for p in person]), language, gender, np.zeros(len(x), bool))


@pytest.mark.parametrize(
    ("scenario", "sizes"),
    [
        (Scenario(6, 4), ([4] * 6, [4] * 6)),
        (Scenario(6, 10, share=0.5), ([10] * 5 + [30], [10] * 5 + [30])),
        (Scenario(5, 3, only_voices=1), ([3] * 5, [3] * 4)),
        (Scenario(5, 3, only_voices=1, only_faces=2), ([3] * 3, [3] * 4)),
        (Scenario(6, "natural"), ([5] * 6, [5] * 6)),
        (Scenario(6, "natural", languages=2), ([10] * 6, [10] * 6)),
    ],
)
def test_a_set_has_the_clips_that_the_scenario_says(scenario: Scenario, sizes: tuple[list[int], list[int]]) -> None:
    (cell, labels), *_ = scenario_sets(held_out(), scenario, 2, seed=0, trials=200)
    for spaces, expected in zip((cell.voices, cell.faces), sizes, strict=True):
        counts = np.bincount(spaces["input"].argmax(axis=1))
        assert sorted(counts[counts > 0]) == expected
    same = cell.voices["input"][cell.voice_index].argmax(axis=1) == cell.faces["input"][cell.face_index].argmax(axis=1)
    np.testing.assert_array_equal(labels, same)
    assert labels.mean() == 0.5


def test_clips_of_nobody_are_of_other_identities_and_never_of_the_same_person() -> None:
    (cell, labels), *_ = scenario_sets(held_out(40, 10), Scenario(6, 5, nobody=0.2), 1, seed=1)
    voice, face = cell.voices["input"].argmax(axis=1), cell.faces["input"].argmax(axis=1)
    assert len(voice) == len(face) == 36
    assert (np.bincount(voice) == 5).sum() == 6
    people = np.flatnonzero(np.bincount(voice, minlength=40) == 5)
    assert np.isin(voice[cell.voice_index[labels == 1]], people).all()
    assert not np.isin(face[cell.face_index[labels == 0]], people).all()


def test_scenarios_of_more_identities_than_there_are_give_no_sets_and_names_say_the_number() -> None:
    assert list(scenario_sets(held_out(5), Scenario(6), 3, seed=0)) == []
    assert all(name.endswith(f", {scenario.identities}") for name, scenario in SCENARIOS.items())
