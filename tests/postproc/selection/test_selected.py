"""Which alternative is chosen, on which identities, and what the trace records."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from jsonargparse import ArgumentParser

from datamodules.schema import ScoredCell
from postproc import Centring, ChainingClusterCallback, Reference, Refined, Refinement, Selected, Transport, refine
from tests.postproc.synthetic_people import World


class Shuffled(Refinement):
    """Harm: distances in another order."""

    def __call__(self, cell: ScoredCell) -> Refined:
        return Refined(np.random.default_rng(0).permutation(cell.distances))


class Better(Refinement):
    """Right where voices and faces of an identity share their first coordinate, as in :func:`world_of`."""

    def __call__(self, cell: ScoredCell) -> Refined:
        v, f = (np.asarray(x["input"], np.float64) for x in (cell.voices, cell.faces))
        return Refined(abs(v[cell.voice_index, 0] - f[cell.face_index, 0]))


def world_of(seed: int = 3) -> tuple[World, Reference]:
    world = World(seed, blur=2.5)
    reference = world.reference()
    person = np.unique(reference.identity, return_inverse=True)[1]
    sides = []
    for spaces in (reference.voices, reference.faces):
        inputs = spaces["input"].copy()
        inputs[:, 0] = person
        sides.append(spaces | {"input": inputs})
    return world, replace(reference, voices=sides[0], faces=sides[1])


def test_the_best_in_cross_validation_is_chosen_and_the_trace_lists_what_was_tried() -> None:
    world, reference = world_of()
    step = Selected({"shuffled": [Shuffled()], "better": [Centring(), Better()], "worse": [Better(), Shuffled()]})
    assert step.needs_reference
    step.calibrate(reference)
    cell, _ = world.cell()
    refined = step(cell)
    expected = refine(cell, [Centring(), Better()])
    np.testing.assert_array_equal(refined.distances, expected.distances)
    np.testing.assert_array_equal(refined.embeddings["voice"], expected.embeddings["voice"])  # type: ignore[index]
    record = refined.trace["selection"]
    assert record["chosen"] == "better"
    assert record["groups"] == 4
    assert list(record["eer"]) == list(record["eer_sd"]) == ["raw", "shuffled", "better", "worse"]
    assert record["eer"]["better"] == min(record["eer"].values()) < 0.01
    assert [trace["step"] for trace in refined.trace["steps"]] == ["Centring", "Better"]
    json.dumps(record)


def test_scores_are_left_alone_where_nothing_gains() -> None:
    world, reference = world_of()
    step = Selected({"shuffled": [Shuffled()]})
    cell, _ = world.cell()
    assert "not calibrated" in step(cell).trace["unchanged"]
    step.calibrate(reference)
    refined = step(cell)
    assert "raw scores were best" in refined.trace["unchanged"]
    assert refined.trace["selection"]["chosen"] == "raw"
    np.testing.assert_array_equal(refined.distances, cell.distances)
    step.calibrate(reference.rows(np.isin(reference.identity, ["id00", "id12"])))
    assert "make 0 groups" in step(cell).trace["unchanged"]


def test_held_out_identities_are_scored_by_the_model_itself() -> None:
    _, reference = world_of()
    kept = ~np.isin(reference.identity, ["id00", "id01", "id02", "id12", "id13", "id14"])
    seen = []

    class Width(Shuffled):
        def __call__(self, cell: ScoredCell) -> Refined:
            seen.append(cell.voices["model"].shape[1])
            return super().__call__(cell)

    step = Selected({"width": [Width()]}, sets=2)
    step.calibrate(replace(reference, seen=kept))
    of_scorer = 2 + 4 + 8 + 16 + 24  # directions of the embeddings of a held-out scorer; there are 24
    assert seen == [of_scorer] * 6 + [reference.voices["model"].shape[1]] * 2


def test_alternatives_learn_from_other_identities_in_cross_validation_and_from_all_once_chosen() -> None:
    world, reference = world_of()
    owner = {x.tobytes(): p for x, p in zip(reference.voices["input"], reference.identity, strict=True)}
    before = Centring()
    learnt: list[tuple[int, Any]] = []
    overlaps = []

    class Learner(Better):
        def calibrate(self, reference: Reference, before: Any = ()) -> None:
            self.known = set(reference.identity)
            learnt.append((len(self.known), list(before)))

        def __call__(self, cell: ScoredCell) -> Refined:
            overlaps.append(self.known & {owner.get(x.tobytes(), "") for x in cell.voices["input"]})
            return super().__call__(cell)

    step = Selected({"learner": [Learner()]}, sets=1)
    step.calibrate(reference, [before])
    assert [count for count, _ in learnt] == [18] * 4 + [24]
    assert learnt[-1][1] == [before]
    assert len(overlaps) == 4
    assert not any(overlaps)
    step(world.cell()[0])
    assert len(overlaps) == 5


def test_an_alternative_that_cannot_refine_a_cell_says_so() -> None:
    _, reference = world_of()

    class Sometimes(Better):
        def __call__(self, cell: ScoredCell) -> Refined:
            return super().__call__(cell) if len(cell.distances) > 1 else Refined(cell.distances, {"unchanged": "one"})

    step = Selected({"sometimes": [Sometimes()]}, sets=1)
    step.calibrate(reference)
    cell, _ = World(1).cell(trials=1)
    assert step(cell).trace["unchanged"] == "one"


def test_steps_that_read_files_are_bound_to_the_cell() -> None:
    _, reference = world_of()

    class Keyed(Better):
        bound = ""

        def for_cell(self, name: str, keys: Any) -> Refinement:
            self.bound = name
            return self

    keyed = Keyed()
    step = Selected({"keyed": [keyed]}, sets=1)
    step.calibrate(reference)
    step.for_cell("heard", np.array(["k"]))
    assert keyed.bound == "heard"


def test_bad_options_are_refused() -> None:
    refused: list[dict[str, list[Refinement]]] = [{}, {"raw": [Centring()]}, {"empty": []}]
    for alternatives in refused:
        with pytest.raises(ValueError, match="alternatives"):
            Selected(alternatives)
    with pytest.raises(ValueError, match="sets: 0"):
        Selected({"centring": [Centring()]}, sets=0)


def test_the_shipped_config_names_its_alternatives(request: pytest.FixtureRequest) -> None:
    parser = ArgumentParser(parser_mode="omegaconf+", exit_on_error=False)
    parser.add_class_arguments(ChainingClusterCallback, "postproc")
    path = request.config.rootpath / "configs" / "postproc" / "nested.yaml"
    (step,) = parser.instantiate(parser.parse_args(["--postproc", str(path)])).postproc.steps
    default = Selected({"any": [Transport()]})
    assert isinstance(step, Selected)
    assert (step.sets, step.seed) == (default.sets, default.seed)
    assert list(step.alternatives) == ["blocks", "transport", "joint", "best", "matching"]
    assert [type(s).__name__ for s in step.alternatives["best"]] == ["Transport", "JointIdentities"]
