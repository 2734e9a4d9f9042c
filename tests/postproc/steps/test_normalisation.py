"""Centring and AS-norm, and the order in which steps are calibrated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from datamodules.schema import ScoredCell
from postproc import (
    ASNorm,
    Centring,
    Clustering,
    Reference,
    Transport,
    calibrate,
    refine,
)
from tests.postproc.synthetic_people import World

CLUSTERS = Clustering(ks=(5, 6, 8), repeats=2, backend="cpu")


def test_centring_removes_a_shift_and_hands_its_embeddings_on() -> None:
    cell, _ = World(7).cell()
    x = cell.voices["model"]
    step = Centring(1.0)
    centred = step(cell)
    v, f = (e - e.mean(axis=0) for e in (x, cell.faces["model"]))
    v, f = (e / np.linalg.norm(e, axis=1, keepdims=True) for e in (v, f))
    np.testing.assert_allclose(centred.distances, 1 - np.einsum("td,td->t", v[cell.voice_index], f[cell.face_index]))
    after = refine(cell, [step, Transport(CLUSTERS)]).distances
    moved = replace(cell, voices={**cell.voices, "model": v}, faces={**cell.faces, "model": f})
    np.testing.assert_allclose(after, Transport(CLUSTERS)(moved).distances)
    np.testing.assert_allclose(Centring(0.0)(cell).distances, cell.distances)
    one = ScoredCell(cell.distances[:1], np.zeros(1, int), np.zeros(1, int), {"model": x[:1]}, {"model": x[:1]})
    assert "zero and cannot be normalised" in Centring(1.0)(one).trace["unchanged"]


def test_as_norm_is_that_of_a_loop() -> None:
    world = World(8)
    cell, _ = world.cell(trials=40)
    reference = world.reference("MMFF", clips=5)
    step = ASNorm(top=7)
    assert "no cohort" in step(cell).trace["unchanged"]
    step.calibrate(reference)
    refined = step(cell).distances
    for t in range(0, 40, 5):
        v, f = cell.voices["model"][cell.voice_index[t]], cell.faces["model"][cell.face_index[t]]
        to_faces = np.sort(1 - reference.faces["model"] @ v)[:7]
        to_voices = np.sort(1 - reference.voices["model"] @ f)[:7]
        d = cell.distances[t]
        expected = ((d - to_faces.mean()) / to_faces.std() + (d - to_voices.mean()) / to_voices.std()) / 2
        assert refined[t] == pytest.approx(expected)


def test_steps_are_calibrated_in_turn_with_those_before_them() -> None:
    seen = []

    class Note(Centring):
        def calibrate(self, reference: Reference, before: Any = ()) -> None:
            seen.append(list(before))

    steps = [Note(), Note(0.1)]
    calibrate(steps, World(0).reference("MF"))
    assert seen == [[], [steps[0]]]
