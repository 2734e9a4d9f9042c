"""The number of clusters of videos by silhouettes: right on clear clusters, and none where there are none."""

from __future__ import annotations

import numpy as np
import pytest

from postproc.clustering.number import count_by_silhouette


@pytest.mark.parametrize("identities", [2, 7, 40])
def test_clear_clusters_are_counted(identities: int) -> None:
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(identities), rng.integers(1, 9, size=identities))
    centres = rng.normal(size=(identities, 64))
    videos = centres[owner] + 0.3 * rng.normal(size=(len(owner), 64))
    assert abs(count_by_silhouette(videos) - identities) <= 1 + identities // 10  # some have a single video


def test_videos_of_as_many_identities_stay_apart() -> None:
    x = np.random.default_rng(0).normal(size=(300, 64))
    assert count_by_silhouette(x) == 300


@pytest.mark.parametrize("videos", [np.zeros((5, 3)), np.arange(2.0)[:, None]])
def test_too_little_to_cut_is_left_apart(videos: np.ndarray) -> None:
    assert count_by_silhouette(videos) == len(videos)
