"""Blocks and transport: the formulas against loops, gains on known people, and what both survive."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.schema import ScoredCell
from postproc import BlockAverage, Clustering, Refinement, Transport
from postproc.cells import shared_space
from postproc.metrics import eer
from postproc.steps.blocks import block_similarity, comparable
from postproc.steps.transport import transport_plans
from tests.postproc.synthetic_people import World

QUICK = Clustering(ks=(5, 6, 8), repeats=2, backend="cpu")
BOTH = [BlockAverage(QUICK), Transport(QUICK)]


def error(distances: np.ndarray, labels: np.ndarray) -> float:
    return eer(distances, labels, direction="distance").eer


def loop(
    similarity: np.ndarray, a: np.ndarray, b: np.ndarray, temperature: float, unbalanced: float | None
) -> np.ndarray:
    """Sinkhorn's iteration, written out; unbalanced: the scaling step is damped."""
    kernel = np.exp((similarity - similarity.max()) / temperature)
    if unbalanced is not None:
        kernel = kernel * np.outer(a, b)  # entropy relative to the product of the masses
    u, v = np.ones(len(a)), np.ones(len(b))
    power = 1.0 if unbalanced is None else unbalanced / (unbalanced + temperature)
    for _ in range(5000):
        u = (a / (kernel @ v)) ** power
        v = (b / (kernel.T @ u)) ** power
    plan = u[:, None] * kernel * v
    return plan / plan.sum()


@pytest.mark.parametrize("unbalanced", [None, 0.2])
@pytest.mark.parametrize("masses", ["uniform", "uneven"])
def test_plans_are_those_of_an_explicit_sinkhorn_loop(unbalanced: float | None, masses: str) -> None:
    rng = np.random.default_rng(1)
    problems = []
    for rows, columns in ((4, 6), (5, 5), (4, 6)):
        a, b = np.full(rows, 1 / rows), np.full(columns, 1 / columns)
        if masses == "uneven":
            a, b = rng.dirichlet(np.full(rows, 3.0)), rng.dirichlet(np.full(columns, 3.0))
        problems.append((rng.normal(size=(rows, columns)) * 0.2, a, b))
    for problem, plan in zip(problems, transport_plans(problems, 0.05, unbalanced), strict=True):
        np.testing.assert_allclose(plan, loop(*problem, 0.05, unbalanced), atol=1e-5)
        if unbalanced is None:
            np.testing.assert_allclose(plan.sum(axis=1), problem[1], atol=1e-7)


def test_a_kernel_that_vanishes_in_places_is_solved_all_the_same() -> None:
    """At this temperature exp(-cost / temperature) underflows: the plan is that of the best assignment."""
    similarity = np.eye(3)[[2, 0, 1]] + 0.01 * np.arange(9).reshape(3, 3)
    third = np.full(3, 1 / 3)
    (plan,) = transport_plans([(similarity, third, third)], 1e-3)
    np.testing.assert_allclose(plan, np.eye(3)[[2, 0, 1]] / 3, atol=1e-6)


def test_block_similarity_is_the_centred_mean_of_all_pairs_of_a_block() -> None:
    cell, _ = World(3).cell()
    learnt = comparable(shared_space(cell))
    labels, _ = QUICK(cell)
    lv, lf = labels[0]["voice"], labels[0]["face"]
    pairs = learnt["voice"] @ learnt["face"].T
    mean = np.array(
        [[pairs[np.ix_(lv == v, lf == f)].mean() for f in range(lf.max() + 1)] for v in range(lv.max() + 1)]
    )
    mean = mean - mean.mean(axis=0) - mean.mean(axis=1, keepdims=True) + mean.mean()
    np.testing.assert_allclose(block_similarity(learnt, labels[0]), mean, atol=1e-12)


def test_both_gain_on_known_people_and_transport_gains_more() -> None:
    gains = []
    for seed in range(6):
        cell, labels = World(seed).cell()
        raw = error(cell.distances, labels)
        gains.append([raw - error(step(cell).distances, labels) for step in BOTH])
    blocks, transport = np.mean(gains, axis=0)
    assert blocks > 0.05
    assert transport > blocks + 0.01


@pytest.mark.parametrize("step", BOTH)
def test_a_pair_is_scored_the_same_whichever_other_pairs_are_listed(step: Refinement) -> None:
    cell, _ = World(5).cell()
    few = np.arange(0, 3000, 7)
    part = replace(
        cell, distances=cell.distances[few], voice_index=cell.voice_index[few], face_index=cell.face_index[few]
    )
    np.testing.assert_array_equal(step(part).distances, step(cell).distances[few])


