"""Samplers that shard themselves over DDP ranks and draw from (seed, epoch, step) only.

Every rank draws the same global batch and keeps its own share, so nothing has to be communicated. Training samplers
address a batch by its step: a resumed run starts at any step without drawing the batches before it.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from datamodules.schema import DataError

Pairs = list[tuple[int, int]]
"""A batch: (voice position, face position) in the rows of a ``TrainingSet``."""


class EvenShardSampler(Sampler[int]):
    """Rows rank, rank + world, ... of an evaluation set, without padding.

    Lightning's own sampler pads the set to a multiple of the ranks, which repeats items and moves the EER. Only a rank
    that would be empty repeats one item, so that it enters the evaluation loop and its collectives; the embedding bank
    writes by index, so the repetition changes nothing.

    Args:
        size: number of items, at least 1.
        rank: this process.
        world: number of processes.
    """

    def __init__(self, size: int, rank: int = 0, world: int = 1) -> None:
        if size < 1:
            raise DataError("an evaluation set without items cannot be sharded; check the trial lists")
        self.rows = range(rank, size, world) if rank < size else range(rank % size, rank % size + 1)

    def __iter__(self) -> Iterator[int]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


class PairBatchSampler(Sampler[Pairs], ABC):
    """Base of the training samplers: ``len`` batches per epoch, the same number on every rank.

    Attributes:
        epoch: set by Lightning through :meth:`set_epoch` before each epoch.
        start: first step of an iteration; set by the loader, 0 but after a resume in the middle of an epoch.
    """

    def __init__(self, batch_size: int, seed: int, rank: int, world: int) -> None:
        if seed < 0:
            raise DataError(f"data.seed: {seed} is negative; give 0 or more")
        if batch_size < 1:
            raise DataError(f"data.batch_size: {batch_size} is not a number of pairs; give 1 or more")
        self.seed, self.rank, self.world = seed, rank, world
        self.epoch = self.start = 0

    @property
    def sampler(self) -> PairBatchSampler:
        """Itself: Lightning looks for ``set_epoch`` on ``loader.batch_sampler.sampler``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    @abstractmethod
    def batch(self, step: int) -> Pairs:
        """This rank's share of a batch of the current epoch."""

    @abstractmethod
    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Pairs]:
        return (self.batch(step) for step in range(self.start, len(self)))

    def _share(self, batch_size: int) -> int:
        """Pairs per rank of a global batch: equal on all ranks, or gathered negatives and mean gradients are wrong."""
        share = batch_size // self.world
        if share < 1:
            raise DataError(f"a batch of {batch_size} cannot be split over {self.world} ranks; use fewer devices")
        if share * self.world != batch_size and self.rank == 0:
            warnings.warn(
                f"batch of {batch_size} is cut to {share * self.world} = {share} on each of {self.world} ranks",
                stacklevel=3,
            )
        return share


