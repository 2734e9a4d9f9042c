"""Cross-validation test sets made of training identities."""

from __future__ import annotations

import numpy as np

from postproc.crossval.sets import cross_validation_sets
from tests.postproc.synthetic_people import World


def test_cross_validation_sets_hold_identities_of_the_reference_with_right_labels() -> None:
    reference = World(6, noise=0.01).reference()
    known = {tuple(x): person for x, person in zip(reference.voices["model"], reference.identity, strict=True)}
    known |= {tuple(x): person for x, person in zip(reference.faces["model"], reference.identity, strict=True)}
    for cell, labels, people in cross_validation_sets(reference, 3, 0, per_gender=2, trials=200):
        voice = np.array([known[tuple(x)] for x in cell.voices["model"]])[cell.voice_index]
        face = np.array([known[tuple(x)] for x in cell.faces["model"]])[cell.face_index]
        np.testing.assert_array_equal(labels, voice == face)
        assert labels.mean() == 0.5
        assert set(voice) | set(face) == set(people)
        assert len(people) == 4
    folds = reference.folds(4, 0)
    assert sorted(np.concatenate(folds)) == sorted(set(reference.identity))
