"""How many clusters there are, by silhouette."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score

from postproc.clustering.number import silhouette


def blobs(count: int, size: int, spread: float = 0.1, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.repeat(np.eye(count, 10), size, axis=0) + spread * rng.normal(size=(count * size, 10))


@pytest.mark.parametrize("count", [2, 4, 7])
def test_it_finds_the_number_of_groups(count: int) -> None:
    chosen, curve = silhouette(blobs(count, 30), range(2, 10), seed=0, backend="cpu")
    assert chosen == count
    assert list(curve) == list(range(2, 10))


def test_it_is_the_mean_silhouette_of_scikit_learn() -> None:
    x = blobs(3, 20)
    labels = KMeans(3, n_init=10, random_state=0).fit_predict(x)
    assert silhouette(x, [3], seed=0, backend="cpu")[1][3] == pytest.approx(silhouette_score(x, labels), abs=1e-9)


def test_of_many_points_a_sample_is_judged() -> None:
    chosen, curve = silhouette(blobs(5, 4000), [4, 5, 6], seed=0, backend="cpu", n_init=3)
    assert chosen == 5
    assert curve == silhouette(blobs(5, 4000), [4, 5, 6], seed=0, backend="cpu", n_init=3)[1]


def test_more_clusters_than_distinct_points_are_never_chosen() -> None:
    x = np.repeat(np.eye(3), 4, axis=0)
    chosen, curve = silhouette(x, [2, 3, 4, 5], seed=0, backend="cpu")
    assert chosen == 3
    assert curve[4] == curve[5] == -1


@pytest.mark.parametrize("ks", [[], [1, 2], [5]])
def test_what_has_no_silhouette_is_refused(ks: list[int]) -> None:
    with pytest.raises(ValueError, match="takes 2 to 4 clusters"):
        silhouette(np.eye(5), ks, seed=0)
