"""Re-clustering by FAA between epochs: all clips embedded, pooled by video, k-means; against scikit-learn's KMeans."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from experiments.bench.process import say
from lightning_modules.networks.heads import SharedHeads
from lightning_modules.training.pseudo_identities import STARTS, pool_videos
from postproc.clustering.kmeans import kmeans

Record = dict[str, Any]
DIMS, CLIPS_PER_VIDEO, VIDEOS_PER_PERSON, K = (192, 512), 9, 18, 1000  # VoxCeleb1 of [FAA]
ITERATIONS, BATCH = 50, 1024


def recluster(size: int) -> list[Record]:
    """Wall and CPU seconds over ``size`` synthetic clips, whole and by step: ``who``, ``figure``, ``unit``.

    scikit-learn's k-means stands for ours in the same run; start, number of starts and iterations are the same.
    """
    clips, video = synthetic_clips(size)
    network = SharedHeads(*DIMS).eval()
    with torch.no_grad():
        (voices, faces), embedding = _timed(lambda: _embedded(network, clips))
    videos, pooling = _timed(lambda: pool_videos(voices, faces, video))
    k = min(K, len(videos) // 2)
    say(f"recluster {size}: {len(videos)} videos, {k} clusters")
    other = KMeans(k, n_init=STARTS, max_iter=ITERATIONS, tol=0, random_state=0)
    _, theirs = _timed(lambda: other.fit(videos))
    _, ours = _timed(lambda: kmeans(videos, k, seed=0, n_init=STARTS, n_iter=ITERATIONS))
    totals = {"scikit-learn": embedding + pooling + theirs, "ours": embedding + pooling + ours}
    steps = {"k-means of scikit-learn": theirs, "our k-means": ours, "embedding": embedding, "pooling": pooling}
    return [
        {"who": f"{who}, {clock}", "figure": float(seconds[i]), "unit": "s"}
        for i, clock in enumerate(("wall", "CPU"))
        for who, seconds in (totals | steps).items()
    ]


def synthetic_clips(size: int) -> tuple[list[torch.Tensor], NDArray[np.int64]]:
    """Features (size, d) of voices and faces, and the video (size,) of each clip; identities and videos differ."""
    rng = np.random.default_rng(0)
    videos = max(4, size // CLIPS_PER_VIDEO)
    people = max(2, videos // VIDEOS_PER_PERSON)
    video = np.concatenate([np.arange(videos), rng.integers(videos, size=size - videos)])
    person = rng.integers(people, size=videos)[video]
    features = []
    for width in DIMS:
        x = rng.standard_normal((size, width), dtype=np.float32) * 0.7
        x += 0.7 * rng.standard_normal((videos, width), dtype=np.float32)[video]
        features.append(torch.from_numpy(x + rng.standard_normal((people, width), dtype=np.float32)[person]))
    return features, video


def _embedded(network: SharedHeads, clips: list[torch.Tensor]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    voices = torch.cat([network.voice(x) for x in clips[0].split(BATCH)])
    faces = torch.cat([network.face(x) for x in clips[1].split(BATCH)])
    return voices.numpy(), faces.numpy()


def _timed(work: Callable[[], Any]) -> tuple[Any, NDArray[np.float64]]:
    """What ``work`` gives, and its wall and CPU seconds (2,)."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, np.array([time.perf_counter() - wall, time.process_time() - cpu])
