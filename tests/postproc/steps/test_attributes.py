"""Estimated ages and genders: what they add to a distance, by which weight, and what happens where they are unknown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from datamodules.schema import ScoredCell
from postproc import AgeMatch, GenderProbe, Matching, Reference, Refinement
from postproc.cells import ESTIMATES, cosine_distances, unit
from postproc.memory import Memory
from postproc.metrics import eer
from postproc.steps.age import learn_ages
from postproc.steps.gender import learn_genders
from tests.postproc.synthetic_people import World


class Aged(World):
    """A world in which the model knows nothing of the first trait, age, and of the last, gender; estimates tell both.

    Estimated ages of faces lie twice as far apart as those of voices, around another mean. Some identities are of the
    validation: held-out scorers read the encoder embeddings, which tell everything.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed, noise=1.5, gender=2.0, blur=1.0)

    def spaces(self, of: dict[str, np.ndarray], modality: int) -> dict[str, np.ndarray]:
        traits = of["input"] @ np.linalg.pinv(self.input_maps[modality])
        age = (40 + 5 * traits[:, 0]) if modality == 0 else (60 + 10 * traits[:, 0])
        return {
            "model": unit(of["model"][:, 1:-1]),
            "input": of["input"],
            ESTIMATES: np.column_stack([age, expit(-3 * traits[:, -1])]).astype(np.float32),
        }

    def cell(self, genders: str = "MMMFFF", other_faces: bool = False, trials: int = 3000):
        cell, labels = super().cell(genders, other_faces, trials)
        voices, faces = self.spaces(cell.voices, 0), self.spaces(cell.faces, 1)
        learnt = {"voice": voices["model"], "face": faces["model"]}
        distances = cosine_distances(learnt, cell.voice_index, cell.face_index)
        return ScoredCell(distances, cell.voice_index, cell.face_index, voices, faces), labels

    def reference(self, genders: str = "M" * 12 + "F" * 12, clips: int = 10) -> Reference:
        reference = super().reference(genders, clips)
        seen = ~np.isin(reference.identity, ["id00", "id01", "id02", "id12", "id13", "id14"])
        voices, faces = self.spaces(reference.voices, 0), self.spaces(reference.faces, 1)
        return replace(reference, voices=voices, faces=faces, seen=seen)


def error(distances: np.ndarray, labels: np.ndarray) -> float:
    return eer(distances, labels, direction="distance").eer


def without_estimates(of: dict[str, np.ndarray], column: int | None = None) -> dict[str, np.ndarray]:
    """Spaces without estimates, or with one column unknown."""
    if column is None:
        return {space: x for space, x in of.items() if space != ESTIMATES}
    estimates = of[ESTIMATES].copy()
    estimates[:, column] = np.nan
    return of | {ESTIMATES: estimates}


@pytest.mark.parametrize("kind", [AgeMatch, GenderProbe])
def test_an_attribute_that_scores_do_not_know_makes_them_better(kind: type[Refinement]) -> None:
    world = Aged()
    step = kind()
    step.calibrate(world.reference())
    for _ in range(3):
        cell, labels = world.cell()
        refined = step(cell)
        assert refined.trace["weight"] > 0
        assert error(refined.distances, labels) < error(cell.distances, labels) - 0.02
    assert step.gain is not None
    assert step.gain.groups == 4


def test_the_age_term_is_that_of_the_formula() -> None:
    world = Aged()
    reference = world.reference()
    step = AgeMatch(weight=0.5)
    step.calibrate(reference)
    cell, _ = world.cell()
    names, z = np.unique(reference.identity), []
    for of_training, of_test in ((reference.voices, cell.voices), (reference.faces, cell.faces)):
        ages = of_training[ESTIMATES][:, 0].astype(float)
        means = np.array([ages[reference.identity == name].mean() for name in names])
        z.append(((of_test[ESTIMATES][:, 0] - means.mean()) / means.std(), (means - means.mean()) / means.std()))
    gaps = [abs(a - b) for i, a in enumerate(z[0][1]) for j, b in enumerate(z[1][1]) if i != j]
    term = np.mean(gaps) - np.abs(z[0][0][cell.voice_index] - z[1][0][cell.face_index])
    np.testing.assert_allclose(step(cell).distances, cell.distances - 0.5 * term, rtol=1e-9)


def test_an_unknown_age_changes_nothing_and_is_counted() -> None:
    world = Aged()
    step = AgeMatch(weight=0.5)
    step.calibrate(world.reference())
    cell, _ = world.cell()
    estimates = cell.voices[ESTIMATES].copy()
    estimates[::2, 0] = np.nan
    some = replace_voices(cell, cell.voices | {ESTIMATES: estimates})
    refined, whole = step(some), step(cell)
    unknown = cell.voice_index % 2 == 0
    np.testing.assert_array_equal(refined.distances[unknown], cell.distances[unknown])
    np.testing.assert_array_equal(refined.distances[~unknown], whole.distances[~unknown])
    assert refined.trace["known"] == {"voice": pytest.approx(0.5, abs=0.02), "face": 1.0}


