"""The records of results.json."""

from __future__ import annotations

import json

import numpy as np
import pytest

from postproc.metrics import auc, eer, evaluate_cell, overall, same_gender_eer, summarise
from tests.postproc.conftest import make_items, make_labelled_cell

KEYS = {
    *("eer", "eer_refined", "eer_same_gender", "eer_same_gender_refined", "eer_gender_only", "eer_chance"),
    *("auc", "auc_refined", "eer_ci95", "trials", "positives", "sizes_tell"),
}
PEOPLE = ["a", "b", "c", "d"]
GENDERS = ["M", "M", "F", "F"]


@pytest.fixture
def pairs() -> tuple[list[int], list[int], list[int]]:
    voice, face = (index.ravel().tolist() for index in np.mgrid[:4, :4])
    return voice, face, [int(v == f) for v, f in zip(voice, face, strict=True)]


def test_record_of_a_cell_has_every_number(pairs: tuple[list[int], list[int], list[int]]) -> None:
    voice, face, labels = pairs
    # items stand in another order than people, and the cell points into them
    voices, faces = make_items(PEOPLE[::-1], GENDERS[::-1]), make_items(PEOPLE, GENDERS)
    cell = make_labelled_cell([3 - v for v in voice], face, labels)
    rng = np.random.default_rng(0)
    raw, refined = rng.normal(size=(2, 16)) - np.array(labels)
    record = evaluate_cell(cell, voices, faces, raw, refined)
    assert set(record) == KEYS
    genders = np.array(GENDERS)[voice], np.array(GENDERS)[face]
    assert record["eer"] == eer(raw, labels, direction="distance").eer
    assert record["auc_refined"] == auc(refined, labels, direction="distance")
    assert record["eer_same_gender"] == same_gender_eer(raw, labels, *genders, direction="distance")
    assert record["eer_same_gender_refined"] == same_gender_eer(refined, labels, *genders, direction="distance")
    assert record["eer_gender_only"] == pytest.approx((1 / 3) / (4 / 3))
    assert record["eer_ci95"][0] <= record["eer"] <= record["eer_ci95"][1]
    assert (record["trials"], record["positives"]) == (16, 4)
    assert json.loads(json.dumps(record)) == record
    assert evaluate_cell(cell, voices, faces, raw, refined) == record


@pytest.mark.parametrize(
    ("voices", "faces", "tell"),
    [([0, 0, 1], [0, 0, 1], True), ([0, 0, 1], [0, 1, 1], False), ([0, 0, 1, 1], [0, 0, 1, 1], False)],
    ids=["natural", "scrambled", "balanced"],
)
def test_lists_whose_cluster_sizes_say_who_is_who(voices: list[int], faces: list[int], tell: bool) -> None:
    sides = [make_items([PEOPLE[i] for i in side], [GENDERS[i] for i in side]) for side in (voices, faces)]
    voice, face = (index.ravel().tolist() for index in np.mgrid[: len(voices), : len(faces)])
    labels = [int(voices[v] == faces[f]) for v, f in zip(voice, face, strict=True)]
    record = evaluate_cell(make_labelled_cell(voice, face, labels), *sides, np.arange(len(labels), dtype=np.float64))
    assert record["sizes_tell"] is tell


def test_what_cannot_be_computed_is_none(pairs: tuple[list[int], list[int], list[int]]) -> None:
    voice, face, labels = pairs
    cell, raw = make_labelled_cell(voice, face, labels), np.arange(16.0)
    known, unknown = make_items(PEOPLE, GENDERS), make_items([""] * 4, ["M", "", "", ""])
    none = {key for key, value in evaluate_cell(cell, known, unknown, raw).items() if value is None}
    refined = {"eer_refined", "auc_refined", "eer_same_gender_refined"}
    assert none == refined | {"eer_same_gender", "eer_gender_only", "eer_ci95"}
    quick = evaluate_cell(cell, known, known, raw, controls=False)
    assert {key for key, value in quick.items() if value is not None} == {"eer", "auc", "trials", "positives"}
    one_of_each = evaluate_cell(cell, make_items(PEOPLE, ["M"] * 4), make_items(PEOPLE, ["F"] * 4), raw)
    assert one_of_each["eer_same_gender"] is None
    alone = make_labelled_cell([0, 0], [0, 0], [1, 0])
    record = evaluate_cell(alone, known, known, np.array([0.0, 1.0]))
    assert record["eer_chance"] is None
    assert record["eer_ci95"] is None


def test_faults_name_the_cell(pairs: tuple[list[int], list[int], list[int]]) -> None:
    voice, face, labels = pairs
    items = make_items(PEOPLE, GENDERS)
    with pytest.raises(ValueError, match=r"test condition 'unheard': list\.csv has no labels"):
        evaluate_cell(make_labelled_cell(voice, face, None, "unheard"), items, items, np.zeros(16))
    scores = np.where(np.arange(16) == 3, np.nan, 0.0)
    with pytest.raises(ValueError, match=r"test condition 'heard' \(list\.csv\): score of trial 3 is nan"):
        evaluate_cell(make_labelled_cell(voice, face, labels), items, items, scores)


def test_overall_is_the_plain_mean_per_set_of_lists() -> None:
    def record(rate: float, same_gender: float | None) -> dict:
        return dict.fromkeys(KEYS, rate) | {
            "eer_same_gender": same_gender,
            "trials": 10,
            "positives": 4,
            "eer_ci95": [0, 1],
        }

    results = {
        "balanced/heard": record(0.2, 0.3),
        "balanced/unheard": record(0.4, None),
        "heard": record(0.1, 0.1),
        "unheard": record(0.3, 0.5),
    }
    languages = {name: "Urdu" if "unheard" in name else "English" for name in results}
    summary = summarise(results, languages)
    assert set(summary) == {*results, "overall", "balanced/overall"}
    assert summary["overall"]["eer"] == pytest.approx(0.2)
    assert summary["overall"]["eer_same_gender"] == pytest.approx(0.3)
    assert summary["balanced/overall"]["eer"] == pytest.approx(0.3)
    assert summary["balanced/overall"]["eer_same_gender"] is None
    assert summary["overall"]["eer_ci95"] is None
    assert (summary["overall"]["trials"], summary["overall"]["positives"]) == (20, 8)
    with pytest.raises(ValueError, match="no test conditions"):
        overall({})


def test_strata_of_one_language_have_no_overall() -> None:
    record = dict.fromkeys(KEYS, 0.2) | {"trials": 10, "positives": 4, "eer_ci95": None}
    results = dict.fromkeys(["pins/unseen/U", "pins/unseen/G", "wen/unseen/v2f", "all"], record)
    assert set(summarise(results, dict.fromkeys(results, "English"))) == {*results, "overall"}
