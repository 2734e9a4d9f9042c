"""How a guard finds its strength and thresholds on training identities."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from datamodules.schema import ScoredCell
from postproc import Centring, Guarded, Reference, Refined, Refinement
from postproc.cells import DegenerateInput
from postproc.crossval.sets import GOOD
from postproc.selection.thresholds import STRENGTHS, Outcomes, choose, cross_validate, partly
from tests.postproc.synthetic_people import World


class Shuffled(Refinement):
    """Harm: distances in another order."""

    def __call__(self, cell: ScoredCell) -> Refined:
        return Refined(np.random.default_rng(0).permutation(cell.distances))


def made(after: list[list[float]], agreement: list[float], before: float = 0.3, groups: int = 4) -> Outcomes:
    """Outcomes of some groups with one scorer, as many sets in each; columns of ``after`` are strengths."""
    sets = len(after)
    group = np.repeat(np.arange(groups), sets // groups)
    found = {"agreement": np.array(agreement)}
    return Outcomes(group, np.full(sets, "1"), np.full(sets, before), np.array(after), found)


def test_steps_do_not_learn_from_the_identities_they_are_judged_on() -> None:
    reference = World(3).reference(clips=6)
    owner = {x.tobytes(): p for x, p in zip(reference.voices["input"], reference.identity, strict=True)}
    calls = []

    class Note(Shuffled):
        needs_reference = True  # type: ignore[assignment]

        def calibrate(self, reference: Reference, before: Any = ()) -> None:
            self.known = set(reference.identity)

        def __call__(self, cell: ScoredCell) -> Refined:
            calls.append(self.known & {owner[x.tobytes()] for x in cell.voices["input"]})
            return super().__call__(cell)

    step = Note()
    cross_validate(step, reference, [Centring()], strengths=[1.0], resamples=1)
    assert calls
    assert not any(calls)
    assert not hasattr(step, "known"), "the step itself is not changed"


def test_harm_is_refused_everywhere_and_the_trace_says_on_what() -> None:
    world = World(4)
    guard = Guarded(Shuffled())
    guard.calibrate(world.reference())
    cell, _ = world.cell()
    trace = guard(cell).trace
    assert "no strength is safe on 32 cross-validation test sets" in trace["unchanged"]
    record = trace["guard"]["calibration"]
    assert record["cross_validation_sets"] == 32
    assert record["groups"] == 4
    assert record["mean_change_unguarded"] > 0.05
    assert trace["guard"]["strength"] == 0


def test_the_same_identities_give_the_same_numbers() -> None:
    reference = World(5).reference()
    first, second = (choose(cross_validate(Centring(), reference, resamples=1), STRENGTHS, {}) for _ in range(2))
    assert first == second


def test_a_step_that_gains_without_harm_is_applied_at_full_strength() -> None:
    found = choose(made([[0.2, 0.25]] * 8, [0.1, 0.9] * 4), [1.0, 0.5], {})
    assert found.strength == 1.0
    assert found.thresholds == {"agreement": 0.1}
    assert found.record["mean_change"] == pytest.approx(-0.1)
    assert found.record["accepted"] == 1


def test_a_statistic_that_predicts_harm_becomes_a_threshold() -> None:
    after = [[0.4] if weak else [0.2] for weak in (True, False, False, False)] * 4
    found = choose(made(after, [0.1, 0.7, 0.8, 0.9] * 4), [1.0], {})
    assert 0.1 < found.thresholds["agreement"] <= 0.7
    assert found.record["worst_group"] <= 0
    with_threshold = choose(made(after, [0.1, 0.7, 0.8, 0.9] * 4), [1.0], {"agreement": 0.85})
    assert with_threshold.thresholds == {"agreement": 0.85}
    assert with_threshold.record["accepted"] == 0.25
    assert choose(made(after, [0.1, 0.7, 0.8, 0.9] * 4), [1.0], {"agreement": 0.0}).record["accepted"] == 1


def test_one_group_of_identities_that_loses_is_enough_to_refuse() -> None:
    after = [[0.1]] * 6 + [[0.32]] * 2
    assert choose(made(after, [0.5] * 8), [1.0], {}).strength == 0
    weaker = [[0.1, 0.22]] * 6 + [[0.32, 0.24]] * 2
    assert choose(made(weaker, [0.5] * 8), [1.0, 0.5], {}).strength == 0.5


def test_a_gain_that_may_be_chance_is_no_gain() -> None:
    after = [[0.30]] * 6 + [[0.26]] * 2  # one group gains, three stay
    assert choose(made(after, [0.5] * 8), [1.0], {}).strength == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r: r.rows(r.gender == "M"), "12 training identities and 0 validation identities make 0 groups"),
        (
            lambda r: r.rows(np.isin(r.identity, ["id00", "id12"])),
            "2 training identities and 0 validation identities make 0 groups",
        ),
        (
            lambda r: replace(r, voices={"model": r.voices["model"]}, faces={"model": r.faces["model"]}),
            "training identities without input embeddings",
        ),
    ],
)
def test_too_few_identities_for_cross_validation_is_a_reason(change: Any, reason: str) -> None:
    with pytest.raises(DegenerateInput, match=reason):
        cross_validate(Centring(), change(World(6).reference(clips=4)))


def test_a_part_of_a_step_lies_between() -> None:
    a, b = np.array([0.2, 1.0]), np.array([0.6, 0.0])
    np.testing.assert_allclose(partly(a, b, 0.25), [0.3, 0.75])
    assert partly(a, b, 1.0) is b


def test_a_model_that_does_not_gain_on_held_out_identities_is_left_unchanged() -> None:
    found = made([[0.1, 0.2]] * 7 + [[0.301, 0.29]], [0.5] * 8, groups=8)
    assert choose(found, [1.0, 0.5], {}).strength == 1.0, "0.1 points lost by a group are no harm"
    held_out = replace(found, scorer=np.array(["1"] * 7 + ["model"]))
    choice = choose(held_out, [1.0, 0.5], {})
    assert choice.strength == 0.5
    assert choice.record["model_change"] == pytest.approx(0.001)
    assert "model_change" not in choose(found, [1.0], {}).record


def test_without_validation_identities_the_best_held_out_scorer_must_gain_surely() -> None:
    """Bad scorers gain 20 points; the best one, which the model may resemble, gains 0.4 on average, or 2."""
    for gains, strength in (([0.304, 0.294, 0.303, 0.283], 0.0), ([0.281, 0.279, 0.282, 0.278], 1.0)):
        found = made([[x] for gain in gains for x in (0.1, gain)], [0.5] * 8)
        assert choose(found, [1.0], {}).strength == 1.0
        best = replace(found, scorer=np.array(["1", f"{GOOD:g}"] * 4))
        assert choose(best, [1.0], {}).strength == strength


def test_what_harms_the_model_is_refused_though_it_helps_every_other_scorer() -> None:
    """The model scores unseen identities perfectly; held-out scorers match at random."""

    class Solve(Refinement):
        """Right about all identities except those held out."""

        def __call__(self, cell: ScoredCell) -> Refined:
            v, f = (np.asarray(x["input"], np.float64) for x in (cell.voices, cell.faces))
            people = v[cell.voice_index, 0] == f[cell.face_index, 0]
            return Refined(np.where(people == (v[0, 1] == 1), 0.0, 1.0) + 0.01 * cell.distances)

    world = World(6)
    whole = world.reference("M" * 12 + "F" * 12)
    person = np.unique(whole.identity, return_inverse=True)[1]
    seen = ~np.isin(person, [0, 1, 2, 12, 13, 14])
    faces = world.rng.normal(size=(len(person), 24)) * 0.05
    faces[:, 0] = person
    voices = faces.copy()
    voices[:, 1] = seen
    exact = np.eye(24)[person]
    reference = replace(
        whole, seen=seen, voices={"model": exact, "input": voices}, faces={"model": exact, "input": faces}
    )
    outcomes = cross_validate(Solve(), reference, strengths=[1.0], resamples=1)
    by_model = outcomes.scorer == "model"
    assert outcomes.before[by_model].max() < 0.01
    assert (outcomes.after[~by_model] < outcomes.before[~by_model][:, None]).all()
    assert choose(outcomes, [1.0], {}).strength == 0
    alone = cross_validate(Solve(), reference.rows(seen), strengths=[1.0], resamples=1)
    assert choose(alone, [1.0], {}).strength == 1
