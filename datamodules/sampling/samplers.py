"""Batch samplers for any number of DDP ranks, whose draws depend on (seed, epoch, step) only.

Every rank draws the same global batch and keeps its part, so the ranks need not communicate. A training sampler draws a
batch from its step, so a resumed run can start at any step.
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

    Lightning's sampler pads the set to a multiple of the ranks. That repeats items and changes the EER. Here only a
    rank without any item gets one that another rank has too, because it must take part in the collective operations.
    The bank of embeddings stores items by index, so the repeated item changes nothing.

    Args:
        size: number of items, at least 1.
        rank: rank of this process.
        world: number of processes.
    """

    def __init__(self, size: int, rank: int = 0, world: int = 1) -> None:
        if size < 1:
            raise DataError("the evaluation set has no items; check the trial lists")
        self.rows = range(rank, size, world) if rank < size else range(rank % size, rank % size + 1)

    def __iter__(self) -> Iterator[int]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


class PairBatchSampler(Sampler[Pairs], ABC):
    """Base of the training samplers: ``len`` batches per epoch, the same number on every rank.

    Attributes:
        epoch: set by Lightning through :meth:`set_epoch` before each epoch.
        start: first step of an iteration; set by the loader, above 0 only after a resume within an epoch.
    """

    def __init__(self, batch_size: int, seed: int, rank: int, world: int) -> None:
        if seed < 0:
            raise DataError(f"data.seed: {seed} is negative; give 0 or more")
        if batch_size < 1:
            raise DataError(f"data.batch_size: {batch_size} is not positive; give 1 or more")
        self.seed, self.rank, self.world = seed, rank, world
        self.epoch = self.start = 0

    @property
    def sampler(self) -> PairBatchSampler:
        """This object: Lightning looks for ``set_epoch`` on ``loader.batch_sampler.sampler``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    @abstractmethod
    def batch(self, step: int) -> Pairs:
        """This rank's part of a batch of the current epoch."""

    @abstractmethod
    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Pairs]:
        return (self.batch(step) for step in range(self.start, len(self)))

    def _share(self, batch_size: int) -> int:
        """Pairs of a global batch on each rank: gathered negatives and mean gradients need equal numbers."""
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
    """Batches in which no identity occurs twice, so all other pairs of a batch are true negatives ([SCC]).

    Each batch draws identities without replacement. For each it draws a voice and a face independently and uniformly
    from its clips, of any video and language. Where identities have several languages, the languages are balanced over
    the batch, for voices and faces independently. (Not from the paper, which does not specify the sampling.)

    Args:
        identity: (n,) class index of each clip.
        language: (n,) language of each clip.
        batch_size: pairs over all ranks; capped at the number of identities and cut to a multiple of ``world``.
        steps_per_epoch: batches per epoch; None = as many as one pass over the clips needs.
        seed: a batch is drawn from (seed, epoch, step).
        rank: rank of this process.
        world: number of processes; they get disjoint identities.
        chance: (C,) relative chance of each identity to be in a batch, in the order of the class indices; None =
            equal. No chance is above 1: an identity is at most once in a batch.
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
        chance: NDArray[np.float64] | None = None,
    ) -> None:
        super().__init__(batch_size, seed, rank, world)
        _, identity_code = np.unique(identity, return_inverse=True)
        _, language_code = np.unique(language, return_inverse=True)
        self.identities, self.languages = int(identity_code.max()) + 1, int(language_code.max()) + 1
        if self.identities < 2:
            raise DataError("identity sampling needs at least 2 training identities; there is one")
        if self.identities < batch_size and rank == 0:
            warnings.warn(
                f"batch_size {batch_size} is cut to {self.identities}: identity sampling draws each of the "
                f"{self.identities} training identities at most once per batch",
                stacklevel=2,
            )
        self.share = self._share(min(batch_size, self.identities))
        self.steps = steps_of(steps_per_epoch, len(identity), self.share * world)
        group = identity_code * self.languages + language_code
        self.clips = np.argsort(group, kind="stable")
        """Clips ordered by (identity, language); a group begins at ``self.stop - self.count``."""
        self.count = np.bincount(group, minlength=self.identities * self.languages).reshape(self.identities, -1)
        self.stop = np.cumsum(self.count).reshape(self.count.shape)
        self.inclusion = None if chance is None else inclusions(chance, self.share * world)

    def __len__(self) -> int:
        return self.steps

    def batch(self, step: int) -> Pairs:
        rng = np.random.default_rng((self.seed, self.epoch, step))
        if self.inclusion is None:
            identities = rng.choice(self.identities, self.share * self.world, replace=False)
        else:
            identities = draw_included(self.inclusion, rng)
        voices, faces = self._draw(identities, rng), self._draw(identities, rng)
        part = slice(self.rank * self.share, (self.rank + 1) * self.share)
        return list(zip(voices[part].tolist(), faces[part].tolist(), strict=True))

    def _draw(self, identities: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """A clip of each identity, uniform over its clips in the language that :meth:`_spread` chooses."""
        languages = self._spread(self.count[identities] > 0, rng)
        stop, count = self.stop[identities, languages], self.count[identities, languages]
        clips: NDArray[np.int64] = self.clips[stop - 1 - rng.integers(count)]
        return clips

    def _spread(self, available: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64]:
        """Chooses a language for each row, the least used first: (batch, languages) -> (batch,)."""
        chosen: NDArray[np.int64] = available.argmax(axis=1)
        several = np.flatnonzero(available.sum(axis=1) > 1)
        used = np.bincount(np.delete(chosen, several), minlength=self.languages).astype(np.float64)
        for row in rng.permutation(several):
            cost = np.where(available[row], used + rng.random(self.languages) / 2, np.inf)  # ties are broken at random
            chosen[row] = cost.argmin()
            used[chosen[row]] += 1
        return chosen


def steps_of(steps_per_epoch: int | None, clips: int, batch_size: int) -> int:
    """Batches per epoch: as many as asked for, or as one pass over the clips needs.

    Raises:
        DataError: fewer than one.
    """
    if steps_per_epoch is not None and steps_per_epoch < 1:
        raise DataError(f"data.steps_per_epoch: {steps_per_epoch} is not positive; give 1 or more")
    return steps_per_epoch or -(-clips // batch_size)


def inclusions(chance: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Probabilities (n,) of being in a draw of ``size`` without replacement, as relative chances say.

    Those that would be above 1 are 1, and the others share what is left.
    """
    capped = np.zeros(len(chance), dtype=bool)
    while True:
        rest = np.where(capped, 0.0, chance)
        probability = np.where(capped, 1.0, rest * ((size - capped.sum()) / max(rest.sum(), 1e-300)))
        above = ~capped & (probability > 1 - 1e-9)
        if not above.any():
            return probability
        capped |= above


