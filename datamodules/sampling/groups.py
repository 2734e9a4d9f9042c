"""Batches of videos or pseudo-identities, for methods that learn without labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datamodules.sampling.samplers import PairBatchSampler, Pairs, steps_of
from datamodules.schema import DataError

Labels = NDArray[np.int64]


class GroupedPairSampler(PairBatchSampler):
    """Batches in which no unit (a video or a pseudo-identity) occurs twice; the model says what the units are.

    Each batch draws units without replacement, and a voice of each, uniformly from its clips. The face is any of the
    unit ([Self-Lifting], whose units are videos), or with diverse positives ([FAA]) one of the voice's pseudo-identity
    from another video; where there is none, any of the pseudo-identity. How batches are made is not from [FAA].

    Args:
        video: (n,) video of each clip.
        batch_size: pairs over all ranks; capped at the number of units and cut to a multiple of ``world``.
        steps_per_epoch: batches per epoch; None = as many as one pass over the clips needs.
        seed: a batch is drawn from (seed, epoch, step).
        rank: rank of this process.
        world: number of processes; they get disjoint units.
    """

    def __init__(
        self,
        video: NDArray[np.str_],
        batch_size: int,
        steps_per_epoch: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        super().__init__(batch_size, seed, rank, world)
        self.batch_size, self.steps = batch_size, steps_of(steps_per_epoch, len(video), batch_size)
        _, self.video = np.unique(video, return_inverse=True)
        self._units: _Groups | None = None
        self._diverse: _Groups | None = None

    def set_groups(self, unit: Labels, diverse: Labels | None) -> None:
        """Sets the (n,) unit of each clip, from the next batch on.

        Args:
            unit: (n,) video or pseudo-identity.
            diverse: (n,) pseudo-identity, in which the faces of diverse positives are drawn; None = any of the unit.

        Raises:
            DataError: a single unit, or fewer units than ranks.
        """
        self._units = _Groups(unit, self.video)
        self._diverse = None if diverse is None else _Groups(diverse, self.video)
        units = len(self._units.count)
        if units < 2:
            raise DataError("contrastive batches need at least 2 pseudo-identities or videos; there is one")
        self.share = self._share(min(self.batch_size, units))

    def __len__(self) -> int:
        return self.steps

    def batch(self, step: int) -> Pairs:
        if self._units is None:
            raise DataError("data.sampling: grouped needs a model that groups the clips, such as FAA; use shuffle")
        rng = np.random.default_rng((self.seed, self.epoch, step))
        units = rng.choice(len(self._units.count), self.share * self.world, replace=False)
        voices = self._units.draw(units, rng)
        faces = self._units.draw(units, rng) if self._diverse is None else self._diverse.draw_other_video(voices, rng)
        part = slice(self.rank * self.share, (self.rank + 1) * self.share)
        return list(zip(voices[part].tolist(), faces[part].tolist(), strict=True))


class _Groups:
    """Clips ordered by group, and in a group by video.

    Args:
        group: (n,) group of each clip, any integers.
        video: (n,) video of each clip.
    """

    def __init__(self, group: Labels, video: Labels) -> None:
        _, code = np.unique(group, return_inverse=True)
        self.order = np.lexsort((video, code))  # the clips of a group are consecutive, and in it those of a video
        self.count = np.bincount(code)
        self.start = np.cumsum(self.count) - self.count
        self.code = code
        begins = np.concatenate(([True], (np.diff(code[self.order]) != 0) | (np.diff(video[self.order]) != 0)))
        run = np.empty(len(group), dtype=np.int64)
        run[self.order] = np.cumsum(begins) - 1  # number of each clip's video within its group
        self.run_start, self.run_count = np.flatnonzero(begins)[run], np.bincount(run)[run]

    def draw(self, groups: Labels, rng: np.random.Generator) -> Labels:
        """A clip of each of some groups, uniform over its clips."""
        clips: Labels = self.order[self.start[groups] + rng.integers(self.count[groups])]
        return clips

    def draw_other_video(self, clips: Labels, rng: np.random.Generator) -> Labels:
        """For each of some clips another of its group from another video; where there is none, any of its group."""
        start, count = self.start[self.code[clips]], self.count[self.code[clips]]
        skipped = np.where(self.run_count[clips] == count, 0, self.run_count[clips])
        at = start + rng.integers(count - skipped)
        partners: Labels = self.order[at + np.where(at >= self.run_start[clips], skipped, 0)]
        return partners
