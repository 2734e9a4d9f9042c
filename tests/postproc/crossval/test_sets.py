"""Cross-validation on training identities: which are held out, and what scorers and steps know of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from postproc import ASNorm, Reference, refine
from postproc.cells import DegenerateInput
from postproc.crossval import scorers
from postproc.crossval.sets import MODEL, Fold, cross_validation_folds
from postproc.memory import Memory
from tests.postproc.synthetic_people import World


def half_seen(seed: int = 2, held_out: tuple[str, ...] = ("id00", "id01", "id02", "id12", "id13", "id14")) -> Reference:
    reference = World(seed).reference(clips=6)
    return replace(reference, seen=~np.isin(reference.identity, held_out))


def test_every_identity_is_scored_by_scorers_that_have_not_seen_it() -> None:
    reference = half_seen()
    folds = list(cross_validation_folds(reference, [1.0, 100.0], sets=4, seed=0))
    assert [r.scorer for r in folds] == ["1", "100"] * 3 + [MODEL]
    people = [set(r.held_out.identity) for r in folds[::2]]
    assert sorted(p for group in people for p in group) == sorted(set(reference.identity))
    assert [r.group for r in folds] == [0, 0, 1, 1, 2, 2, 3]
    assert [len(list(r.sets())) for r in folds] == [2, 2] * 3 + [4]
    for r in folds:
        assert not set(r.held_out.identity) & set(r.training.identity)
        assert r.training.seen.all()
        assert not r.held_out.seen.any()
    np.testing.assert_array_equal(folds[-1].held_out.voices["model"], reference.voices["model"][~reference.seen])
    assert set(folds[-1].training.identity) == set(reference.identity[reference.seen])


def test_scorers_do_not_know_the_identities_they_score() -> None:
    reference = half_seen()
    first = next(cross_validation_folds(reference, [100.0], sets=1, seed=0))
    inside = np.isin(reference.identity, first.held_out.identity)
    spoilt = {s: x.copy() for s, x in reference.faces.items()}
    spoilt["input"][inside] = np.random.default_rng(0).permutation(spoilt["input"][inside])  # of others of the group
    again = next(cross_validation_folds(replace(reference, faces=spoilt), [100.0], sets=1, seed=0))
    np.testing.assert_array_equal(again.held_out.voices["model"], first.held_out.voices["model"])


def test_scorers_of_a_reference_are_fitted_once_in_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    reference, memory, fits = half_seen(), Memory(), []
    solve = scorers.regularised_cca
    monkeypatch.setattr(scorers, "regularised_cca", lambda *args: fits.append(args) or solve(*args))
    alone = list(cross_validation_folds(reference, [1.0, 100.0], sets=2, seed=0))
    for _ in range(2):
        shared = list(cross_validation_folds(reference, [1.0, 100.0], sets=2, seed=0, memory=memory))
        for one, other in zip(alone, shared, strict=True):
            np.testing.assert_array_equal(one.held_out.voices["model"], other.held_out.voices["model"])
            np.testing.assert_array_equal(one.training.faces["model"], other.training.faces["model"])
    assert len(fits) == 3 + 3
    half = replace(reference, faces={s: x[:, : x.shape[1] // 2] for s, x in reference.faces.items()})
    list(cross_validation_folds(half, [1.0, 100.0], sets=2, seed=0, memory=memory))
    assert len(fits) == 3 + 3 + 3


def test_steps_see_the_others_as_the_scorer_does() -> None:
    """A cohort of embeddings of another model would have another width."""
    for fold in cross_validation_folds(half_seen(), [100.0], sets=1, seed=0):
        (step,) = fold.calibrated([ASNorm(top=5)])
        for cell, _ in fold.sets():
            assert "unchanged" not in refine(cell, [step]).trace["steps"][0]


def test_without_input_embeddings_only_held_out_identities_are_unseen() -> None:
    reference = half_seen()
    bare = replace(reference, voices={"model": reference.voices["model"]}, faces={"model": reference.faces["model"]})
    folds: list[Fold] = list(cross_validation_folds(bare, [100.0], sets=3, seed=0))
    assert [r.scorer for r in folds] == [MODEL]
    with pytest.raises(
        DegenerateInput, match=r"18 training identities without input embeddings and 6 validation identities make 1 "
    ):
        next(cross_validation_folds(bare, [100.0], sets=3, seed=0, least=3))
    everybody = replace(bare, seen=np.ones(len(bare), dtype=bool))
    with pytest.raises(DegenerateInput, match="and 0 validation identities make 0 groups"):
        next(cross_validation_folds(everybody, [100.0], sets=3, seed=0))


def test_a_few_held_out_identities_are_no_group() -> None:
    reference = half_seen(held_out=("id00", "id01", "id12"))
    assert MODEL not in [r.scorer for r in cross_validation_folds(reference, [100.0], sets=1, seed=0)]
