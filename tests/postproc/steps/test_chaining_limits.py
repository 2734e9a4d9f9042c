"""What Algorithm 1 survives: degenerate cells come back as they were, refined scores stay within the initial ones."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from datamodules.schema import ScoredCell
from postproc import ChainingCluster, Refined, Threshold
from tests.postproc.conftest import make_cell
from tests.postproc.steps.test_chaining import QUICK


def spoil(x: np.ndarray, how: str, rng: np.random.Generator) -> np.ndarray:
    x = x.copy()
    if how == "nan":
        x[rng.integers(len(x)), rng.integers(x.shape[1])] = np.nan
    elif how == "inf":
        x[rng.integers(len(x))] = np.inf
    elif how == "constant":
        x[:] = x[0]
    elif how == "zero":
        x[rng.integers(len(x))] = 0
    elif how == "duplicated":
        x = x[rng.integers(0, min(3, len(x)), len(x))]
    elif how == "huge":
        x *= 1e200
    elif how == "tiny":
        x *= 1e-200
    elif how == "opposite":
        x = np.where(np.arange(len(x))[:, None] % 2, x[0], -x[0])
    return x


HOW = st.sampled_from(["well", "nan", "inf", "constant", "zero", "duplicated", "huge", "tiny", "opposite"])
SCORES = st.sampled_from(["cosine", "constant", "huge", "two values"])


def random_cell(sizes: tuple[int, int], how: tuple[str, str], scores: str, seed: int) -> ScoredCell:
    rng = np.random.default_rng(seed)
    voices, faces = (spoil(rng.normal(size=(n, 4)), h, rng) for n, h in zip(sizes, how, strict=True))
    voice, face = (index.ravel() for index in np.mgrid[: sizes[0], : sizes[1]])
    distances = {
        "cosine": rng.uniform(0, 2, len(voice)),
        "constant": np.full(len(voice), 0.5),
        "huge": rng.uniform(-1, 1, len(voice)) * 1.7e308,
        "two values": rng.integers(0, 2, len(voice)).astype(float),
    }[scores]
    return ScoredCell(distances, voice, face, {"model": voices}, {"model": faces})


def check_range(cell: ScoredCell, result: Refined) -> None:
    assert result.distances.shape == cell.distances.shape
    assert np.isfinite(result.distances).all()
    assert cell.distances.min() <= result.distances.min()
    assert result.distances.max() <= cell.distances.max()


@settings(max_examples=80, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    how=st.tuples(HOW, HOW),
    scores=SCORES,
    n_identities=st.sampled_from(["elbow", "knee", "silhouette", 1, 2, 5]),
    cut=st.sampled_from(
        [Threshold(quantile=0.95), Threshold(quantile=0.0), Threshold(absolute=0.1), Threshold(absolute=-1)]
    ),
    normalise=st.booleans(),
    seed=st.integers(0, 99),
)
def test_degenerate_cells_never_crash(
    sizes: tuple[int, int],
    how: tuple[str, str],
    scores: str,
    n_identities: Any,
    cut: Threshold,
    normalise: bool,
    seed: int,
) -> None:
    cell = random_cell(sizes, how, scores, seed)
    step = ChainingCluster(
        n_identities, (2, 4), t_m=cut, t_g=cut, normalise=normalise, backend="cpu", n_init=1, seed=seed
    )
    result = step(cell)
    check_range(cell, result)
    if "unchanged" in result.trace:
        np.testing.assert_array_equal(result.distances, cell.distances)
        assert not result.trace["action"].any()
        assert "\n" not in result.trace["unchanged"]


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.tuples(st.integers(20, 40), st.integers(20, 40)),
    scores=SCORES,
    n_identities=st.sampled_from(["elbow", "knee", "silhouette", 1, 2]),
    cut=st.floats(0.5, 1),
    alpha=st.floats(0, 1),
    t_alpha=st.floats(-1, 1),
    normalise=st.booleans(),
    seed=st.integers(0, 99),
)
def test_refined_scores_stay_within_the_initial_ones(
    sizes: tuple[int, int],
    scores: str,
    n_identities: Any,
    cut: float,
    alpha: float,
    t_alpha: float,
    normalise: bool,
    seed: int,
) -> None:
    cell = random_cell(sizes, ("well", "well"), scores, seed)
    share = Threshold(quantile=cut)
    result = ChainingCluster(
        n_identities,
        (2, 3),
        t_m=share,
        t_g=share,
        t_alpha=Threshold(absolute=t_alpha),
        alpha=alpha,
        normalise=normalise,
        backend="cpu",
        n_init=1,
    )(cell)
    assume("unchanged" not in result.trace)  # a far point may sit alone in its gender cluster
    check_range(cell, result)
    json.dumps([result.trace[k] for k in ("tie", "clusters", "counts", "bounds")], allow_nan=False)
    rewarded = result.trace["action"] == 1
    assert (result.distances[rewarded] <= cell.distances[rewarded]).all()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"voices": {"model": np.full((90, 20), np.nan)}}, "voice embeddings (model) are not finite, first item 0"),
        ({"voices": {"model": np.zeros((90, 20))}}, "voice embedding 0 (model) is zero"),
        ({"faces": {"model": np.ones((90, 20))}}, "face gender: only 1 distinct samples for 2 clusters"),
        ({"faces": {"model": np.ones((90, 9))}}, "voices (20-d) and faces (9-d) cannot be compared"),
        ({"distances": np.full(2025, np.nan)}, "2025 initial distances are not finite"),
        ({"distances": np.zeros(0), "voice_index": np.zeros(0, int), "face_index": np.zeros(0, int)}, "no trials"),
    ],
)
def test_degenerate_cells_come_back_with_the_reason(change: dict[str, Any], reason: str) -> None:
    cell = make_cell(people=3, per_person=15)[0]
    trials = {name: getattr(cell, name)[:2025] for name in ("distances", "voice_index", "face_index")}
    cell = replace(cell, **{**trials, **change})
    result = ChainingCluster(**QUICK)(cell)
    assert reason in result.trace["unchanged"]
    np.testing.assert_array_equal(result.distances, cell.distances)


def test_too_few_samples_and_too_strict_cuts_are_reasons() -> None:
    cell, _, _ = make_cell(per_person=2)
    assert "samples for 9 clusters" in ChainingCluster(9, backend="cpu")(cell).trace["unchanged"]
    strict = Threshold(absolute=1e-12)
    assert "raise t_g" in ChainingCluster(2, t_g=strict, backend="cpu")(cell).trace["unchanged"]
    assert "0 samples" in ChainingCluster(2, t_m=strict, backend="cpu")(cell).trace["unchanged"]
