"""Matching of fine clusters: gains, what it does not depend on, identities of one side, what it does without data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from datamodules.schema import ScoredCell
from postproc import Matching, Reference, Transport
from postproc.cells import unit
from postproc.clustering.linkage import cut_at
from postproc.clustering.threshold import calibrated_thresholds
from postproc.memory import Memory
from postproc.metrics import auc, eer
from postproc.steps.gender import Genders, learn_genders
from postproc.steps.matching.describe import Attributes, describe
from tests.postproc.synthetic_people import World


class Vague(World):
    """Voices and faces of an identity share its traits in part only, and encoders split an identity."""

    def __init__(self, seed: int, apart: float = 1.2) -> None:
        super().__init__(seed, noise=1.5, blur=1.2)
        self.apart = apart

    def clips(self, traits: np.ndarray, counts: np.ndarray, modality: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return super().clips(traits + self.apart * self.rng.normal(size=traits.shape), counts, modality)

    def reference(self, genders: str = "M" * 16 + "F" * 16, clips: int = 10) -> Reference:
        traits, letters = self.people(genders)
        spaces = []
        for modality in (0, 1):
            person, model, inputs = self.clips(traits, np.full(len(traits), clips), modality)
            order = np.argsort(person, kind="stable")
            spaces.append({"model": model[order], "input": inputs[order]})
        person = np.sort(person)
        names, seen = np.array([f"id{p:02d}" for p in person]), np.ones(len(person), dtype=bool)
        return Reference(spaces[0], spaces[1], names, np.full(len(person), "English"), letters[person], seen)


def error(distances: np.ndarray, labels: np.ndarray) -> float:
    return eer(distances, labels, direction="distance").eer


def calibrated(of: Vague, **options: float) -> Matching:
    step = Matching(**options)  # type: ignore[arg-type]
    step.calibrate(of.reference())
    return step


def listed(cell: ScoredCell, rows: np.ndarray) -> ScoredCell:
    return replace(
        cell, distances=cell.distances[rows], voice_index=cell.voice_index[rows], face_index=cell.face_index[rows]
    )


@pytest.fixture(scope="module")
def five() -> tuple[Vague, Matching]:
    of = Vague(5)
    return of, calibrated(of)


def test_it_gains_and_harms_less_than_matching_clusters_by_their_number(five: tuple[Vague, Matching]) -> None:
    of, step = five
    changes = []
    for _ in range(12):
        cell, labels = of.cell(trials=1500)
        raw = error(cell.distances, labels)
        changes.append([error(way(cell).distances, labels) - raw for way in (step, Transport())])
    matching, transport = np.array(changes).T
    assert matching.mean() < -0.05
    assert matching.max() < transport.max()
    assert matching.std() < transport.std()


def test_clusters_are_more_than_identities_and_shares_count_identities(five: tuple[Vague, Matching]) -> None:
    of, step = five
    for _ in range(3):
        cell, _ = of.cell()
        trace = step(cell).trace
        for m in ("voice", "face"):
            assert trace["clusters"][m][0] > 6
            assert trace["identities"][m][2] == pytest.approx(6, abs=2)
    assert step.gain is not None
    assert step.gain.low < step.gain.change < step.gain.high < 0
    assert trace["weights"]["similarity"] > 0


def test_a_pair_is_scored_the_same_whichever_other_pairs_are_listed(five: tuple[Vague, Matching]) -> None:
    of, step = five
    cell, _ = of.cell()
    few = np.arange(0, 3000, 7)
    np.testing.assert_allclose(step(listed(cell, few)).distances, step(cell).distances[few], rtol=0, atol=1e-12)


def test_the_order_of_voices_and_faces_does_not_matter(five: tuple[Vague, Matching]) -> None:
    of, step = five
    cell, _ = of.cell()
    rng = np.random.default_rng(0)
    v, f = (rng.permutation(len(spaces["model"])) for spaces in (cell.voices, cell.faces))
    voices, faces = ({s: x[order] for s, x in spaces.items()} for spaces, order in ((cell.voices, v), (cell.faces, f)))
    turned = ScoredCell(cell.distances, np.argsort(v)[cell.voice_index], np.argsort(f)[cell.face_index], voices, faces)
    np.testing.assert_allclose(step(turned).distances, step(cell).distances, atol=1e-6)


def test_identities_without_faces_do_not_take_those_of_others() -> None:
    of = Vague(8, apart=0.1)
    step = calibrated(of)
    traits, _ = of.people("MMMFFF")
    (pv, mv, iv), (pf, mf, jf) = of.clips(traits, np.full(6, 20), 0), of.clips(traits[:4], np.full(4, 20), 1)
    voice, face = (i.ravel() for i in np.indices((len(mv), len(mf))))
    cell = ScoredCell(1 - (mv @ mf.T).ravel(), voice, face, {"model": mv, "input": iv}, {"model": mf, "input": jf})
    refined = step(cell)
    labels = (pv[voice] == pf[face]).astype(np.int8)
    assert error(refined.distances, labels) < min(0.05, error(cell.distances, labels))


@pytest.mark.parametrize("genders", [True, False])
def test_features_are_centred_by_shares_and_gender_is_one_of_them(genders: bool) -> None:
    of = Vague(2)
    reference = of.reference()
    thresholds = calibrated_thresholds(reference, 0, Memory())
    cell, _ = of.cell()
    probes = learn_genders(reference, Memory()) if genders else Genders()
    learnt = {"voice": unit(cell.voices["model"]), "face": unit(cell.faces["model"])}
    for pairs in describe(cell, learnt, thresholds, Attributes(probes), Memory(), 0):
        a, b = pairs.voices.share, pairs.faces.share
        assert pairs.features.shape == (len(a), len(b), 1 + genders)
        np.testing.assert_allclose(np.einsum("a,abf->bf", a, pairs.features), 0, atol=1e-9)
        np.testing.assert_allclose(np.einsum("abf,b->af", pairs.features, b), 0, atol=1e-9)
        same = pairs.voices.same
        np.testing.assert_allclose(same, same.T)
        assert ((same > 0) & (same <= 1)).all()
        np.testing.assert_allclose(a, 1 / same.sum(axis=1))


def test_two_clusters_are_of_one_identity_where_the_log_odds_say_so() -> None:
    of = Vague(3)
    thresholds = calibrated_thresholds(of.reference(), 0, Memory())["voice"]
    traits, _ = of.people("MMMMMFFFFF")
    person, _, x = of.clips(traits, np.full(10, 20), 0)
    centred = thresholds.centred(unit(x), "voice")
    labels = cut_at(centred, [thresholds.same[1].distance], 0)[0]
    means = np.stack([centred[labels == c].mean(axis=0) for c in range(labels.max() + 1)])
    owner = np.array([np.bincount(person[labels == c]).argmax() for c in range(labels.max() + 1)])
    odds = thresholds.same[1].log_odds(means, np.bincount(labels))
    i, j = np.triu_indices(len(means), 1)
    one = owner[i] == owner[j]
    assert one.any()
    assert odds[i, j][one].mean() > 0 > odds[i, j][~one].mean()
    assert auc(-odds[i, j], one.astype(np.int8), direction="distance") > 0.8


def without(reference: Reference, what: str) -> Reference:
    if what == "several clips":
        return reference.rows(np.unique(reference.identity, return_index=True)[1])
    if what == "encoder embeddings":
        return replace(reference, voices={"model": reference.voices["model"]})
    return reference.rows(np.isin(reference.identity, ["id00", "id01", "id02"]))


@pytest.mark.parametrize("what", ["several clips", "encoder embeddings", "training identities"])
def test_where_nothing_can_be_calibrated_the_other_step_is_applied_and_the_trace_says_why(what: str) -> None:
    of = Vague(4)
    cell, _ = of.cell(trials=500)
    step = Matching()
    step.calibrate(without(of.reference(), what))
    refined = step(cell)
    np.testing.assert_array_equal(refined.distances, Transport()(cell).distances)
    assert what in refined.trace["otherwise"]


def test_a_cell_without_encoder_embeddings_or_with_one_identity(five: tuple[Vague, Matching]) -> None:
    of, step = five
    cell, _ = of.cell(trials=500)
    bare = replace(cell, voices={"model": cell.voices["model"]})
    assert "no encoder embeddings" in step(bare).trace["otherwise"]
    one = replace(cell, voices={"model": cell.voices["model"], "input": np.ones_like(cell.voices["input"])})
    refined = step(one)
    assert "one cluster" in refined.trace["unchanged"]
    np.testing.assert_array_equal(refined.distances, cell.distances)


@pytest.mark.parametrize("option", ["temperature", "unbalanced", "initial_weight"])
def test_options_out_of_range_are_named(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option}: -1"):
        Matching(**{option: -1.0})  # type: ignore[arg-type]