class IdentityBatchSampler(PairBatchSampler):
    """Batches in which no identity occurs twice, so that every other pair of the batch is a true negative (SCC).

    Each batch draws identities without replacement, and for each a voice and a face independently and uniformly over
    its clips: any video, any of its languages. Where identities speak several languages, the languages are balanced
    over the batch, for voices and faces independently. (Not from the paper, which leaves the sampling open.)

    Args:
        identity: (n,) class index of each clip.
        language: (n,) language of each clip.
        batch_size: pairs over all ranks; capped at the number of identities and cut to a multiple of ``world``.
        steps_per_epoch: batches per epoch; None = as many as one pass over the clips has.
        seed: batch ``step`` of epoch ``epoch`` is drawn from (seed, epoch, step).
        rank: this process.
        world: number of processes; they get disjoint identities.
    """

    def __init__(
        self,
        identity: NDArray[np.int64],
        language: NDArray[np.str_],
        batch_size: int,
        steps_per_epoch: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        super().__init__(batch_size, seed, rank, world)
        _, person = np.unique(identity, return_inverse=True)
        _, spoken = np.unique(language, return_inverse=True)
        self.identities, self.languages = int(person.max()) + 1, int(spoken.max()) + 1
        if self.identities < 2:
            raise DataError("identity sampling needs 2 training identities or more; there is one")
        if self.identities < batch_size and rank == 0:
            warnings.warn(
                f"batch_size {batch_size} is cut to {self.identities}: identity sampling draws each of the "
                f"{self.identities} training identities at most once per batch",
                stacklevel=2,
            )
        self.share = self._share(min(batch_size, self.identities))
        if steps_per_epoch is not None and steps_per_epoch < 1:
            raise DataError(f"data.steps_per_epoch: {steps_per_epoch} is not a number of batches; give 1 or more")
        self.steps = steps_per_epoch or -(-len(identity) // (self.share * world))
        group = person * self.languages + spoken
        self.clips = np.argsort(group, kind="stable")
        """Clips by (identity, language); ``self.stop - self.count`` is where each group begins."""
        self.count = np.bincount(group, minlength=self.identities * self.languages).reshape(self.identities, -1)
        self.stop = np.cumsum(self.count).reshape(self.count.shape)

    def __len__(self) -> int:
        return self.steps

    def batch(self, step: int) -> Pairs:
        rng = np.random.default_rng((self.seed, self.epoch, step))
        people = rng.choice(self.identities, self.share * self.world, replace=False)
        voices, faces = self._draw(people, rng), self._draw(people, rng)
        mine = slice(self.rank * self.share, (self.rank + 1) * self.share)
        return list(zip(voices[mine].tolist(), faces[mine].tolist(), strict=True))

    def _draw(self, people: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """One clip of each person, uniform over the clips of the language that :meth:`_spread` gives it."""
        spoken = self._spread(self.count[people] > 0, rng)
        stop, count = self.stop[people, spoken], self.count[people, spoken]
        return self.clips[stop - 1 - rng.integers(count)]

    def _spread(self, speaks: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64]:
        """Gives each row one of its languages, the rarest so far first: (batch, languages) -> (batch,)."""
        chosen = speaks.argmax(axis=1)
        several = np.flatnonzero(speaks.sum(axis=1) > 1)
        used = np.bincount(np.delete(chosen, several), minlength=self.languages).astype(np.float64)
        for row in rng.permutation(several):
            cost = np.where(speaks[row], used + rng.random(self.languages) / 2, np.inf)  # ties fall at random
            chosen[row] = cost.argmin()
            used[chosen[row]] += 1
        return chosen


class ShuffledPairSampler(PairBatchSampler):
    """One pass over all clips per epoch in a new order; voice and face of a pair are of the same clip (FOP).

    The last, partial batch is kept if every rank gets at least 2 pairs of it (batch normalisation needs two), else
    dropped; what is dropped differs from epoch to epoch.

    Args:
        size: number of clips.
        batch_size: pairs over all ranks, cut to a multiple of ``world``.
        seed: the order of an epoch is drawn from (seed, epoch).
        rank: this process.
        world: number of processes.
    """

    def __init__(self, size: int, batch_size: int, seed: int = 0, rank: int = 0, world: int = 1) -> None:
        super().__init__(batch_size, seed, rank, world)
        self.size, self.share = size, self._share(batch_size)
        self.full, left = divmod(size, self.share * world)
        self.last = left // world if left // world >= 2 else 0
        if self.full + self.last == 0:
            raise DataError(f"{size} training clips are too few for batches on {world} ranks; give 2 per rank or more")
        self._drawn = (-1, np.empty(0, dtype=np.int64))

    def __len__(self) -> int:
        return self.full + (self.last > 0)

    def batch(self, step: int) -> Pairs:
        share = self.share if step < self.full else self.last
        start = step * self.share * self.world + self.rank * share
        return [(i, i) for i in self._order(self.epoch)[start : start + share].tolist()]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if self._drawn[0] != epoch:
            self._drawn = epoch, np.random.default_rng((self.seed, epoch)).permutation(self.size)
        return self._drawn[1]


class OncePairSampler(PairBatchSampler):
    """Every clip exactly once per epoch, in order, for closed-form methods that sum over the training set.

    DDP wants the same number of batches on every rank, and none may be empty. So the clips are cut into
    ``steps * world`` runs whose lengths differ by at most one, with ``steps = min(ceil(size / batch_size),
    size // world)``: nothing is repeated, padded or dropped.

    Args:
        size: number of clips, at least ``world``.
        batch_size: largest number of pairs over all ranks, where it leaves at least one to each rank.
        rank: this process.
        world: number of processes.
    """

    def __init__(self, size: int, batch_size: int, rank: int = 0, world: int = 1) -> None:
        super().__init__(batch_size, 0, rank, world)
        if size < world:
            raise DataError(f"{size} training clips cannot be split over {world} ranks; use fewer devices")
        self.size, self.steps = size, min(-(-size // batch_size), size // world)

    def __len__(self) -> int:
        return self.steps

    def batch(self, step: int) -> Pairs:
        runs, run = self.steps * self.world, step * self.world + self.rank
        return [(i, i) for i in range(run * self.size // runs, (run + 1) * self.size // runs)]


class OtherVideoSampler(ShuffledPairSampler):
    """One pass over all clips per epoch, each followed by a positive: a clip of its group from another video.

    So every batch holds positives from several videos, however many groups there are ([FAA], effective pair selection;
    how batches are made is not from the paper). In a group with only one video the positive is another clip of that
    video, or the clip itself.

    Args:
        video: (n,) video of each clip.
        batch_size: clips and their positives, over all ranks.
        seed: order and positives of an epoch are drawn from (seed, epoch).
        rank: this process.
        world: number of processes.
    """

    def __init__(self, video: NDArray[np.str_], batch_size: int, seed: int = 0, rank: int = 0, world: int = 1) -> None:
        super().__init__(len(video), batch_size // 2, seed, rank, world)
        _, self.video = np.unique(video, return_inverse=True)
        self._group: NDArray[np.int64] | None = None
        self._positives = (-1, np.empty(0, dtype=np.int64))

    def set_groups(self, group: NDArray[np.int64]) -> None:
        """Says which clips belong together from the next batch on: (n,) group of each clip."""
        self._group, self._positives = group, (-1, np.empty(0, dtype=np.int64))

    def batch(self, step: int) -> Pairs:
        if self._group is None:
            raise DataError("data.sampling: other_video needs a model that groups the clips, such as FAA; use shuffle")
        if self._positives[0] != self.epoch:
            rng = np.random.default_rng((self.seed, self.epoch, 1))
            self._positives = self.epoch, draw_other_video(self._group, self.video, rng)
        positives = self._positives[1]
        return [(clip, clip) for first, _ in super().batch(step) for clip in (first, int(positives[first]))]


def draw_other_video(group: NDArray[np.int64], video: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
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
    positives = np.empty(len(group), dtype=np.int64)
    positives[order] = order[at]
    return positives
