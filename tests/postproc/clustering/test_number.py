"""How many people a cell is of."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist, squareform
from sklearn.metrics import silhouette_score

from postproc.cells import DegenerateInput
from postproc.clustering import number
from postproc.clustering.number import estimate_identities
from postproc.clustering.partitions import Clustering
from postproc.memory import Memory
from postproc.steps.joint.step import JointIdentities
from tests.postproc.synthetic_people import World


def clips(people: int, each: int, spread: float, seed: int, width: int = 64) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(people, width)) / np.sqrt(width)
    return np.repeat(centres, each, axis=0) + spread * rng.normal(size=(people * each, width)) / np.sqrt(width)


@pytest.mark.parametrize("people", [2, 3, 6, 15, 40])
def test_it_finds_the_number_of_people(people: int) -> None:
    points = {"voice": clips(people, 9, 0.7, 0), "face": clips(people, 14, 0.5, 1, width=96)}
    found = estimate_identities(points)
    assert found == people if people <= 20 else abs(found - people) <= people // 10


def test_one_side_that_falls_into_sessions_is_outvoted() -> None:
    rng = np.random.default_rng(3)
    sessions = np.repeat(clips(6, 8, 0.75, 4), 2, axis=0)
    faces = sessions + 0.05 * rng.normal(size=sessions.shape) / 8
    voices = clips(6, 12, 0.5, 5)
    assert estimate_identities({"voice": faces, "face": faces}) > 20
    assert estimate_identities({"voice": voices, "face": faces}) == 6


@pytest.mark.parametrize("repeated", [0, 4, 20])
def test_each_cut_is_judged_as_scikit_learn_does(repeated: int) -> None:
    x = clips(5, 6, 0.7, 6)
    x[: 2 * repeated : 2] = x[1 : 2 * repeated : 2]  # equal clips, up to fewer different ones than clusters
    square = squareform(pdist(x / np.linalg.norm(x, axis=1, keepdims=True)))
    tree, counts = linkage(squareform(square), "ward"), [2, 5, 9, 15, 24, 29]
    cuts = [fcluster(tree, k, "maxclust") for k in counts]
    expected = [
        silhouette_score(square**2, labels, metric="precomputed") if labels.max() == k else -1
        for k, labels in zip(counts, cuts, strict=True)
    ]
    np.testing.assert_allclose(number._ward_silhouettes(x, counts), expected, atol=1e-12)
    assert (-1 in expected) is (repeated > 0)


def test_neither_the_order_of_the_clips_nor_their_length_matters() -> None:
    points = {"voice": clips(7, 9, 0.9, 7), "face": clips(7, 9, 0.9, 8)}
    rng = np.random.default_rng(0)
    shuffled = {m: 3.0 * x[rng.permutation(len(x))] for m, x in points.items()}
    assert estimate_identities(points) == estimate_identities(shuffled)


def test_of_many_clips_a_sample_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(number, "_SAMPLE", 120)
    points = {"voice": clips(6, 50, 0.6, 9), "face": clips(6, 60, 0.6, 10)}
    assert estimate_identities(points, seed=1) == 6


def test_the_same_clips_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    points, memory = {"voice": clips(6, 9, 0.6, 11), "face": clips(6, 9, 0.6, 12)}, Memory()
    first = estimate_identities(points, memory=memory)
    monkeypatch.setattr(number, "_ward_silhouettes", lambda *args: pytest.fail("counted again"))
    assert estimate_identities({m: x.copy() for m, x in points.items()}, memory=memory) == first
    with pytest.raises(pytest.fail.Exception):
        estimate_identities(points)


def test_repeated_clips_and_few_of_them() -> None:
    same = np.repeat(np.eye(3), 4, axis=0)
    assert estimate_identities({"voice": same, "face": same}) == 3
    with pytest.raises(DegenerateInput, match="5 voices or faces are too few"):
        estimate_identities({"voice": np.eye(5), "face": np.eye(9)})
    assert estimate_identities({"voice": np.eye(6), "face": np.eye(9)}) == 2


def test_every_number_is_tried_up_to_20_and_none_that_cannot_be() -> None:
    assert number._counts(12, 512) == list(range(2, 12))
    assert number._counts(6, 512) == [2, 3, 4, 5]
    grid = number._counts(10**6, 512)
    assert grid[:19] == list(range(2, 21))
    assert grid[-1] <= 512
    assert max(b / a for a, b in pairwise(grid[18:])) <= 1.1


def test_the_steps_take_their_clusters_from_it() -> None:
    people = World()
    cell, _ = people.cell()
    partitions, trace = Clustering(repeats=1)(cell)
    counted = trace["estimated_identities"]
    assert trace["ks"] == sorted({max(2, round(counted * s)) for s in (5 / 6, 1, 7 / 6, 4 / 3, 5 / 3, 2)})
    assert len(partitions) == len(trace["ks"])
    joint = JointIdentities(chains=4, sweeps=2, burn_in=2)
    joint.calibrate(people.reference())
    found = joint(cell).trace
    assert found["estimated_identities"] == counted
    assert max(found["sub_clusters"].values()) <= round(8 / 3 * counted)


def test_more_people_than_can_be_sampled_are_left_alone() -> None:
    people = World()
    cell, _ = people.cell("MF" * 60)
    joint = JointIdentities(chains=2, sweeps=1, burn_in=1)
    joint.calibrate(people.reference())
    assert "identities are too many to sample (96); set sub_clusters" in joint(cell).trace["unchanged"]
    given = JointIdentities(sub_clusters=30, chains=2, sweeps=1, burn_in=1)
    given.calibrate(people.reference())
    assert "unchanged" not in given(cell).trace


@pytest.mark.parametrize("sub_clusters", [1, "elbow"])
def test_atoms_are_a_number_or_counted(sub_clusters: object) -> None:
    with pytest.raises(ValueError, match="take 2 or more, or silhouette"):
        JointIdentities(sub_clusters=sub_clusters)  # type: ignore[arg-type]
