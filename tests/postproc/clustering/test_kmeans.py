"""K-means agrees with scikit-learn on every backend, and refuses what it cannot cluster."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from postproc.clustering import kmeans as module
from postproc.clustering.kmeans import Backend, elbow, kmeans

BACKENDS: list[Backend] = ["cpu", "sklearn", "gpu"] if torch.cuda.is_available() else ["cpu", "sklearn"]


def blobs(k: int = 8, n: int = 600, d: int = 64, noise: float = 0.3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, k, n)
    return rng.normal(size=(k, d))[label] + noise * rng.normal(size=(n, d)), label


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_partition_is_that_of_sklearn(backend: Backend, shift: float) -> None:
    x, label = blobs()
    found = kmeans(x + shift, 8, seed=0, backend=backend)
    oracle = KMeans(8, n_init=10, random_state=0).fit(x)
    assert adjusted_rand_score(found.labels, oracle.labels_) == 1
    assert adjusted_rand_score(found.labels, label) == 1
    assert found.inertia == pytest.approx(oracle.inertia_, rel=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_structure_it_is_as_good_as_sklearn(backend: Backend) -> None:
    x = np.random.default_rng(0).normal(size=(500, 16))
    oracle = KMeans(5, n_init=10, random_state=0).fit(x)
    assert kmeans(x, 5, seed=0, backend=backend).inertia < 1.005 * oracle.inertia_


def test_centres_are_means_and_distances_are_not_squared() -> None:
    x, _ = blobs(n=100)
    found = kmeans(x, 8, seed=0, backend="cpu")
    for k in range(8):
        np.testing.assert_allclose(found.centres[k], x[found.labels == k].mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(found.distances, np.linalg.norm(x - found.centres[found.labels], axis=1), rtol=1e-5)
    assert found.inertia == pytest.approx(np.square(found.distances).sum())
    assert found.sizes.tolist() == np.bincount(found.labels).tolist()


def test_a_seed_decides_the_result_whatever_the_threads() -> None:
    import faiss

    x = np.random.default_rng(0).normal(size=(3000, 32))
    results = []
    threads = faiss.omp_get_max_threads()
    for count in (1, 2):
        faiss.omp_set_num_threads(count)
        results.append(kmeans(x, 6, seed=3, backend="cpu", n_init=1))
    faiss.omp_set_num_threads(threads)
    np.testing.assert_array_equal(results[0].labels, results[1].labels)
    other = kmeans(x, 6, seed=4, backend="cpu", n_init=1)
    assert adjusted_rand_score(results[0].labels, other.labels) < 1


def test_no_point_is_dropped_above_256_per_cluster() -> None:
    x = np.concatenate([np.zeros((2000, 1)), np.full((1, 1), 100.0)])
    found = kmeans(x, 2, seed=0, backend="cpu")
    assert sorted(found.sizes.tolist()) == [1, 2000]


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")  # scikit-learn's own words
@pytest.mark.parametrize("backend", BACKENDS)
def test_identical_points_leave_empty_clusters_and_finite_centres(backend: Backend) -> None:
    x = np.repeat([[1.0, 2.0], [3.0, 4.0]], 5, axis=0)
    with np.errstate(all="raise"):
        found = kmeans(x, 4, seed=0, backend=backend)
    assert np.count_nonzero(found.sizes) == 2
    assert np.isfinite(found.centres).all()
    assert found.inertia == pytest.approx(0, abs=1e-9)


def test_extreme_scales_survive_float32() -> None:
    x = np.array([[1.0], [1.1], [5.0], [5.1]])
    for scale in (1e-200, 1e30, 1e100):
        found = kmeans(x * scale, 2, seed=0, backend="cpu")
        assert found.labels[0] == found.labels[1] != found.labels[2] == found.labels[3]
        np.testing.assert_allclose(found.distances, 0.05 * scale, rtol=1e-4)


@pytest.mark.parametrize(
    ("x", "k", "options", "message"),
    [
        (np.array([[0.0], [np.nan]]), 1, {}, "point 1 is not finite"),
        (np.array([[np.inf], [0.0]]), 1, {}, "point 0 is not finite"),
        (np.zeros((2, 1)), 3, {}, "3 clusters of 2 points"),
        (np.zeros((2, 1)), 0, {}, "0 clusters of 2 points"),
        (np.zeros(3), 1, {}, "needs points"),
        (np.zeros((2, 1)), 1, {"n_init": 0}, "must be positive"),
        (np.zeros((2, 1)), 1, {"backend": "tpu"}, "'tpu' is none of auto, gpu, cpu, sklearn"),
    ],
)
def test_bad_input_is_an_error(x: np.ndarray, k: int, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kmeans(x, k, seed=0, **options)


def test_gpu_without_a_gpu_says_what_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"backend: gpu, but .* set backend: auto or cpu"):
        kmeans(np.zeros((2, 1)), 1, seed=0, backend="gpu")
    assert module.resolve_backend("auto") == "cpu"


def test_elbow_takes_the_number_after_the_largest_drop() -> None:
    x, _ = blobs(k=4, noise=0.05)
    corners = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])[np.arange(80) % 4] * 1.0
    chosen, curve = elbow(corners, [3, 4, 5], seed=0, backend="cpu")
    assert chosen == 4
    assert list(curve) == [3, 4, 5]
    assert curve[3] == pytest.approx(kmeans(corners, 3, seed=0, backend="cpu").distances.sum())
    totals = elbow(x, range(1, 7), seed=0, backend="cpu")[1]
    assert totals == {k: kmeans(x, k, seed=0, backend="cpu").distances.sum() for k in range(1, 7)}
    assert sorted(totals.values(), reverse=True) == list(totals.values())
    with pytest.raises(ValueError, match="increasing"):
        elbow(x, [3], seed=0)
    with pytest.raises(ValueError, match="increasing"):
        elbow(x, [3, 2], seed=0)


@pytest.mark.parametrize("k", [3, 8, 20])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_knee_of_the_curve_is_the_number_of_clusters(k: int, seed: int) -> None:
    x, _ = blobs(k=k, n=15 * k, d=32, seed=seed)
    assert abs(elbow(x, range(1, 33), seed=seed, backend="cpu", n_init=2, rule="knee")[0] - k) <= k // 10
    assert elbow(np.zeros((40, 2)), range(1, 5), seed=0, backend="cpu", rule="knee")[0] == 2  # nothing to see
    assert elbow(x, [1, 2], seed=0, backend="cpu", n_init=1, rule="knee")[0] == 2


def test_many_points_give_the_partition_and_the_elbow_of_a_full_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sampled starts and a warm-started curve must not cost quality where there is something to find."""
    x, label = blobs(k=8, n=4000, d=32)
    found = {}
    for name, limit in (("full", 1 << 20), ("sampled", 300)):
        monkeypatch.setattr(module, "_SAMPLE", limit)
        monkeypatch.setattr(module, "_SAMPLE_PER_CLUSTER", 8)
        monkeypatch.setattr(module, "_ELBOW_EXACT", limit)
        monkeypatch.setattr(module, "_ELBOW_SAMPLE", 1000)
        found[name] = kmeans(x, 8, seed=0, backend="cpu"), elbow(x, range(2, 12), seed=0, backend="cpu", n_init=3)
    assert adjusted_rand_score(found["sampled"][0].labels, label) == 1
    assert found["sampled"][0].inertia == pytest.approx(found["full"][0].inertia, rel=1e-6)
    for k, total in found["full"][1][1].items():
        assert found["sampled"][1][1][k] == pytest.approx(total, rel=0.05)
    noise = np.random.default_rng(0).normal(size=(3000, 16))
    assert kmeans(noise, 5, seed=0).inertia < 1.01 * KMeans(5, n_init=3, random_state=0).fit(noise).inertia_


def test_a_sampled_elbow_sees_bad_points_and_identical_ones() -> None:
    x = np.zeros((3000, 2))
    assert list(elbow(x, range(1, 4), seed=0)[1].values()) == [0, 0, 0]
    x[2999] = np.nan
    with pytest.raises(ValueError, match="point 2999 is not finite"):
        elbow(x, range(1, 4), seed=0)
