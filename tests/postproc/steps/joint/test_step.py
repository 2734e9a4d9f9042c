"""Joint identities of voices and faces: marginal likelihood and sampler against exact values, gains, limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.stats import multivariate_normal
from sklearn.metrics import adjusted_rand_score

from datamodules.schema import ScoredCell
from postproc import JointIdentities, Transport
from postproc.clustering import linkage as trees
from postproc.clustering.kmeans import cluster_means
from postproc.clustering.linkage import LARGEST_TREE, cut, link
from postproc.metrics import eer
from postproc.steps.joint.gibbs import Prior, SubClusters, sample_identities
from postproc.steps.joint.plda import fit_plda, log_evidence
from postproc.steps.joint.step import centred_similarity
from tests.postproc.synthetic_people import World

QUICK: dict[str, Any] = {"chains": 4, "sweeps": 30, "burn_in": 20}


def error(distances: np.ndarray, labels: np.ndarray) -> float:
    return eer(distances, labels, direction="distance").eer


def calibrated(world: World, **options: Any) -> JointIdentities:
    step = JointIdentities(**QUICK | options)
    step.calibrate(world.reference())
    return step


def listed(cell: ScoredCell, rows: np.ndarray) -> ScoredCell:
    return replace(
        cell, distances=cell.distances[rows], voice_index=cell.voice_index[rows], face_index=cell.face_index[rows]
    )


def test_evidence_is_the_ratio_of_normal_densities() -> None:
    rng = np.random.default_rng(0)
    clips, ratio = rng.normal(size=(4, 3)), 1.7
    # of one person a direction's clips are normal with covariance I + ratio; of the average person with I
    one = sum(multivariate_normal(np.zeros(4), np.eye(4) + ratio).logpdf(clips[:, d]) for d in range(3))
    average = sum(multivariate_normal(np.zeros(4), np.eye(4)).logpdf(clips[:, d]) for d in range(3))
    square = np.sum(clips.sum(axis=0) ** 2)
    found = log_evidence(square, np.array(4.0), ratio, 3)
    np.testing.assert_allclose(found, one - average)
    assert log_evidence(np.array(0.0), np.array(0.0), ratio, 3) == 0


def test_plda_finds_the_variances_that_made_the_clips() -> None:
    rng = np.random.default_rng(1)
    person = rng.integers(300, size=3000)  # some have few clips, some many
    x = 5 * np.eye(40)[0] + (rng.normal(size=(300, 40)) * 0.6)[person] + rng.normal(size=(3000, 40)) * 0.4
    plda = fit_plda(x, person.astype(str), "voice")
    assert plda.ratio == pytest.approx(0.6**2 / 0.4**2, rel=0.1)
    length = 40 * (0.6**2 + 0.4**2)  # of the clips before they are scaled to unit length
    assert plda.within == pytest.approx(40 * 0.4**2 / length, rel=0.1)


def partitions(items: list[int]) -> Iterator[list[list[int]]]:
    if not items:
        yield []
        return
    for rest in partitions(items[1:]):
        yield [[items[0]], *rest]
        for at, block in enumerate(rest):
            yield [*rest[:at], [items[0], *block], *rest[at + 1 :]]


@pytest.mark.parametrize("heat", [1.0, 4.0])
def test_the_sampler_draws_from_the_weights_of_all_partitions(heat: float) -> None:
    rng = np.random.default_rng(3)
    sums = [rng.normal(size=(3, 4)) * 1.5 for _ in range(2)]
    count = [rng.uniform(0.5, 3, size=3) for _ in sums]
    ratio, width = (0.8, 1.3), (4, 6)
    similarity, prior = rng.normal(size=(3, 3)) * 0.2, Prior(temperature=0.2, identity_cost=0.5, unpaired_cost=0.7)
    together, people, total = np.zeros((3, 3)), 0.0, 0.0
    for blocks in partitions(list(range(6))):
        log = 0.0
        for block in blocks:
            sides = [a for a in block if a < 3], [a - 3 for a in block if a >= 3]
            for s, (of, n) in enumerate(zip(sums, count, strict=True)):
                square, own = np.sum(of[sides[s]].sum(axis=0) ** 2), n[sides[s]].sum()
                log += float(log_evidence(square, own, ratio[s], width[s]))
            log -= prior.identity_cost + prior.unpaired_cost * (not (sides[0] and sides[1]))
            if sides[0] and sides[1]:
                a, b = count[0][sides[0]], count[1][sides[1]]
                log += a @ similarity[np.ix_(*sides)] @ b / (a.sum() * b.sum()) / prior.temperature
        weight = np.exp(log)
        total += weight
        people += weight * len(blocks)
        for block in blocks:
            together[np.ix_([a for a in block if a < 3], [a - 3 for a in block if a >= 3])] += weight
    sub_clusters = [SubClusters(x @ x.T, n, r, w) for x, n, r, w in zip(sums, count, ratio, width, strict=True)]
    posterior, drawn = sample_identities(
        (sub_clusters[0], sub_clusters[1]), similarity, prior, chains=64, sweeps=400, burn_in=40, heat=heat, seed=0
    )
    np.testing.assert_allclose(posterior, together / total, atol=0.02)
    assert drawn.mean() == pytest.approx(people / total, abs=0.04)


def test_joint_identities_gain_more_than_blocks_matched_after_clustering() -> None:
    gains = []
    for seed in range(6):
        world = World(seed)
        cell, labels = world.cell()
        raw = error(cell.distances, labels)
        steps = calibrated(world), Transport()
        gains.append([raw - error(step(cell).distances, labels) for step in steps])
    joint, transport = np.mean(gains, axis=0)
    assert joint > 0.05
    assert joint > transport - 0.005


def test_a_pair_is_scored_the_same_whichever_other_pairs_are_listed() -> None:
    world = World(5)
    cell, _ = world.cell()
    step, few = calibrated(world), np.arange(0, 3000, 7)
    np.testing.assert_array_equal(step(listed(cell, few)).distances, step(cell).distances[few])


def test_the_order_of_voices_and_faces_does_not_matter_and_the_seed_does() -> None:
    world = World(6)
    cell, _ = world.cell()
    step, rng = calibrated(world), np.random.default_rng(0)
    v, f = (rng.permutation(len(spaces["model"])) for spaces in (cell.voices, cell.faces))
    voices, faces = ({s: x[order] for s, x in spaces.items()} for spaces, order in ((cell.voices, v), (cell.faces, f)))
    turned = ScoredCell(cell.distances, np.argsort(v)[cell.voice_index], np.argsort(f)[cell.face_index], voices, faces)
    once = step(cell).distances
    np.testing.assert_allclose(step(turned).distances, once, atol=1e-9)
    np.testing.assert_array_equal(step(cell).distances, once)
    assert (calibrated(world, seed=1)(cell).distances != once).any()


def test_identities_without_faces_get_none() -> None:
    world = World(8, noise=0.3)
    traits, _ = world.people("MMMFFF")
    (pv, mv, iv), (pf, mf, jf) = world.clips(traits, np.full(6, 20), 0), world.clips(traits[:4], np.full(4, 20), 1)
    voice, face = (i.ravel() for i in np.indices((len(mv), len(mf))))
    cell = ScoredCell(1 - (mv @ mf.T).ravel(), voice, face, {"model": mv, "input": iv}, {"model": mf, "input": jf})
    refined = calibrated(world)(cell)
    assert error(refined.distances, (pv[voice] == pf[face]).astype(np.int8)) < 0.05
    assert refined.trace["identities"] == pytest.approx(6, abs=0.5)


def test_clusters_are_linked_as_all_their_items_would_be() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 8))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    tree = linkage(x, "average", metric="cosine")
    micro = fcluster(tree, 25, "maxclust") - 1
    means, sizes = cluster_means(x, micro), np.bincount(micro)
    assert len(np.unique(sizes)) > 1
    for clusters in (2, 7, 16):
        expected = fcluster(tree, clusters, "maxclust")
        assert adjusted_rand_score(link(means, sizes, clusters)[micro], expected) == 1
    assert adjusted_rand_score(link(means, np.ones(25, int), 7)[micro], fcluster(tree, 7, "maxclust")) < 1


def test_more_items_than_a_tree_takes_make_the_same_people(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(2)
    cell, labels = world.cell()
    step = calibrated(world)
    exact = step(cell)
    monkeypatch.setattr(trees, "LARGEST_TREE", 50)
    monkeypatch.setattr(trees, "_MICRO", 30)
    linked = step(cell)
    assert linked.trace["identities"] == pytest.approx(exact.trace["identities"], abs=0.5)
    assert error(linked.distances, labels) == pytest.approx(error(exact.distances, labels), abs=0.03)


def test_atoms_are_numbered_by_what_is_in_them_and_pure_also_above_the_limit() -> None:
    rng = np.random.default_rng(0)
    person = rng.integers(5, size=LARGEST_TREE + 100)
    x = np.eye(8)[person] + 0.1 * rng.normal(size=(len(person), 8))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    order = rng.permutation(400)
    for some in (slice(400), slice(None)):
        labels = cut(x[some], 12, 0)
        assert len(np.unique(labels)) == labels.max() + 1 <= 12
        for atom in range(labels.max() + 1):
            assert len(np.unique(person[some][labels == atom])) == 1
    np.testing.assert_array_equal(cut(x[:400][order], 12, 0), cut(x[:400], 12, 0)[order])


def test_similarity_is_free_of_what_an_atom_has_with_all_others() -> None:
    cell, _ = World(2).cell()
    learnt: Any = {"voice": cell.voices["model"], "face": cell.faces["model"]}
    labels: Any = {m: np.arange(len(x)) % 5 for m, x in learnt.items()}
    found = centred_similarity(learnt, labels)
    a, b = (np.sqrt(np.bincount(labels[m])) for m in ("voice", "face"))
    np.testing.assert_allclose(found @ b, 0, atol=1e-12)
    np.testing.assert_allclose(a @ found, 0, atol=1e-12)
    first = np.ix_(labels["voice"] == 0, labels["face"] == 2), np.ix_(labels["voice"] == 1, labels["face"] == 2)
    pairs = learnt["voice"] @ learnt["face"].T
    share = b / b.sum()
    of = [np.array([pairs[np.ix_(labels["voice"] == i, labels["face"] == j)].mean() for j in range(5)]) for i in (0, 1)]
    expected = pairs[first[0]].mean() - pairs[first[1]].mean() - (of[0] - of[1]) @ share
    assert found[0, 2] - found[1, 2] == pytest.approx(expected)


def test_without_usable_training_people_scores_are_left_alone() -> None:
    world = World(4)
    cell, _ = world.cell()
    step, reference = JointIdentities(**QUICK), world.reference("MMFF", clips=3)
    assert step.needs_reference
    _, first = np.unique(reference.identity, return_index=True)
    for people, why in (
        (None, "not fitted"),
        (reference.rows(reference.identity < "id02"), "2 training identities"),
        (reference.rows(first), "4 training identities with 4 clips"),
        (replace(reference, faces={s: np.ones_like(x) for s, x in reference.faces.items()}), "zero"),
    ):
        if people is not None:
            step.calibrate(people)
        refined = step(cell)
        assert why in refined.trace["unchanged"]
        np.testing.assert_array_equal(refined.distances, cell.distances)


def test_without_input_embeddings_the_learnt_ones_are_clustered() -> None:
    world = World(4, noise=0.5)
    cell, labels = world.cell()
    reference = world.reference()
    bare = replace(reference, voices={"model": reference.voices["model"]}, faces={"model": reference.faces["model"]})
    step = JointIdentities(**QUICK)
    step.calibrate(bare)
    refined = step(cell)
    assert refined.trace["space"] == "model"
    assert error(refined.distances, labels) < error(cell.distances, labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sub_clusters": 1}, "sub_clusters"),
        ({"space": "raw"}, "space"),
        ({"clip_weight": 0.0}, "clip_weight"),
        ({"session": -1.0}, "session"),
        ({"temperature": 0.0}, "temperature"),
        ({"unpaired_cost": float("nan")}, "unpaired_cost"),
        ({"chains": 0}, "chains"),
    ],
)
def test_options_out_of_range_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JointIdentities(**options)
