"""Records of matching and retrieval: reference loops, ties, collapsed models, controls, both ways."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from datamodules.schema import Items, Modality, Ranking
from postproc.metrics import evaluate_ranking


def items(people: int, each: int, genders: bool = True) -> Items:
    identity = np.repeat([f"p{i:02d}" for i in range(people)], each)
    gender = np.array(["MF"[int(name[1:]) % 2] if genders else "" for name in identity])
    blank = np.full(len(identity), "")
    return Items(np.array([f"{name}/{i}" for i, name in enumerate(identity)]), identity, blank, gender, blank)


def matching(voices: Items, faces: Items, probe: Modality, n: int, same_gender: bool = False) -> Ranking:
    own, other = (voices, faces) if probe == "voice" else (faces, voices)
    rng = np.random.default_rng(0)
    rows = []
    for i in range(len(own)):
        right = rng.choice(np.flatnonzero(other.identity == own.identity[i]))
        fits = (other.identity != own.identity[i]) & (~np.bool_(same_gender) | (other.gender == own.gender[i]))
        rows.append([right, *rng.choice(np.flatnonzero(fits), n - 1, replace=False)])
    return Ranking("m", probe, np.arange(len(own)), np.array(rows))


@pytest.mark.parametrize("probe", ["voice", "face"])
def test_matching_equals_a_loop(probe: Any) -> None:
    voices, faces = items(10, 3), items(10, 2)
    ranking = matching(voices, faces, probe, 4)
    scores = np.random.default_rng(1).normal(size=ranking.candidate_index.shape)
    scores[:, 0] -= 0.7
    record = evaluate_ranking(ranking, voices, faces, lambda rows: scores[rows])
    hits = [row[0] < min(row[1:]) for row in scores]
    assert record["score"] == pytest.approx(np.mean(hits))
    assert (record["task"], record["probe"], record["candidates"]) == ("matching", probe, 4)
    assert record["score_chance"] == 0.25
    low, high = record["score_ci95"]
    assert low < record["score"] < high


def test_a_tie_does_not_win_because_the_right_one_comes_first() -> None:
    voices, faces = items(6, 2), items(6, 2)
    record = evaluate_ranking(matching(voices, faces, "voice", 2), voices, faces, lambda rows: np.zeros((12, 2))[rows])
    assert record["score"] == 0.5


def test_gender_alone_matches_half_of_the_wrong_candidates_but_none_of_the_same_gender() -> None:
    voices, faces = items(20, 1), items(20, 1)
    same = matching(voices, faces, "voice", 3, same_gender=True)
    assert evaluate_ranking(same, voices, faces, lambda rows: np.zeros((20, 3))[rows])["score_gender_only"] == (
        pytest.approx(1 / 3)
    )
    free = matching(voices, faces, "voice", 2)
    other_gender = faces.gender[free.candidate_index[:, 1]] != voices.gender
    record = evaluate_ranking(free, voices, faces, lambda rows: np.zeros((20, 2))[rows])
    assert record["score_gender_only"] == pytest.approx(np.mean(np.where(other_gender, 1, 0.5)))
    nameless = items(20, 1, genders=False)
    assert evaluate_ranking(free, nameless, nameless, lambda rows: np.zeros((20, 2))[rows])["score_gender_only"] is None


def test_retrieval_equals_scikit_learn_and_its_controls_are_those_of_a_loop() -> None:
    voices, faces = items(8, 40), items(8, 5)
    ranking = Ranking("r", "voice", np.arange(3, 320), np.arange(40))
    distances = np.random.default_rng(2).normal(size=(317, 40))
    relevant = voices.identity[3:, None] == faces.identity

    def mean_precision(scores: np.ndarray) -> float:
        return float(np.mean([average_precision_score(r, -s) for r, s in zip(relevant, scores, strict=True)]))

    record = evaluate_ranking(ranking, voices, faces, lambda rows: distances[rows])
    assert record["score"] == pytest.approx(mean_precision(distances))
    differ = (voices.gender[3:, None] != faces.gender).astype(float)
    assert record["score_gender_only"] == pytest.approx(mean_precision(differ))
    assert record["score_chance"] == pytest.approx(mean_precision(np.zeros_like(distances)))
    assert (record["probes"], record["candidates"], record["people"]) == (317, 40, 8)


def test_retrieval_asks_for_bounded_slices() -> None:
    voices, faces = items(4, 300), items(4, 3)
    asked = []

    def rows_of(rows: slice) -> np.ndarray:
        asked.append(rows.stop - rows.start)
        return np.zeros((rows.stop - rows.start, 12))

    evaluate_ranking(Ranking("r", "voice", np.arange(1200), np.arange(12)), voices, faces, rows_of)
    assert sum(asked) == 1200
    assert max(asked) <= 256