def replace_voices(cell: ScoredCell, voices: dict[str, np.ndarray]) -> ScoredCell:
    return ScoredCell(cell.distances, cell.voice_index, cell.face_index, voices, cell.faces)


def test_without_ages_on_both_sides_scores_stay() -> None:
    world = Aged()
    cell, _ = world.cell()
    reference = world.reference()
    step = AgeMatch(weight=0.5)
    step.calibrate(replace(reference, voices=without_estimates(reference.voices)))
    assert "training identities have no estimated ages" in step(cell).trace["unchanged"]
    step.calibrate(reference)
    for voices in (without_estimates(cell.voices), without_estimates(cell.voices, 0)):
        refined = step(replace_voices(cell, voices))
        assert "test condition have no estimated ages" in refined.trace["unchanged"]
        np.testing.assert_array_equal(refined.distances, cell.distances)


def test_ages_of_too_few_or_equal_identities_are_a_reason() -> None:
    reference = Aged().reference()
    few = reference.rows(np.isin(reference.identity, np.unique(reference.identity)[:3]))
    step = AgeMatch(weight=1.0)
    step.calibrate(few)
    assert "3 training identities have estimated voice ages" in step(Aged().cell()[0]).trace["unchanged"]


def test_estimated_genders_need_no_genders_of_training_identities() -> None:
    world = Aged()
    cell, labels = world.cell()
    reference = world.reference()
    bare = replace(reference, gender=np.full(len(reference), ""))
    step = GenderProbe()
    step.calibrate(bare)
    refined = step(cell)
    assert refined.trace["estimated"] == ["voice", "face"]
    assert error(refined.distances, labels) < error(cell.distances, labels) - 0.02
    step.calibrate(replace(bare, voices=without_estimates(bare.voices, 1)))
    assert "0 male reference identities" in step(cell).trace["unchanged"]


def test_a_probe_takes_the_side_without_estimates() -> None:
    world = Aged()
    cell, _ = world.cell()
    reference = world.reference()
    half = replace(reference, voices=without_estimates(reference.voices))
    genders = learn_genders(half, Memory())
    male = genders(replace_voices(cell, without_estimates(cell.voices)))
    np.testing.assert_allclose(male["face"], 1 - cell.faces[ESTIMATES][:, 1], rtol=1e-6)
    both = learn_genders(reference, Memory())(cell)["voice"]
    assert ((male["voice"] > 0.5) == (both > 0.5)).mean() > 0.9
    assert not np.allclose(male["voice"], both)


def test_an_unknown_gender_says_nothing() -> None:
    world = Aged()
    cell, _ = world.cell()
    genders = learn_genders(world.reference(), Memory())
    estimates = cell.faces[ESTIMATES].copy()
    estimates[0, 1] = np.nan
    unknown = ScoredCell(
        cell.distances, cell.voice_index, cell.face_index, cell.voices, cell.faces | {ESTIMATES: estimates}
    )
    assert genders(unknown)["face"][0] == 0.5


def test_matching_uses_what_is_known() -> None:
    world = Aged(3)
    reference = world.reference()
    cells = [world.cell() for _ in range(6)]
    errors = {}
    ageless = replace(reference, voices=without_estimates(reference.voices, 0))
    for name, known in (("both", reference), ("no age", ageless)):
        step = Matching()
        step.calibrate(known)
        errors[name] = np.mean([error(step(cell).distances, labels) for cell, labels in cells])
        weights = step(cells[0][0]).trace["weights"]
        assert list(weights) == ["similarity", "gender", "age"][: 3 if name == "both" else 2]
        assert all(weight > 0 for weight in weights.values())
    assert errors["both"] < errors["no age"] - 0.01


def test_clips_without_an_estimate_stay_in_the_reference() -> None:
    reference = Aged().reference()
    assert len(replace(reference, voices=without_estimates(reference.voices, 0)).finite()) == len(reference)


def test_the_scale_of_ages_is_over_identities_not_clips() -> None:
    reference = Aged().reference()
    first = reference.identity == np.unique(reference.identity)[0]
    rows = np.concatenate([np.arange(len(reference)), np.repeat(np.flatnonzero(first), 50)])
    for m, scale in learn_ages(reference).scale.items():
        assert learn_ages(reference.rows(rows)).scale[m] == pytest.approx(scale, rel=1e-6)
