"""Thresholds from training identities: pure clusters whatever the number of identities, clips and shares."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from datamodules.schema import Modality, ScoredCell
from postproc import BlockAverage, Clustering, Reference, Transport
from postproc.cells import DegenerateInput, unit
from postproc.clustering import linkage as trees
from postproc.clustering.linkage import cut_at
from postproc.clustering.threshold import Thresholds, calibrated_thresholds
from postproc.memory import Memory
from postproc.metrics.clusters import purity

WIDTH = 128
THRESHOLD = Clustering(algorithm="threshold")


def clips(counts: list[int], rng: np.random.Generator, noise: float = 0.06) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (n, d) of identities at random, and the identity of each."""
    person = np.repeat(np.arange(len(counts)), counts)
    people = unit(rng.normal(size=(len(counts), WIDTH)))
    return people[person] + noise * rng.normal(size=(len(person), WIDTH)), person


def reference(people: int = 40, each: int = 12) -> Reference:
    rng = np.random.default_rng(0)
    x, person = clips([each] * people, rng)
    spaces = {"input": x, "model": x}
    names, blank = np.array([f"id{p}" for p in person]), np.full(len(x), "")
    return Reference(spaces, spaces, names, blank, blank, np.ones(len(x), bool))


@pytest.fixture(scope="module")
def thresholds() -> dict[Modality, Thresholds]:
    return calibrated_thresholds(reference(), 0, Memory())


@pytest.mark.parametrize(
    "counts", [[1] * 6, [1] * 40, [2] * 30, [8] * 4, [30] * 12, [90, *[7] * 30], [60, 1, 1, 20, 3]]
)
def test_the_thresholds_hold_for_other_numbers_of_identities_and_clips(
    thresholds: dict[Modality, Thresholds], counts: list[int]
) -> None:
    x, person = clips(counts, np.random.default_rng(1))
    of = thresholds["voice"]
    for labels in cut_at(of.centred(unit(x), "voice"), of.distances, 0):
        assert purity(labels, person) >= 0.7
        assert len(counts) * 0.7 <= labels.max() + 1 <= len(counts) * 1.6
    assert list(of.distances) == sorted(of.distances)


def test_identities_with_one_clip_each_are_enough_and_no_identities_are_not() -> None:
    whole = reference()
    single = whole.rows(np.unique(whole.identity, return_index=True)[1])
    x, person = clips([5] * 10, np.random.default_rng(2))
    found = calibrated_thresholds(single, 0, Memory())
    centred = found["face"].centred(unit(x), "face")
    assert adjusted_rand_score(cut_at(centred, [found["face"].distances[1]], 0)[0], person) > 0.8
    assert not found["face"].same, "nothing says when two clusters are of one identity"
    with pytest.raises(DegenerateInput, match="3 training identities"):
        calibrated_thresholds(whole.rows(np.isin(whole.identity, ["id0", "id1", "id2"])), 0, Memory())
    with pytest.raises(DegenerateInput, match="encoder embeddings"):
        calibrated_thresholds(replace(whole, voices={"model": whole.voices["model"]}), 0, Memory())


def test_more_items_than_a_tree_takes_are_cut_at_the_same_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    x, _ = clips([20] * 6, np.random.default_rng(3))
    whole = cut_at(unit(x), [0.5], 0)[0]
    monkeypatch.setattr(trees, "LARGEST_TREE", 50)
    monkeypatch.setattr(trees, "_MICRO", 40)
    np.testing.assert_array_equal(cut_at(unit(x), [0.5], 0)[0], whole)


def cell(counts: list[int]) -> ScoredCell:
    rng = np.random.default_rng(4)
    x, _ = clips(counts, rng)
    spaces = {"input": x, "model": x}
    voice, face = (index.ravel() for index in np.indices((len(x), len(x))))
    return ScoredCell(1 - (unit(x) @ unit(x).T).ravel(), voice, face, spaces, spaces)


@pytest.mark.parametrize("step", [BlockAverage(THRESHOLD), Transport(THRESHOLD)])
def test_steps_cut_at_the_thresholds_and_say_why_not_where_they_have_none(step: BlockAverage) -> None:
    step.calibrate(reference())
    trace = step(cell([6] * 5)).trace
    assert trace["clusters"]["voice"][1] == 5
    assert "threshold_fallback" not in trace
    bare = reference()
    bare = replace(bare, voices={"model": bare.voices["model"]})
    step.calibrate(bare)
    trace = step(cell([6] * 5)).trace
    assert "estimated_identities" in trace
    assert "encoder embeddings" in trace["threshold_fallback"]


def test_one_identity_is_one_cluster_and_leaves_the_scores_unchanged() -> None:
    step = Transport(THRESHOLD)
    step.calibrate(reference())
    assert "one cluster" in step(cell([20])).trace["unchanged"]
