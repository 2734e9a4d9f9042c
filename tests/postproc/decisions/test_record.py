"""What is said of a test condition: both sides, the gain to expect, ranks under another list, and the doubts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from datamodules.schema import ScoredCell
from postproc import (
    BlockAverage,
    Centring,
    Clustering,
    Fusion,
    Guarded,
    Matching,
    Reference,
    Refined,
    Refinement,
    Transport,
)
from postproc.cells import scored_cell
from postproc.clustering.threshold import calibrated_thresholds
from postproc.decisions.gain import expected_gain
from postproc.decisions.pairing import rank_agreement
from postproc.decisions.record import Record, refine_and_record
from postproc.decisions.sides import Sides, estimate_sides
from postproc.memory import Memory
from postproc.refinement import Gain, refine
from tests.experiments.saved import embeddings_of, world
from tests.postproc.steps.test_matching import Vague

QUICK = Clustering(repeats=1)


@pytest.fixture(scope="module")
def known() -> tuple[Vague, Reference]:
    of = Vague(5, apart=0.1)
    return of, of.reference()


def cell_of(of: Vague, voices: list[int], faces: list[int]) -> ScoredCell:
    """A test condition of as many identities as there are numbers, each the clips of one; 0 = none."""
    traits, _ = of.people("MF" * (len(voices) // 2))
    sides = [of.clips(traits, np.array(counts), m) for m, counts in enumerate((voices, faces))]
    (_, mv, iv), (_, mf, jf) = sides
    voice, face = (i.ravel() for i in np.indices((len(mv), len(mf))))
    return ScoredCell(1 - (mv @ mf.T).ravel(), voice, face, {"model": mv, "input": iv}, {"model": mf, "input": jf})


def sides_of(of: Vague, reference: Reference, voices: list[int], faces: list[int]) -> Sides:
    thresholds = calibrated_thresholds(reference, 0, Memory())
    return estimate_sides(cell_of(of, voices, faces), thresholds, Memory(), 0)


def test_the_identities_of_both_sides_are_counted_and_matched(known: tuple[Vague, Reference]) -> None:
    sides = sides_of(*known, [9, 14, 20, 8, 12, 30], [25, 8, 9, 16, 11, 10])
    for m in ("voice", "face"):
        assert sides.identities[m] == pytest.approx(6, abs=2.5)
        assert sides.sizes[m].sum() == len(sides.clusters[m])
    assert sides.similarity.shape == tuple(len(sizes) for sizes in sides.sizes.values())
    assert sides.matched() > 0.5
    assert all(sides.similarity[a, b] == max(*sides.similarity[a], *sides.similarity[:, b]) for a, b in sides.pairs())
    assert sides.doubts() == {}


@pytest.mark.parametrize(
    ("voices", "faces", "kind"),
    [
        ([9, 14, 20, 8, 12, 30], [25, 8, 9, 0, 0, 0], "identities"),
        ([1, 1, 1, 1, 1, 1], [9, 14, 20, 8, 12, 30], "clips"),
    ],
)
def test_what_is_not_as_assumed_is_doubted(
    known: tuple[Vague, Reference], voices: list[int], faces: list[int], kind: str
) -> None:
    assert kind in sides_of(*known, voices, faces).doubts()


@pytest.mark.parametrize(
    ("voices", "faces", "told"),
    [([8, 20, 40], [20, 41, 7], True), ([8, 20, 40], [30, 28, 10], False), ([20, 20, 20], [20, 20, 20], False)],
)
def test_equal_sizes_of_both_sides_may_tell_who_is_who(voices: list[int], faces: list[int], told: bool) -> None:
    clusters = {"voice": np.repeat([0, 1, 2], voices), "face": np.repeat([0, 1, 2], faces)}
    assert ("sizes" in Sides({"voice": 3.0, "face": 3.0}, clusters, np.eye(3)).doubts()) is told  # type: ignore[arg-type]


class Listed(Refinement):
    """Ranks a pair by its place in the list, as no refinement may."""

    def __call__(self, cell: ScoredCell) -> Refined:
        return Refined(np.arange(len(cell.distances), dtype=float))


def test_ranks_that_depend_on_the_list_are_found(known: tuple[Vague, Reference]) -> None:
    cell = cell_of(known[0], [9, 14, 20, 8], [25, 8, 9, 16])
    for step, same in ((Transport(QUICK), True), (BlockAverage(QUICK), True), (Listed(), False)):
        agreement = rank_agreement(cell, [step], refine(cell, [step]))
        assert agreement is not None
        assert (agreement > 0.999) is same
    few = replace(cell, distances=cell.distances[:9], voice_index=cell.voice_index[:9], face_index=cell.face_index[:9])
    assert rank_agreement(few, [Transport(QUICK)], refine(few, [Listed()])) is None


def test_the_gain_is_that_of_identities_nothing_was_fitted_on(known: tuple[Vague, Reference]) -> None:
    reference = Vague(5).reference()
    gain = expected_gain([Transport(QUICK)], reference)
    assert gain is not None
    assert gain.low < gain.change < gain.high
    assert gain.change < 0
    assert expected_gain([Transport(QUICK)], None) is None
    assert expected_gain([Transport(QUICK)], reference.rows(reference.identity == reference.identity[0])) is None
    assert expected_gain([Fusion(["scores.parquet"])], reference) is None  # no scores of other runs for these sets
    matching = Matching()
    matching.calibrate(reference)
    assert expected_gain([matching], reference) == matching.gain is not None
    assert expected_gain([Centring(1.0), Guarded(Transport(QUICK))], reference) is None


def test_the_interval_is_that_of_t() -> None:
    gain = Gain.of([-0.01, -0.03, -0.02])
    assert gain is not None
    assert gain.groups == 3
    assert gain.high - gain.change == pytest.approx(4.302653 * 0.01 / np.sqrt(3), rel=1e-5)
    assert Gain.of([-0.1]) is None


def recorded(steps: list[Refinement], reference: Reference | None, lines: list[str]) -> Iterator[tuple[str, Record]]:
    evaluation = world({"heard": "English", "unheard": "Urdu"})
    embeddings = embeddings_of(evaluation)
    scored = []
    for name, cell in evaluation.cells.items():
        pairs = embeddings["voice"][cell.voice_index], embeddings["face"][cell.face_index]
        scored.append((name, scored_cell(evaluation, name, 1 - np.einsum("td,td->t", *pairs), embeddings)))
    for name, _, record in refine_and_record(evaluation, scored, steps, reference, warn=lines.append, memory=Memory()):
        yield name, record


def test_a_doubt_is_recorded_and_warned_of() -> None:
    lines: list[str] = []
    for name, record in recorded([Listed()], None, lines):
        assert set(record["doubts"]) == {"list"}
        assert record["identities"] is None
        assert "keep_reference" in record["why"]
        assert [line for line in lines if name in line and "ranks depend on which pairs" in line]


def test_nothing_is_doubted_where_nothing_is_refined() -> None:
    lines: list[str] = []
    assert [record for _, record in recorded([], None, lines)] == [{}, {}]
    assert not lines
