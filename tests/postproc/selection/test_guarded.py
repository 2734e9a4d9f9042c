"""Which refinements the guard applies, and which it refuses."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from datamodules.schema import MODALITIES, ScoredCell
from postproc import (
    ChainingCluster,
    Clustering,
    Guarded,
    Reference,
    Refined,
    Refinement,
    Transport,
)
from postproc.cca import Moments, regularised_cca
from postproc.cells import Embeddings, cosine_distances, unit
from postproc.metrics import eer
from tests.postproc.synthetic_people import World

CLUSTERS = Clustering(ks=(5, 6, 8), repeats=2, backend="cpu")
CHAINING = ChainingCluster(n_identities=3, backend="cpu", n_init=3, space="input", genders="probe")
ANY: dict[str, Any] = {
    "agreement": -1.0,
    "novelty": -1.0,
    "stability": -1.0,
    "information": -1.0,
    "gender": -1.0,
    "strength": 1.0,
}


def error(distances: np.ndarray, labels: np.ndarray) -> float:
    return eer(distances, labels, direction="distance").eer


def guarded(step: Refinement, world: World, **options: Any) -> Guarded:
    guard = Guarded(copy.deepcopy(step), **options)
    guard.calibrate(world.reference())
    return guard


def declined(guard: Guarded, cell: ScoredCell) -> str:
    """The reason why the guard left a cell unchanged; checks that it did."""
    refined = guard(cell)
    np.testing.assert_array_equal(refined.distances, cell.distances)
    assert refined.trace["guard"]["applied"] is False
    return refined.trace["unchanged"]


class Solved(Refinement):
    """Inverts the maps from traits to input embeddings, which no scorer knows."""

    def __init__(self, world: World) -> None:
        self.back = [np.linalg.pinv(to_input) for to_input in world.input_maps]

    def __call__(self, cell: ScoredCell) -> Refined:
        spaces = [np.asarray(x["input"], np.float64) for x in (cell.voices, cell.faces)]
        projected: Embeddings = {m: x @ back for m, x, back in zip(MODALITIES, spaces, self.back, strict=True)}
        return Refined(cosine_distances(projected, cell.voice_index, cell.face_index))


def scored_by_cca(cell: ScoredCell, reference: Reference) -> ScoredCell:
    """The cell with the scores and embeddings of a mediocre CCA fitted on the reference."""
    voices, faces = (unit(np.asarray(x["input"], np.float64)) for x in (reference.voices, reference.faces))
    known = [Moments.of(x, reference.identity) for x in (voices, faces)]
    (learnt,) = regularised_cca(known[0], known[1], [1.0], 16)
    inputs = (unit(np.asarray(x["input"], np.float64)) for x in (cell.voices, cell.faces))
    maps = zip(MODALITIES, inputs, learnt.means, learnt.projections, strict=True)
    projected: Embeddings = {m: (x - mean) @ w for m, x, mean, w in maps}
    return replace(
        cell,
        distances=cosine_distances(projected, cell.voice_index, cell.face_index),
        voices=cell.voices | {"model": projected["voice"]},
        faces=cell.faces | {"model": projected["face"]},
    )


def test_a_step_is_applied_where_cross_validation_shows_a_gain() -> None:
    world = World(3, blur=2.5)
    step, reference = Solved(world), world.reference()
    guard = Guarded(step)
    guard.calibrate(reference)
    cell, labels = world.cell()
    cell = scored_by_cca(cell, reference)
    refined = guard(cell)
    record = refined.trace["guard"]
    assert record["applied"], refined.trace["unchanged"]
    assert record["calibration"]["upper_bound"] < 0
    assert set(record["thresholds"]) == {"agreement", "novelty", "stability"}
    assert all(record["reliability"][name] >= least for name, least in record["thresholds"].items())
    expected = step(cell).distances * record["strength"] + cell.distances * (1 - record["strength"])
    np.testing.assert_allclose(refined.distances, expected)
    assert error(refined.distances, labels) < error(cell.distances, labels)
    json.dumps(record)


@pytest.mark.parametrize("genders", ["MMMMMM", "FFF", "M"])
def test_chaining_is_refused_for_one_gender_and_for_one_identity(genders: str) -> None:
    world = World(3, gender=4.0)
    cell, _ = world.cell(genders)
    assert "gender" in declined(guarded(CHAINING, world, **ANY), cell)


def test_nothing_is_applied_that_was_not_calibrated() -> None:
    world = World(3, gender=4.0)
    guard, reference = Guarded(copy.deepcopy(CHAINING)), world.reference()
    assert guard.needs_reference
    cell, _ = world.cell()
    assert "no reference genders" in declined(guard, cell)
    guard.calibrate(replace(reference, gender=np.full(len(reference), "")))
    assert "no reference genders" in declined(guard, cell)
    transport = Guarded(Transport(CLUSTERS))
    assert "not calibrated: no reference identities" in declined(transport, cell)
    transport.calibrate(reference.rows(np.isin(reference.identity, ["id00", "id12"])))
    assert "2 training identities and 0 validation identities make 0 groups" in declined(transport, cell)
    some = Guarded(Transport(CLUSTERS), agreement=0.1, strength=1.0)
    assert "no threshold of" in declined(some, cell)


def test_fixed_strength_and_thresholds_need_no_cross_validation() -> None:
    """A good scorer: faces of other identities are refused. On real embeddings they pass (see ``Guarded``)."""
    guard = Guarded(Transport(CLUSTERS), **(ANY | {"information": 0.8, "stability": 0.7, "agreement": 0.45}))
    for seed in range(4):
        same, labels = World(seed, noise=0.5).cell()
        refined = guard(same)
        assert refined.trace["guard"]["applied"], refined.trace["unchanged"]
        assert error(refined.distances, labels) < error(same.distances, labels)
        assert declined(guard, World(seed, noise=0.5, gender=0.0).cell(other_faces=True)[0])
        assert declined(guard, World(seed).cell("M")[0])


def test_the_decision_does_not_depend_on_the_listed_pairs() -> None:
    cell, _ = World(5, noise=0.5).cell()
    guard = Guarded(Transport(CLUSTERS), **ANY)
    few = np.arange(0, 3000, 50)
    part = replace(
        cell, distances=cell.distances[few], voice_index=cell.voice_index[few], face_index=cell.face_index[few]
    )
    whole, some = guard(cell), guard(part)
    assert some.trace["guard"] == whole.trace["guard"]
    np.testing.assert_array_equal(some.distances, whole.distances[few])
    json.dumps(whole.trace["guard"])


def test_the_guard_survives_what_its_step_cannot_refine() -> None:
    cell, _ = World(1).cell()
    broken = replace(cell, voices={"model": np.full_like(cell.voices["model"], np.nan)})
    assert "not finite" in declined(Guarded(Transport(CLUSTERS), **ANY), broken)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"agreement": 2.5}, "agreement: 2.5"), ({"strength": 0.0}, "strength: 0.0"), ({"resamples": 0}, "resamples: 0")],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Guarded(Transport(CLUSTERS), **options)
