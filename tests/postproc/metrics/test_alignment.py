"""Alignment equals a reference loop, and says nothing where nothing is known."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from datamodules.schema import EvaluationSet, Items
from postproc.metrics.alignment import alignment, retrieval


def items(identity: np.ndarray, language: np.ndarray, features: np.ndarray | None = None) -> Items:
    n = len(identity)
    blank = np.full(n, "")
    return Items(np.arange(n).astype(str), identity, language, blank, blank, features)


def test_retrieval_is_the_reference_loop() -> None:
    rng = np.random.default_rng(0)
    people = np.array(["a", "b", "c", "d"])
    who, gallery_who = rng.choice(people, 300), rng.choice(people[:3], 40)
    queries, gallery = rng.normal(size=(300, 5)), rng.normal(size=(40, 5))
    found = retrieval(queries, who, gallery, gallery_who)
    kept = np.flatnonzero(who != "d")
    scores = queries @ gallery.T
    assert found["queries"] == len(kept)
    assert found["gallery"] == 40
    assert found["r1"] == pytest.approx(np.mean([gallery_who[scores[i].argmax()] == who[i] for i in kept]))
    assert found["map"] == pytest.approx(
        np.mean([average_precision_score(gallery_who == who[i], scores[i]) for i in kept])
    )
    assert found["chance"] == pytest.approx(np.mean([np.mean(gallery_who == who[i]) for i in kept]))


def test_of_many_queries_some_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(20), 50).astype(str)
    traits = rng.normal(size=(20, 4)).repeat(50, axis=0)
    queries, gallery = traits + rng.normal(size=traits.shape), traits + rng.normal(size=traits.shape)
    every = retrieval(queries, who, gallery, who)
    monkeypatch.setattr("postproc.metrics.alignment._MOST", 300)
    some = retrieval(queries, who, gallery, who)
    assert (some["queries"], some["gallery"]) == (300, 1000)
    assert some["map"] == pytest.approx(every["map"], abs=0.03)
    assert some["map"] != every["map"]
    assert some == retrieval(queries, who, gallery, who)


def test_a_collapsed_model_is_at_chance() -> None:
    who = np.array(["a", "b", "b"])
    found = retrieval(np.ones((3, 2)), who, np.ones((3, 2)), who)
    assert found["r1"] == pytest.approx(found["chance"]) == pytest.approx((1 + 2 + 2) / 9)


def test_a_space_that_ignores_language_aligns_what_the_input_does_not() -> None:
    rng = np.random.default_rng(0)
    identity, language = np.tile(np.repeat(["a", "b", "c"], 4), 2), np.repeat(["X", "Y"], 12)
    traits = {p: rng.normal(size=6) for p in "abc"}
    learnt = np.stack([traits[p] for p in identity]) + 0.01 * rng.normal(size=(24, 6))
    given = learnt * np.where(language == "X", 1, -1)[:, None]
    evaluation = EvaluationSet(items(identity, language, given), items(identity, language), {})
    found = alignment(evaluation, {"voice": learnt, "face": learnt})
    assert found["model"]["voice_to_voice"]["X->Y"]["r1"] == 1
    assert found["model"]["voice_to_voice"]["Y->X"]["gallery"] == 12
    assert found["input"]["voice_to_voice"]["X->Y"]["r1"] < 0.5
    assert found["model"]["voice_to_face"]["X"]["map"] == pytest.approx(1)
    assert "voice_to_face" not in found["input"]


def test_nothing_known_gives_nothing() -> None:
    blank = np.full(4, "")
    evaluation = EvaluationSet(items(blank, np.array(["X", "X", "Y", "Y"])), items(blank, blank), {})
    x = np.eye(4)
    assert alignment(evaluation, {"voice": x, "face": x}) == {"model": {"voice_to_voice": {}, "voice_to_face": {}}}
