"""What the guard lets through and what it leaves alone, and what the other steps learn from training people."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from datamodules.schema import MODALITIES, DataError, ScoredCell
from postproc import (
    ASNorm,
    Centring,
    ChainingCluster,
    Clustering,
    Fusion,
    GenderProbe,
    Guarded,
    Reference,
    Refined,
    Refinement,
    Transport,
    calibrate,
    refine,
)
from postproc.cca import Moments, regularised_cca
from postproc.gender import same_gender_evidence
from postproc.metrics import eer
from postproc.reference import practice_cells
from postproc.spaces import Embeddings, cosine_distances, unit
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
    guard = Guarded(step, **options)
    guard.calibrate(world.reference())
    return guard


def declined(guard: Guarded, cell: ScoredCell) -> str:
    """The reason why the guard left a cell alone, which it must have done."""
    refined = guard(cell)
    np.testing.assert_array_equal(refined.distances, cell.distances)
    assert refined.trace["guard"]["applied"] is False
    return refined.trace["unchanged"]


class Solved(Refinement):
    """Knows how voices and faces of its world come from people, which no scorer does."""

    def __init__(self, world: World) -> None:
        self.back = [np.linalg.pinv(own) for own in world.own]

    def __call__(self, cell: ScoredCell) -> Refined:
        spaces = [np.asarray(x["input"], np.float64) for x in (cell.voices, cell.faces)]
        found: Embeddings = {m: x @ back for m, x, back in zip(MODALITIES, spaces, self.back, strict=True)}
        return Refined(cosine_distances(found, cell.voice_index, cell.face_index))


def scored_by_cca(cell: ScoredCell, reference: Reference) -> ScoredCell:
    """The cell as a scorer sees it that was learnt on the reference's people, and none too well."""
    voices, faces = (unit(np.asarray(x["input"], np.float64)) for x in (reference.voices, reference.faces))
    known = [Moments.of(x, reference.identity) for x in (voices, faces)]
    (learnt,) = regularised_cca(known[0], known[1], [1.0], 16)
    own = (unit(np.asarray(x["input"], np.float64)) for x in (cell.voices, cell.faces))
    maps = zip(MODALITIES, own, learnt.means, learnt.projections, strict=True)
    found: Embeddings = {m: (x - mean) @ w for m, x, mean, w in maps}
    return replace(
        cell,
        distances=cosine_distances(found, cell.voice_index, cell.face_index),
        voices=cell.voices | {"model": found["voice"]},
        faces=cell.faces | {"model": found["face"]},
    )


def test_a_step_passes_where_practice_shows_a_gain() -> None:
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
    assert all(record["evidence"][name] >= least for name, least in record["thresholds"].items())
    expected = step(cell).distances * record["strength"] + cell.distances * (1 - record["strength"])
    np.testing.assert_allclose(refined.distances, expected)
    assert error(refined.distances, labels) < error(cell.distances, labels)
    json.dumps(record)


@pytest.mark.parametrize("genders", ["MMMMMM", "FFF", "M"])
def test_chaining_is_refused_for_one_gender_and_for_one_person(genders: str) -> None:
    world = World(3, gender=4.0)
    cell, _ = world.cell(genders)
    assert "gender" in declined(guarded(CHAINING, world, **ANY), cell)


def test_nothing_is_applied_that_was_not_calibrated() -> None:
    world = World(3, gender=4.0)
    guard, reference = Guarded(CHAINING), world.reference()
    assert guard.needs_reference
    cell, _ = world.cell()
    assert "no reference genders" in declined(guard, cell)
    guard.calibrate(replace(reference, gender=np.full(len(reference), "")))
    assert "no reference genders" in declined(guard, cell)
    transport = Guarded(Transport(CLUSTERS))
    assert "not calibrated: no reference people" in declined(transport, cell)
    transport.calibrate(reference.rows(np.isin(reference.identity, ["id00", "id12"])))
    assert "2 training people and 0 held out make 0 practice groups" in declined(transport, cell)
    some = Guarded(Transport(CLUSTERS), agreement=0.1, strength=1.0)
    assert "no threshold of" in declined(some, cell)


def test_given_numbers_need_no_practice() -> None:
    """With a scorer as good as this one, strangers are refused; on real embeddings they pass (see ``Guarded``)."""
    guard = Guarded(Transport(CLUSTERS), **(ANY | {"information": 0.8, "stability": 0.7, "agreement": 0.45}))
    for seed in range(4):
        same, labels = World(seed, noise=0.5).cell()
        refined = guard(same)
        assert refined.trace["guard"]["applied"], refined.trace["unchanged"]
        assert error(refined.distances, labels) < error(same.distances, labels)
        assert declined(guard, World(seed, noise=0.5, gender=0.0).cell(strangers=True)[0])
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


def test_gender_evidence_is_that_of_the_formula() -> None:
    p, q = np.array([0.5, 1.0, 1.0, 0.9]), np.array([0.3, 1.0, 0.0, 0.2])
    expected = np.log(2 * np.array([0.5, 0.98, 0.02, 0.9 * 0.2 + 0.1 * 0.8]))
    np.testing.assert_allclose(same_gender_evidence(p, q, 0.02), expected)


HELD_OUT = ["id00", "id01", "id02", "id12", "id13", "id14"]


