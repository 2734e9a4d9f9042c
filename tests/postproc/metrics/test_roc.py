"""EER, AUC, minDCF and DET: known answers, scikit-learn, properties, faults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.metrics import roc_auc_score, roc_curve

from postproc.metrics import auc, det_points, eer, min_dcf, roc


def organisers_eer(distances: np.ndarray, labels: np.ndarray) -> float:
    fpr, tpr, _ = roc_curve(labels, -distances, drop_intermediate=False)
    return brentq(lambda x: 1 - x - interp1d(fpr, tpr)(x), 0, 1, xtol=1e-14)


@st.composite
def trial_lists(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    n = draw(st.integers(2, 40))
    labels = draw(hnp.arrays(np.int8, n, elements=st.integers(0, 1)))
    labels[:2] = [0, 1]
    return draw(hnp.arrays(np.int64, n, elements=st.integers(-9, 9))).astype(float), labels


def test_ecapa_on_voxceleb_has_the_known_eer(shared_data: Path) -> None:
    features = np.load(shared_data / "voxceleb" / "ecapa_vox1_test.npz")
    x = features["x"] / np.linalg.norm(features["x"], axis=1, keepdims=True)
    row = {name: i for i, name in enumerate(features["utterance"])}
    lines = [line.split() for line in (shared_data / "voxceleb" / "veri_test2.txt").read_text().splitlines()]
    labels = np.array([int(line[0]) for line in lines])
    a, b = (np.array([row[line[column]] for line in lines]) for column in (1, 2))
    result = eer((x[a] * x[b]).sum(axis=1), labels, direction="similarity")
    assert round(100 * result.eer, 4) == 0.8985
    assert result.n_pos + result.n_neg == 37_611


@given(trial_lists())
def test_eer_and_auc_equal_the_organisers_with_ties(trials: tuple[np.ndarray, np.ndarray]) -> None:
    distances, labels = trials
    assert eer(distances, labels, direction="distance").eer == pytest.approx(
        organisers_eer(distances, labels), abs=1e-12
    )
    assert auc(distances, labels, direction="distance") == pytest.approx(roc_auc_score(labels, -distances), abs=1e-12)


@given(trial_lists(), st.randoms(use_true_random=False))
def test_eer_ignores_order_monotone_maps_and_direction(trials: tuple[np.ndarray, np.ndarray], random: object) -> None:
    distances, labels = trials
    expected = eer(distances, labels, direction="distance").eer
    order = list(range(len(labels)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert eer(distances[order], labels[order], direction="distance").eer == expected
    assert eer(np.exp(distances / 5) - 3, labels, direction="distance").eer == expected
    assert eer(-distances, labels, direction="similarity").eer == expected


@given(trial_lists())
def test_threshold_is_the_strictest_where_fpr_reaches_fnr(trials: tuple[np.ndarray, np.ndarray]) -> None:
    distances, labels = trials
    result = eer(distances, labels, direction="distance")

    def excess(t: float, strict: bool) -> float:
        accepted = distances < t if strict else distances <= t
        return accepted[labels == 0].mean() + accepted[labels == 1].mean() - 1

    assert result.threshold in distances
    assert excess(result.threshold, strict=False) >= -1e-12
    assert excess(result.threshold, strict=True) < 1e-12


@pytest.mark.parametrize(
    "shape",
    ["continuous", "rounded", "tied at the worst", "rare positives", "sorted", "outlier", "float32", "separated"],
)
def test_long_lists_narrow_to_the_same_eer(shape: str) -> None:
    rng = np.random.default_rng(1)
    n = 4 * roc._SORTABLE
    labels = rng.random(n) < (0.001 if shape == "rare positives" else 0.4)
    distances = rng.normal(size=n) - 1.2 * labels
    if shape == "rounded":
        distances = distances.round(1)
    elif shape == "tied at the worst":
        distances[rng.random(n) < 0.4] = distances.max()
    elif shape == "sorted":
        distances, labels = np.exp(50 * np.sort(distances)), np.sort(labels)
    elif shape == "outlier":
        distances[0] = 1e300
    elif shape == "float32":
        distances = distances.astype(np.float32)
    elif shape == "separated":
        distances = np.where(labels, -1.0, 1.0) * rng.random(n)
    expected = organisers_eer(distances, labels)
    assert eer(distances, labels, direction="distance").eer == pytest.approx(expected, abs=1e-11)


def test_hard_ties_at_the_worst_score_share_one_point() -> None:
    labels = np.repeat([1, 0], 10)
    distances = np.concatenate([[0.1] * 6 + [1.0] * 4, [1.0] * 10])
    # from (FPR 0, TPR .6) straight to (1, 1): 1 - (.6 + .4 x) = x
    assert eer(distances, labels, direction="distance").eer == pytest.approx(0.4 / 1.4)


def test_det_points_run_from_nothing_accepted_to_all() -> None:
    points = det_points([0.9, 0.8, 0.8, 0.1], [1, 1, 0, 0], direction="similarity")
    np.testing.assert_allclose(points.fpr, [0, 0, 0.5, 1])
    np.testing.assert_allclose(points.fnr, [1, 0.5, 0, 0])
    np.testing.assert_allclose(points.thresholds, [np.inf, 0.9, 0.8, 0.1])


@pytest.mark.parametrize("p_target", [0.01, 0.05, 0.9])
def test_min_dcf_equals_a_loop_over_thresholds(p_target: float) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    distances = (rng.normal(size=200) - labels).round(1)
    costs = [
        p_target * (distances[labels == 1] > t).mean() + (1 - p_target) * (distances[labels == 0] <= t).mean()
        for t in [-np.inf, *distances]
    ]
    expected = min(costs) / min(p_target, 1 - p_target)
    assert min_dcf(distances, labels, direction="distance", p_target=p_target) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([], [], "no trials"),
        ([0.1, np.nan], [0, 1], "trial 1 is nan"),
        ([0.1, np.inf], [0, 1], "trial 1 is inf"),
        ([0.1, 0.2], [1, 1], "all 2 trials are same-person"),
        ([0.1, 0.2], [0, 0], "all 2 trials are different-person"),
        ([0.1, 0.2], [1, 2], "label of trial 1 is 2"),
        ([0.1, 0.2], [1], "same length"),
        ([[0.1], [0.2]], [[0], [1]], "two lists"),
    ],
)
def test_bad_trials_are_one_line_errors(scores: list, labels: list, message: str) -> None:
    for metric in (eer, auc, det_points, min_dcf):
        with pytest.raises(ValueError, match=message) as caught:
            metric(scores, labels, direction="distance")
        assert "\n" not in str(caught.value)


def test_direction_must_be_named() -> None:
    with pytest.raises(TypeError, match="direction"):
        eer([0.1, 0.2], [0, 1])  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="neither 'distance' nor 'similarity'"):
        eer([0.1, 0.2], [0, 1], direction="cosine")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="p_target"):
        min_dcf([0.1, 0.2], [0, 1], direction="distance", p_target=1.0)
