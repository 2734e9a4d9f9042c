"""Optimal transport between voice clusters and face clusters. Not from the papers."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import ot
from numpy.typing import NDArray

from datamodules.schema import ScoredCell
from postproc.cells import DegenerateInput, initial_distances, shared_space
from postproc.clustering.partitions import Clustering
from postproc.refinement import Refined, unchanged
from postproc.steps.blocks import Clustered, block_similarity, comparable

_ITERATIONS, _TOLERANCE = 1000, 1e-7  # of Sinkhorn; it ends sooner when the error of the marginals is smaller
_LARGEST_EXPONENT = 500.0  # of a kernel in double precision, well below overflow
Problem = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


class Transport(Clustered):
    """Matches voice clusters with face clusters, and scores a pair by how strongly its two clusters are matched.

    A test set has voices and faces of the same identities, so a face cluster that belongs to one voice cluster cannot
    belong to another. Entropic optimal transport between the clusters (Sinkhorn) uses that, block averaging does not.
    The distance of a pair is ``-log(plan / (voice mass * face mass))`` of its block, clipped and averaged over the
    numbers of clusters: minus a log-likelihood ratio, 0 where nothing is known. Transductive. It assumes the same
    identities on both sides, which holds for challenge test sets and not for a search in a gallery; see
    :class:`postproc.Guarded`. A distance depends on the voices and faces of the test condition, not on which pairs are
    listed.

    Args:
        clustering: of voices and faces; None = :class:`Clustering` with its defaults.
        temperature: of the plan, in units of the similarity; small = one to one.
        clip: largest size of a distance, per number of clusters.

    Raises:
        ValueError: an option out of range.

    Example:
        Four identities, and initial distances that are random.

        >>> import numpy as np
        >>> from postproc import Clustering, ScoredCell, Transport
        >>> rng, identity = np.random.default_rng(0), np.repeat(np.arange(4), 10)
        >>> clips = np.eye(4)[identity]
        >>> voices, faces = (clips + 0.1 * rng.normal(size=clips.shape) for _ in range(2))
        >>> voice, face = (index.ravel() for index in np.mgrid[:40, :40])
        >>> cell = ScoredCell(rng.uniform(size=1600), voice, face, voices, faces)
        >>> refined = Transport(Clustering(ks=(4,), space="model", backend="cpu"))(cell)
        >>> same = identity[voice] == identity[face]
        >>> bool(refined.distances[same].max() < refined.distances[~same].min())
        True
    """

    def __init__(
        self,
        clustering: Clustering | None = None,
        temperature: float = 0.05,
        clip: float = 5.0,
    ) -> None:
        for name, value in (("temperature", temperature), ("clip", clip)):
            if not 0 < value < np.inf:
                raise ValueError(f"{name}: {value} must be positive and finite")
        super().__init__(clustering)
        self.temperature, self.clip = temperature, clip

    def __call__(self, cell: ScoredCell) -> Refined:
        """Refines one test condition.

        The trace holds ``ks`` and ``space``, and per k the ``information`` of the plan (mutual information over its
        largest possible value: 0 = clusters are matched at random, 1 = one to one).
        """
        try:
            return self._refine(cell)
        except DegenerateInput as reason:
            return unchanged(cell, str(reason))

    def reliability(self, cell: ScoredCell, refined: Refined) -> dict[str, float]:
        """``information`` of the plan, mean over the numbers of clusters: how one-to-one it is.

        Low where the test condition has one identity, or where the scorer separates nothing.
        """
        return {"information": float(np.mean(refined.trace["information"]))}

    def _refine(self, cell: ScoredCell) -> Refined:
        initial_distances(cell)
        learnt = comparable(shared_space(cell))
        partitions, trace = self.clusters(cell)
        total, information = np.zeros(len(cell.distances)), []
        problems = [_problem(block_similarity(learnt, labels)) for labels in partitions]
        plans = self._plans(problems)
        for labels, (_, a, b), plan in zip(partitions, problems, plans, strict=True):
            with np.errstate(divide="ignore"):  # log 0 = -inf, clipped
                ratio = np.log(plan) - np.log(np.outer(a, b))
            ratio = np.clip(ratio, -self.clip, self.clip)
            total -= ratio[labels["voice"][cell.voice_index], labels["face"][cell.face_index]]
            information.append(_information(plan))
        return Refined(total / len(partitions), trace | {"information": information})

    def _plans(self, problems: Sequence[Problem]) -> list[NDArray[np.float64]]:
        """The same for other pairs of the items."""
        return self.memory.recall(
            f"transport plans {self.temperature}",
            [similarity for similarity, *_ in problems],
            lambda: transport_plans(problems, self.temperature),
        )


def _problem(similarity: NDArray[np.float64]) -> Problem:
    """With the same mass for every cluster: sizes would tell how a list was made, not who is who."""
    a, b = (np.full(clusters, 1 / clusters) for clusters in similarity.shape)
    return similarity, a, b


def transport_plans(
    problems: Sequence[Problem], temperature: float, unbalanced: float | None = None
) -> list[NDArray[np.float64]]:
    """The plan P (k, l) of each problem that maximises <similarity, P> + temperature * entropy(P), by Sinkhorn.

    Scaled to a sum of 1, which an unbalanced plan need not have.

    Args:
        problems: similarity (k, l), masses of its rows (k,) and of its columns (l,), which add up to 1.
        temperature: weight of the entropy.
        unbalanced: weight of the Kullback-Leibler divergence of P's marginals from the masses; None = they are kept.

    Raises:
        DegenerateInput: the temperature is too small for double precision.
    """
    costs = [similarity.max() - similarity for similarity, _, _ in problems]  # from 0 up: nothing overflows
    plans: list[NDArray[np.float64]] = [np.empty(0)] * len(problems)
    # problems of one shape whose kernel vanishes nowhere are solved together, four times faster than one by one
    together: dict[tuple[int, ...], list[int]] = {}
    for at, (cost, problem) in enumerate(zip(costs, problems, strict=True)):
        if unbalanced is None and cost.max() < _LARGEST_EXPONENT * temperature:
            together.setdefault(cost.shape, []).append(at)
        else:
            plans[at] = _stabilised(cost, *problem[1:], temperature, unbalanced)
    for members in together.values():
        cost, a, b = (
            np.stack(parts) for parts in zip(*((costs[at], *problems[at][1:]) for at in members), strict=True)
        )
        options: dict[str, Any] = {"method": "sinkhorn", "max_iter": _ITERATIONS, "tol": _TOLERANCE}
        for at, plan in zip(members, ot.solve_batch(cost, temperature, a, b, **options).plan, strict=True):
            plans[at] = plan
    for plan in plans:
        if not (np.isfinite(plan).all() and plan.sum() > 0):
            raise DegenerateInput(f"Sinkhorn's iteration fails at temperature {temperature:g}; raise it")
    return [plan / plan.sum() for plan in plans]


def _stabilised(
    cost: NDArray[np.float64],
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    temperature: float,
    unbalanced: float | None,
) -> NDArray[np.float64]:
    """One plan; potentials are absorbed before they overflow, 10 times faster than in the log domain."""
    options: dict[str, Any] = {"method": "sinkhorn_stabilized", "numItermax": _ITERATIONS, "stopThr": _TOLERANCE}
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a plan that did not converge is found by the caller
        if unbalanced is None:
            plan = ot.sinkhorn(a, b, cost, temperature, warn=False, **options)
        else:
            plan = ot.unbalanced.sinkhorn_unbalanced(a, b, cost, temperature, unbalanced, **options)
    return np.asarray(plan, dtype=np.float64)


def _information(plan: NDArray[np.float64]) -> float:
    """Mutual information of row and column under the plan, as a share of the largest possible."""
    p = plan / plan.sum()
    rows, columns = p.sum(axis=1), p.sum(axis=0)
    seen = p > 0
    mutual = float((p[seen] * np.log(p[seen] / np.outer(rows, columns)[seen])).sum())
    return mutual / float(np.log(min(plan.shape)))
