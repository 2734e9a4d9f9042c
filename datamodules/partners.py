"""Batches of clips and partners that show the same pseudo-identity in another video (FAA's diverse positives)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datamodules.samplers import Pairs, ShuffledPairSampler
from datamodules.schema import DataError


class PartnerPairSampler(ShuffledPairSampler):
    """One pass over all clips per epoch, each followed by a partner: a clip of its group from another video.

    So every batch holds positives of several videos, however many groups there are ([FAA] effective pair selection; how
    batches are made is not from the paper). A group of one video gives another of its clips, or the clip itself.

    Args:
        video: (n,) video of each clip.
        batch_size: clips and partners over all ranks.
        seed: order and partners of an epoch are drawn from (seed, epoch).
        rank: this process.
        world: number of processes.
    """

    def __init__(self, video: NDArray[np.str_], batch_size: int, seed: int = 0, rank: int = 0, world: int = 1) -> None:
        super().__init__(len(video), batch_size // 2, seed, rank, world)
        _, self.video = np.unique(video, return_inverse=True)
        self._group: NDArray[np.int64] | None = None
        self._partners = (-1, np.empty(0, dtype=np.int64))

    def set_groups(self, group: NDArray[np.int64]) -> None:
        """Says which clips belong together from the next batch on: (n,) group of each clip."""
        self._group, self._partners = group, (-1, np.empty(0, dtype=np.int64))

    def batch(self, step: int) -> Pairs:
        if self._group is None:
            raise DataError("data.sampling: partners needs a model that groups the clips, such as FAA; use shuffle")
        if self._partners[0] != self.epoch:
            rng = np.random.default_rng((self.seed, self.epoch, 1))
            self._partners = self.epoch, draw_partners(self._group, self.video, rng)
        partners = self._partners[1]
        return [(clip, clip) for first, _ in super().batch(step) for clip in (first, int(partners[first]))]


def draw_partners(group: NDArray[np.int64], video: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """For each clip, one of the same group and another video, uniformly; where there is none, one of the group.

    Args:
        group: (n,) group of each clip.
        video: (n,) video of each clip.
        rng: draws.

    Returns:
        (n,) clips.
    """
    order = np.lexsort((video, group))  # groups lie together, and in them the clips of a video
    groups, videos = group[order], video[order]
    start, stop = (np.searchsorted(groups, groups, side) for side in ("left", "right"))
    begins = np.concatenate(([True], (np.diff(groups) != 0) | (np.diff(videos) != 0)))
    run = np.cumsum(begins) - 1
    own_start, own = np.flatnonzero(begins)[run], np.bincount(run)[run]
    alone = own == stop - start
    own = np.where(alone, 0, own)
    at = start + np.floor(rng.random(len(group)) * (stop - start - own)).astype(np.int64)
    at += np.where(at >= own_start, own, 0)  # steps over the clips of its own video
    partners = np.empty(len(group), dtype=np.int64)
    partners[order] = order[at]
    return partners
