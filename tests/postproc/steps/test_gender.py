"""The gender probe: what it adds, with which weight, and when it leaves scores unchanged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from postproc import GenderProbe
from postproc.decisions.gain import expected_gain
from postproc.metrics import eer
from postproc.steps.gender import same_gender_ratio
from postproc.steps.terms import _changes
from tests.postproc.synthetic_people import World


def error(distances: np.ndarray, labels: np.ndarray) -> float:
    return eer(distances, labels, direction="distance").eer


def test_the_likelihood_ratio_is_that_of_the_formula() -> None:
    p, q = np.array([0.5, 1.0, 1.0, 0.9]), np.array([0.3, 1.0, 0.0, 0.2])
    expected = np.log(2 * np.array([0.5, 0.98, 0.02, 0.9 * 0.2 + 0.1 * 0.8]))
    np.testing.assert_allclose(same_gender_ratio(p, q, 0.02), expected)


def test_the_gain_of_a_group_is_that_of_the_weight_the_others_choose() -> None:
    errors = np.array([[0.3, 0.2, 0.4], [0.3, 0.1, 0.0], [0.3, 0.2, 0.2]])  # of three weights, the first is 0
    np.testing.assert_allclose(_changes(errors), [0.1, -0.2, -0.1])  # by the last, the second and the second weight
    assert _changes(errors[:1]) == []


HELD_OUT = ["id00", "id01", "id02", "id12", "id13", "id14"]


def test_the_probe_gains_where_scores_know_little_of_gender() -> None:
    """Held-out scorers know gender in this world: only validation identities show that the model does not."""
    world = World(4, noise=2.5, gender=2.0, blur=4.0)
    cell, labels = world.cell()
    step, reference = GenderProbe(), world.reference()
    step.calibrate(reference)
    assert step(cell).trace["weight"] == 0
    step.calibrate(replace(reference, seen=~np.isin(reference.identity, HELD_OUT)))
    refined = step(cell)
    assert refined.trace["weight"] > 0
    assert error(refined.distances, labels) < error(cell.distances, labels) - 0.03
    assert expected_gain([step], reference) == step.gain is not None
    assert step.gain.groups == 4
    tried = refined.trace["weights_tried"]
    relative, spread = refined.trace["relative_weight"], refined.trace["spread"]
    assert tried[str(relative)] == min(tried.values())
    assert refined.trace["weight"] == relative * spread


def test_the_weight_found_suits_the_scale_of_the_model() -> None:
    world = World(4, noise=2.5, gender=2.0)
    reference = world.reference()
    held_out = np.isin(reference.identity, HELD_OUT)
    # one more direction that is the same for all voices of held-out identities: a third of the cosines' spread is left
    voices, faces = (
        np.column_stack([x["model"], np.zeros(len(x["model"]))]) for x in (reference.voices, reference.faces)
    )
    voices[held_out, -1] = np.sqrt(8)
    reference = replace(
        reference, voices=reference.voices | {"model": voices}, faces=reference.faces | {"model": faces}
    )
    traces = []
    for seen in (np.ones(len(reference), dtype=bool), ~held_out):
        step = GenderProbe()
        step.calibrate(replace(reference, seen=seen))
        traces.append(step(world.cell()[0]).trace)
    assert traces[1]["spread"] == pytest.approx(0.38 / 3, rel=0.15)
    assert traces[0]["spread"] > 2 * traces[1]["spread"]


def test_no_weight_is_found_on_identities_the_model_has_seen() -> None:
    world = World(4)
    reference = world.reference()
    bare = replace(reference, voices={"model": reference.voices["model"]}, faces={"model": reference.faces["model"]})
    step, fixed = GenderProbe(), GenderProbe(weight=0.3)
    cell, _ = world.cell()
    for probe in (step, fixed):
        probe.calibrate(bare)
    assert "no weight was found: 24 training identities without input" in step(cell).trace["unchanged"]
    assert fixed(cell).trace["weight"] == 0.3
    assert "spread" not in fixed(cell).trace


def test_the_probe_leaves_scores_alone_without_genders() -> None:
    world = World(4)
    cell, _ = world.cell()
    step = GenderProbe(weight=0.3)
    assert "not calibrated" in step(cell).trace["unchanged"]
    step.calibrate(world.reference("M" * 8))
    refined = step(cell)
    assert "0 female reference identities" in refined.trace["unchanged"]
    np.testing.assert_array_equal(refined.distances, cell.distances)
