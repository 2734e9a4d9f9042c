"""Matching accuracy and retrieval mAP: known answers, scikit-learn, collapsed models, faults."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from postproc.metrics import matching_accuracy, retrieval_map


def test_matching_counts_hits_and_shares_ties() -> None:
    scores = [[0.9, 0.1, 0.2], [0.1, 0.9, 0.2], [0.5, 0.5, 0.1], [0.3, 0.3, 0.3]]
    assert matching_accuracy(scores, direction="similarity") == pytest.approx((1 + 0 + 1 / 2 + 1 / 3) / 4)
    assert matching_accuracy(-np.array(scores), direction="distance") == pytest.approx((1 + 0 + 1 / 2 + 1 / 3) / 4)
    assert matching_accuracy(scores, [0, 1, 0, 2], direction="similarity") == pytest.approx((1 + 1 + 1 / 2 + 1 / 3) / 4)


@pytest.mark.parametrize("n", [2, 5, 10])
def test_a_collapsed_model_matches_at_chance(n: int) -> None:
    assert matching_accuracy(np.zeros((7, n)), direction="distance") == pytest.approx(1 / n)


@pytest.mark.parametrize(
    ("scores", "target", "message"),
    [
        (np.zeros((0, 2)), 0, "probe"),
        (np.zeros((3, 1)), 0, "two candidates"),
        ([[0.1, np.nan]], 0, "finite"),
        ([[0.1, 0.2]], 2, "outside 0..1"),
    ],
)
def test_bad_probes_are_errors(scores: object, target: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        matching_accuracy(scores, target, direction="distance")  # type: ignore[arg-type]


def test_map_equals_the_mean_of_average_precisions_with_ties() -> None:
    rng = np.random.default_rng(0)
    query, gallery = rng.integers(0, 9, 300), np.append(np.arange(9), rng.integers(0, 9, 200))
    distances = rng.normal(size=(300, 209)).round(1) - (query[:, None] == gallery)
    expected = np.mean([average_precision_score(gallery == q, -row) for q, row in zip(query, distances, strict=True)])
    assert retrieval_map(lambda rows: distances[rows], query, gallery, direction="distance") == pytest.approx(expected)
    assert retrieval_map(lambda rows: -distances[rows], query, gallery, direction="similarity") == pytest.approx(
        expected
    )


def test_a_collapsed_model_retrieves_at_prevalence_in_any_order() -> None:
    gallery = np.repeat(["a", "b", "c", "d"], 5)
    score = retrieval_map(
        lambda rows: np.zeros((rows.stop - rows.start, 20)), ["a", "d"], gallery, direction="distance"
    )
    assert score == pytest.approx(1 / 4)


def test_queries_without_an_answer_are_named() -> None:
    with pytest.raises(ValueError, match="1 of 2 queries have an identity that is not in the gallery, first z"):
        retrieval_map(lambda rows: np.zeros((2, 1)), ["a", "z"], ["a"], direction="distance")
    with pytest.raises(ValueError, match="no queries"):
        retrieval_map(lambda rows: np.zeros((0, 1)), [], ["a"], direction="distance")
    with pytest.raises(ValueError, match="gave"):
        retrieval_map(lambda rows: np.zeros((1, 3)), ["a"], ["a"], direction="distance")