def test_distances_are_within_the_clip_and_the_trace_tells_how_sharp_the_plan_is() -> None:
    cell, _ = World(2, noise=0.3).cell()
    sharp = Transport(QUICK, clip=1.5)(cell)
    assert np.abs(sharp.distances).max() <= 1.5
    flat = Transport(QUICK, temperature=5.0)(cell)
    assert np.mean(sharp.trace["information"]) > 0.6 > 0.05 > np.mean(flat.trace["information"]) >= 0


def test_clusters_are_found_in_the_input_space_or_the_trace_says_why_not() -> None:
    cell, labels = World(4).cell()
    step = Transport(Clustering(ks=(6, 8), repeats=2, backend="cpu"))
    inside = step(cell)
    assert inside.trace["space"] == "input"
    assert "space_fallback" not in inside.trace
    assert error(inside.distances, labels) < error(cell.distances, labels) - 0.05
    bare = replace(cell, voices={"model": cell.voices["model"]}, faces={"model": cell.faces["model"]})
    outside = step(bare)
    assert outside.trace["space"] == "model"
    assert "no input embeddings" in outside.trace["space_fallback"]


def test_numbers_of_clusters_above_the_items_are_left_out() -> None:
    cell, _ = World(4).cell("MF")
    some = cell.voice_index < 7
    small = ScoredCell(
        cell.distances[some],
        cell.voice_index[some],
        cell.face_index[some],
        {s: x[:7] for s, x in cell.voices.items()},
        cell.faces,
    )
    trace = Transport(QUICK)(small).trace
    assert trace["ks"] == [5, 6]
    assert trace["ks_left_out"] == [8]
    refused = Transport(Clustering(ks=(9,), backend="cpu"))(small)
    assert "7 voices or faces are too few for 9 clusters" in refused.trace["unchanged"]


@st.composite
def degenerate_cells(draw: st.DrawFn) -> ScoredCell:
    """Few, repeated, zero, huge or non-finite embeddings, of widths that may differ."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    voices, faces = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    width = draw(st.sampled_from([2, 5]))
    x = {"voice": rng.normal(size=(voices, 5)), "face": rng.normal(size=(faces, width))}
    for m in ("voice", "face"):
        kind = draw(st.sampled_from(["plain", "constant", "pairs", "zero", "nan", "huge", "tiny"]))
        if kind == "constant":
            x[m][:] = x[m][0]
        elif kind == "pairs":
            x[m][: len(x[m]) // 2] = x[m][0]
        elif kind in ("zero", "nan"):
            x[m][-1] = 0 if kind == "zero" else np.nan
        elif kind != "plain":
            x[m] *= 1e160 if kind == "huge" else 1e-160
    trials = draw(st.integers(0, 30))
    voice, face = rng.integers(voices, size=trials), rng.integers(faces, size=trials)
    return ScoredCell(rng.normal(size=trials), voice, face, {"model": x["voice"]}, {"model": x["face"]})


@settings(max_examples=60, deadline=None)
@given(degenerate_cells())
def test_degenerate_input_gives_finite_distances_or_comes_back_with_the_reason(cell: ScoredCell) -> None:
    clustering = Clustering(ks=(2, 4), repeats=1, backend="cpu")
    for step in (BlockAverage(clustering), Transport(clustering)):
        refined = step(cell)
        assert refined.distances.shape == cell.distances.shape
        assert np.isfinite(refined.distances).all()
        if "unchanged" in refined.trace:
            np.testing.assert_array_equal(refined.distances, cell.distances)
            assert refined.trace["unchanged"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Clustering(ks=()), "clustering.ks"),
        (lambda: Clustering(ks=(1,)), "clustering.ks"),
        (lambda: Clustering(space="raw"), "clustering.space"),  # type: ignore[arg-type]
        (lambda: Clustering(algorithm="dbscan"), "clustering.algorithm"),  # type: ignore[arg-type]
        (lambda: Clustering(repeats=0), "clustering.repeats"),
        (lambda: Transport(temperature=0.0), "temperature"),
        (lambda: Transport(clip=0.0), "clip"),
    ],
)
def test_options_out_of_range_are_named(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_temperature_too_small_for_double_precision_leaves_scores_alone() -> None:
    cell, _ = World(1).cell()
    refined = Transport(QUICK, temperature=1e-9)(cell)
    assert "temperature" in refined.trace["unchanged"]