def draw_included(inclusion: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draws without replacement with exact probabilities: systematic sampling of a random order.

    Args:
        inclusion: (n,) probability of each, see :func:`inclusions`; their sum is the number of draws.
        rng: source of the draw.
    """
    sure, order = np.flatnonzero(inclusion >= 1), rng.permutation(np.flatnonzero(inclusion < 1))
    ends = np.cumsum(inclusion[order])
    size = round(float(ends[-1])) if len(ends) else 0
    # the ends may be off by rounding; every interval is shorter than 1, so no position is taken twice
    at = np.searchsorted(ends, (rng.random() + np.arange(size)) * (ends[-1] / size if size else 1), side="right")
    return rng.permutation(np.concatenate([sure, order[np.minimum(at, len(order) - 1)]]))


class ShuffledPairSampler(PairBatchSampler):
    """One pass over all clips per epoch, each epoch in another order; voice and face come from the same clip ([FOP]).

    The last, partial batch is kept if every rank gets at least 2 pairs of it, which batch normalisation needs, else it
    is dropped. So other clips are dropped in each epoch.

    Args:
        size: number of clips.
        batch_size: pairs over all ranks, cut to a multiple of ``world``.
        seed: the order of an epoch is drawn from (seed, epoch).
        rank: rank of this process.
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


class FixedOrderPairSampler(ShuffledPairSampler):
    """Passes over the clips in an order drawn once, which every epoch repeats; drops the last, partial batch.

    So the clips of that batch are never trained on, as in the code of the baseline of [FOP]. The arguments are those of
    :class:`ShuffledPairSampler`; the order is drawn from ``seed``.
    """

    def __init__(self, size: int, batch_size: int, seed: int = 0, rank: int = 0, world: int = 1) -> None:
        super().__init__(size, batch_size, seed, rank, world)
        self.last = 0
        if not self.full:
            raise DataError(f"{size} training clips make no full batch; set data.batch_size to {size} or less")

    def _order(self, epoch: int) -> NDArray[np.int64]:
        return super()._order(0)


class OncePairSampler(PairBatchSampler):
    """Every clip exactly once per epoch, in order, for closed-form methods that sum over the training set.

    DDP needs the same number of batches on every rank, none of them empty. So the clips are cut into ``steps * world``
    runs whose lengths differ by at most one, with ``steps = min(ceil(size / batch_size), size // world)``. No clip is
    repeated or dropped.

    Args:
        size: number of clips, at least ``world``.
        batch_size: largest number of pairs over all ranks, if every rank gets at least one.
        rank: rank of this process.
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