def test_the_probe_gains_where_scores_know_little_of_gender() -> None:
    """Scorers of practice know gender in this world: only those held out tell that the model does not."""
    world = World(4, noise=2.5, gender=2.0, blur=4.0)
    cell, labels = world.cell()
    step, reference = GenderProbe(), world.reference()
    step.calibrate(reference)
    assert step(cell).trace["weight"] == 0
    step.calibrate(replace(reference, met=~np.isin(reference.identity, HELD_OUT)))
    refined = step(cell)
    assert refined.trace["weight"] > 0
    assert error(refined.distances, labels) < error(cell.distances, labels) - 0.03
    tried = refined.trace["weights_tried"]
    relative, spread = refined.trace["relative_weight"], refined.trace["spread"]
    assert tried[str(relative)] == min(tried.values())
    assert refined.trace["weight"] == relative * spread


def test_the_weight_found_suits_the_scale_of_the_model() -> None:
    world = World(4, noise=2.5, gender=2.0)
    reference = world.reference()
    held_out = np.isin(reference.identity, HELD_OUT)
    # one more direction that is the same for all voices of strangers: a third of the cosines' spread is left
    voices, faces = (
        np.column_stack([x["model"], np.zeros(len(x["model"]))]) for x in (reference.voices, reference.faces)
    )
    voices[held_out, -1] = np.sqrt(8)
    reference = replace(
        reference, voices=reference.voices | {"model": voices}, faces=reference.faces | {"model": faces}
    )
    found = []
    for met in (np.ones(len(reference), dtype=bool), ~held_out):
        step = GenderProbe()
        step.calibrate(replace(reference, met=met))
        found.append(step(world.cell()[0]).trace)
    assert found[1]["spread"] == pytest.approx(0.38 / 3, rel=0.15)
    assert found[0]["spread"] > 2 * found[1]["spread"]


def test_no_weight_is_found_among_people_the_model_knows() -> None:
    world = World(4)
    reference = world.reference()
    bare = replace(reference, voices={"model": reference.voices["model"]}, faces={"model": reference.faces["model"]})
    step, given = GenderProbe(), GenderProbe(weight=0.3)
    cell, _ = world.cell()
    for probe in (step, given):
        probe.calibrate(bare)
    assert "no weight was found: 24 training people, who have no embeddings but" in step(cell).trace["unchanged"]
    assert given(cell).trace["weight"] == 0.3
    assert "spread" not in given(cell).trace


def test_the_probe_leaves_scores_alone_without_genders() -> None:
    world = World(4)
    cell, _ = world.cell()
    step = GenderProbe(weight=0.3)
    assert "not calibrated" in step(cell).trace["unchanged"]
    step.calibrate(world.reference("M" * 8))
    refined = step(cell)
    assert "0 female reference people" in refined.trace["unchanged"]
    np.testing.assert_array_equal(refined.distances, cell.distances)


def test_practice_sets_are_of_the_references_people_with_right_labels() -> None:
    reference = World(6, noise=0.01).reference()
    known = {tuple(x): person for x, person in zip(reference.voices["model"], reference.identity, strict=True)}
    known |= {tuple(x): person for x, person in zip(reference.faces["model"], reference.identity, strict=True)}
    for cell, labels, people in practice_cells(reference, 3, 0, per_gender=2, trials=200):
        voice = np.array([known[tuple(x)] for x in cell.voices["model"]])[cell.voice_index]
        face = np.array([known[tuple(x)] for x in cell.faces["model"]])[cell.face_index]
        np.testing.assert_array_equal(labels, voice == face)
        assert labels.mean() == 0.5
        assert set(voice) | set(face) == set(people)
        assert len(people) == 4
    folds = reference.folds(4, 0)
    assert sorted(np.concatenate(folds)) == sorted(set(reference.identity))


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
    assert "zero and has no direction" in Centring(1.0)(one).trace["unchanged"]


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


@pytest.fixture
def other(tmp_path: Path) -> SimpleNamespace:
    cell, _ = World(9).cell(trials=50)
    keys = np.array([f"k{i}" for i in range(50)])
    scores = np.random.default_rng(0).normal(size=50)
    path = tmp_path / "scores.parquet"
    table = pd.DataFrame({"cell": "heard", "key": keys, "distance": scores, "refined": np.nan})
    table.sample(frac=1, random_state=1).to_parquet(path)
    return SimpleNamespace(cell=cell, keys=keys, scores=scores, path=str(path), table=table)


def test_fusion_matches_other_runs_by_key(other: SimpleNamespace) -> None:
    step = Fusion([other.path])
    assert "not matched" in step(other.cell).trace["unchanged"]
    fused = step.for_cell("heard", other.keys)(other.cell).distances
    own = other.cell.distances
    expected = ((own - own.mean()) / own.std() + (other.scores - other.scores.mean()) / other.scores.std()) / 2
    np.testing.assert_allclose(fused, expected)
    alone = Fusion([other.path], normalise="rank", weights=[1, 0]).for_cell("heard", other.keys)(other.cell).distances
    np.testing.assert_array_equal(np.argsort(alone), np.argsort(own))


def test_fusion_names_what_does_not_match(other: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no cell unheard, only heard"):
        Fusion([other.path]).for_cell("unheard", other.keys)
    with pytest.raises(DataError, match="1 trials of heard have no finite distance, first zz"):
        Fusion([other.path]).for_cell("heard", np.array([*other.keys[:-1], "zz"]))
    with pytest.raises(DataError, match="50 trials of heard have no finite refined"):
        Fusion([other.path], column="refined").for_cell("heard", other.keys)
    with pytest.raises(DataError, match=r"none\.parquet: unreadable as scores"):
        Fusion([str(tmp_path / "none.parquet")]).for_cell("heard", other.keys)
    pd.concat([other.table, other.table[:1]]).to_parquet(tmp_path / "twice.parquet")
    with pytest.raises(DataError, match="key k0 of heard occurs twice"):
        Fusion([str(tmp_path / "twice.parquet")]).for_cell("heard", other.keys)
