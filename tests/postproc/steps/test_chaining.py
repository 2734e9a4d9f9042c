"""Algorithm 1: what it does to scores, where it helps, where it harms, and what it survives."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from datamodules.schema import ScoredCell
from postproc import ChainingCluster, Threshold
from postproc.memory import Memory
from postproc.metrics import eer
from postproc.steps.gender import learn_genders
from tests import REPOSITORY
from tests.postproc.conftest import make_cell
from tests.postproc.synthetic_people import World

QUICK: dict[str, Any] = {"n_identities": 3, "backend": "cpu", "n_init": 3}


@pytest.mark.parametrize("backend", ["cpu", "sklearn"])
def test_eight_trials_worked_by_hand(backend: Any) -> None:
    golden = json.loads((REPOSITORY / "tests" / "golden" / "chaining_8_trials.json").read_text())
    column = {key: np.array([trial[key] for trial in golden["trials"]]) for key in golden["trials"][0]}
    voices, faces = ({"model": np.array(golden[side])} for side in ("voices", "faces"))
    cell = ScoredCell(column["distance"], column["voice"], column["face"], voices, faces)
    everything = Threshold(quantile=1.0)
    step = ChainingCluster(
        2, t_m=everything, t_g=everything, t_alpha=Threshold(absolute=0.5), alpha=0.5, backend=backend
    )
    result = step(cell)
    names = np.array(["untouched", "rewarded", "penalised"])
    assert names[result.trace["action"]].tolist() == column["action"].tolist()
    np.testing.assert_allclose(result.distances, column["refined"], atol=1e-12)


def test_gender_dominant_embeddings_gain() -> None:
    cell, labels, _ = make_cell(gender_strength=0.7)
    raw = eer(cell.distances, labels, direction="distance").eer
    result = ChainingCluster(**QUICK, t_alpha=Threshold(quantile=2 / 3))(cell)
    assert eer(result.distances, labels, direction="distance").eer < raw - 0.03


def test_clusters_that_are_not_gender_do_harm() -> None:
    cell, labels, _ = make_cell(gender_strength=0.7, face_gender_strength=0.4, nuisance=2.0)
    raw = eer(cell.distances, labels, direction="distance").eer
    result = ChainingCluster(**QUICK)(cell)
    assert "unchanged" not in result.trace
    assert eer(result.distances, labels, direction="distance").eer > raw + 0.05


def test_actions_are_those_of_the_trace() -> None:
    cell, _, genders_differ = make_cell(gender_strength=2.0)
    result = ChainingCluster(**QUICK, alpha=0.3, t_alpha=Threshold(absolute=0.8))(cell)
    action, (best, worst) = result.trace["action"], result.trace["bounds"]
    assert (best, worst) == (cell.distances.min(), cell.distances.max())
    np.testing.assert_array_equal(action == 2, genders_differ)
    np.testing.assert_array_equal(result.distances[action == 0], cell.distances[action == 0])
    np.testing.assert_allclose(
        result.distances[action == 1], best + (cell.distances[action == 1] - best) * 0.3, rtol=1e-12
    )
    np.testing.assert_array_equal(result.distances[action == 2], worst)
    assert sum(result.trace["counts"].values()) == len(action)
    assert result.trace["counts"]["rewarded"] == (action == 1).sum() > 0
    # a pair is rewarded exactly where its gender agrees and its prototypes' cosine is above the threshold
    voice, face = (result.trace["assignment"][m] for m in ("voice", "face"))
    for trial in range(0, len(action), 97):
        (gv, iv), (gf, jf) = voice[cell.voice_index[trial]], face[cell.face_index[trial]]
        rewarded = gv == gf and result.trace["similarity"][gv][iv, jf] > 0.8
        assert (action[trial] == 1) == rewarded


def test_prototypes_are_means_of_kept_samples_and_the_trace_counts_them() -> None:
    cell, _, _ = make_cell(gender_strength=2.0)
    result = ChainingCluster(**QUICK)(cell)
    clusters = result.trace["clusters"]
    gender_level = [c for c in clusters if c["identity"] is None]
    assert len(gender_level) == 4
    assert len(clusters) == 4 + 4 * 3
    for gender in gender_level:
        inside = [
            c
            for c in clusters
            if c["identity"] is not None and (c["modality"], c["gender"]) == (gender["modality"], gender["gender"])
        ]
        assert sum(c["size"] for c in inside) == gender["kept"] < gender["size"]
    for cluster in clusters:
        assert 0 < cluster["kept"] <= cluster["size"]
        assert (cluster["kept"] == cluster["size"]) == (cluster["radius"] <= cluster["threshold"])
    everything = ChainingCluster(**QUICK, t_m=Threshold(quantile=1.0), t_g=Threshold(quantile=1.0))(cell)
    voice = everything.trace["assignment"]["voice"]
    face = everything.trace["assignment"]["face"]
    for gender in (0, 1):
        prototypes = [
            np.stack([x[(a == [gender, k]).all(axis=1)].mean(axis=0) for k in range(3)])
            for x, a in ((cell.voices["model"], voice), (cell.faces["model"], face))
        ]
        unit = [p / np.linalg.norm(p, axis=1, keepdims=True) for p in prototypes]
        np.testing.assert_allclose(everything.trace["similarity"][gender], unit[0] @ unit[1].T, atol=1e-6)


def test_options_switch_off_what_they_name() -> None:
    cell, _, _ = make_cell()
    kept = ChainingCluster(**QUICK, penalty=False, alpha=1.0)(cell)
    np.testing.assert_allclose(kept.distances, cell.distances, rtol=1e-15)
    assert kept.trace["counts"]["penalised"] == 0
    nothing = ChainingCluster(**QUICK, penalty=False, t_alpha=Threshold(absolute=1.0))(cell)
    np.testing.assert_array_equal(nothing.distances, cell.distances)
    hard = ChainingCluster(**QUICK, alpha=0.0)(cell)
    assert (hard.distances[hard.trace["action"] == 1] == cell.distances.min()).all()


def test_elbow_counts_are_within_the_range_and_traced() -> None:
    cell, _, _ = make_cell()
    result = ChainingCluster(elbow_range=(3, 5), backend="cpu", n_init=2)(cell)
    assert len(result.trace["elbow"]) == 4
    for choice in result.trace["elbow"].values():
        assert 3 <= choice["chosen"] <= 5
        assert list(choice["total_distance"]) == [2, 3, 4, 5]


def test_silhouette_counts_are_within_the_range_and_traced() -> None:
    cell, _, _ = make_cell()
    result = ChainingCluster("silhouette", elbow_range=(3, 5), backend="cpu", n_init=2)(cell)
    assert len(result.trace["silhouette"]) == 4
    for choice in result.trace["silhouette"].values():
        assert list(choice["mean"]) == [3, 4, 5]
        assert choice["chosen"] == max(choice["mean"], key=choice["mean"].get)


def test_input_space_clusters_what_the_encoders_see() -> None:
    cell, labels, _ = make_cell(gender_strength=0.7)
    rng = np.random.default_rng(0)
    rotate = np.linalg.qr(rng.normal(size=(20, 20)))[0]
    both = replace(
        cell,
        voices=cell.voices | {"input": cell.voices["model"] @ rotate},
        faces=cell.faces | {"input": np.hstack([cell.faces["model"], np.zeros((len(cell.faces["model"]), 7))])},
    )
    result = ChainingCluster(**QUICK, space="input")(both)
    same = ChainingCluster(**QUICK)(cell)
    assert eer(result.distances, labels, direction="distance").eer == pytest.approx(
        eer(same.distances, labels, direction="distance").eer, abs=0.02
    )
    missing = ChainingCluster(**QUICK, space="input")(cell)
    assert "no 'input' embeddings of voices" in missing.trace["unchanged"]


def test_what_happens_to_a_pair_does_not_depend_on_the_other_pairs() -> None:
    cell, _, _ = make_cell(per_person=8)
    n = len(cell.voices["model"])
    step = ChainingCluster(**QUICK)
    full = step(cell)
    order = np.argsort(cell.distances)
    best, worst = order[0], order[-1]
    rng = np.random.default_rng(0)
    for _ in range(3):
        diagonal = np.arange(n) * n + rng.permutation(n)  # every voice and every face is still listed
        listed = np.unique(np.concatenate([diagonal, rng.choice(n * n, 300, replace=False)]))
        part = replace(
            cell,
            distances=cell.distances[listed],
            voice_index=cell.voice_index[listed],
            face_index=cell.face_index[listed],
        )
        result = step(part)
        np.testing.assert_array_equal(result.trace["action"], full.trace["action"][listed])
        for action in (0, 1, 2):  # B_l and B_u may move; the order among pairs treated alike may not
            treated = result.trace["action"] == action
            np.testing.assert_array_equal(
                np.argsort(result.distances[treated], kind="stable"),
                np.argsort(full.distances[listed][treated], kind="stable"),
            )
        bounded = np.unique(np.append(listed, [best, worst]))  # with the same B_l and B_u, nothing moves at all
        same = step(
            replace(
                cell,
                distances=cell.distances[bounded],
                voice_index=cell.voice_index[bounded],
                face_index=cell.face_index[bounded],
            )
        )
        np.testing.assert_array_equal(same.distances, full.distances[bounded])


def test_gender_clusters_of_a_probe_are_its_genders() -> None:
    world = World(2, gender=2.0)
    cell, _ = world.cell()
    step = ChainingCluster(**QUICK, space="input", genders="probe")
    assert step.needs_reference
    assert "no reference genders" in step(cell).trace["unchanged"]
    step.calibrate(world.reference())
    result = step(cell)
    male = {m: p > 0.5 for m, p in learn_genders(world.reference(), Memory())(cell).items()}
    differ = male["voice"][cell.voice_index] != male["face"][cell.face_index]
    assert (result.trace["action"][differ] == 2).mean() > 0.99
    assert (result.trace["action"] == 2).mean() == pytest.approx(differ.mean(), abs=0.01)
    assert "to one gender" in step(World(2, gender=2.0).cell("MMM")[0]).trace["unchanged"]


def test_confident_pairs_only_leaves_the_others_untouched() -> None:
    cell, _, _ = make_cell(gender_strength=2.0)
    options: dict[str, Any] = QUICK | {"t_m": Threshold(quantile=0.6)}
    everyone, confident = (ChainingCluster(**options, pairs=pairs)(cell) for pairs in ("all", "confident"))
    sure = {}
    for m, points, index in (
        ("voice", cell.voices["model"], cell.voice_index),
        ("face", cell.faces["model"], cell.face_index),
    ):
        gender = everyone.trace["assignment"][m][:, 0]
        centres = np.stack([points[gender == g].mean(axis=0) for g in (0, 1)])
        radii = np.linalg.norm(points - centres[gender], axis=1)
        cuts = np.array([np.quantile(radii[gender == g], 0.6) for g in (0, 1)])
        sure[m] = (radii <= cuts[gender] + 1e-12)[index]
    both = sure["voice"] & sure["face"]
    assert 0.2 < both.mean() < 0.6
    np.testing.assert_array_equal(confident.trace["action"], np.where(both, everyone.trace["action"], 0))
    np.testing.assert_array_equal(confident.distances, np.where(both, everyone.distances, cell.distances))


def test_eq_4_as_printed_rewards_the_pairs_that_line_22_does_not() -> None:
    cell, _, genders_differ = make_cell(gender_strength=2.0)
    above, below = (ChainingCluster(**QUICK, reward=way)(cell).trace for way in ("above", "below"))
    assert above["t_alpha"] == below["t_alpha"]
    assert not ((above["action"] == 1) & (below["action"] == 1)).any()
    equal = sum(int((similarity == above["t_alpha"]).sum()) for similarity in above["similarity"])
    touched = (above["action"] > 0) | (below["action"] > 0)
    assert touched.all() or equal
    np.testing.assert_array_equal(below["action"] == 2, genders_differ)


def test_thresholds_by_modality_are_those_of_each_modality() -> None:
    cell, _, _ = make_cell(gender_strength=2.0)
    both = {"voice": Threshold(quantile=0.5), "face": Threshold(absolute=0.8)}
    clusters = ChainingCluster(**QUICK, t_m=both)(cell).trace["clusters"]
    for cluster in (c for c in clusters if c["identity"] is None):
        assert (cluster["threshold"] == 0.8) == (cluster["modality"] == "face")
        if cluster["modality"] == "voice":
            assert cluster["kept"] == pytest.approx(cluster["size"] / 2, abs=1)


def test_thresholds_by_gender_are_those_of_the_probes_genders() -> None:
    world = World(2, gender=2.0)
    cell, _ = world.cell()
    names = {"voice_female": 0.5, "voice_male": 0.6, "face_female": 0.7, "face_male": 0.8}
    for given in (names, {"female": 0.5, "male": 0.6}):
        t_m = {name: Threshold(quantile=share) for name, share in given.items()}
        step = ChainingCluster(**QUICK, space="input", genders="probe", t_m=t_m)
        step.calibrate(world.reference())
        for cluster in (c for c in step(cell).trace["clusters"] if c["identity"] is None):
            gender = ("female", "male")[cluster["gender"]]
            share = given.get(gender) or given[f"{cluster['modality']}_{gender}"]
            assert cluster["kept"] == pytest.approx(share * cluster["size"], abs=1)


@pytest.mark.parametrize("alignment", ["centroids", "scores", "probe"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_alignment_ties_genders_that_are_plain_to_see(alignment: Any, seed: int) -> None:
    world = World(seed, gender=3.0)
    cell, _ = world.cell()
    reference = world.reference()
    step = ChainingCluster(**QUICK, alignment=alignment, seed=seed)
    assert step.needs_reference == (alignment == "probe")
    step.calibrate(reference)
    result = step(cell)
    male = {m: p > 0.5 for m, p in learn_genders(reference, Memory())(cell).items()}
    differ = male["voice"][cell.voice_index] != male["face"][cell.face_index]
    assert ((result.trace["action"] == 2) == differ).mean() > 0.9
    assert result.trace["tie"]["agrees_with_scores"]


def test_no_alignment_depends_on_the_listed_pairs() -> None:
    world = World(1, gender=0.3)
    cell, _ = world.cell()
    some = slice(0, len(cell.distances), 7)
    part = replace(
        cell,
        distances=cell.distances[some][::-1],  # scores that contradict the embeddings
        voice_index=cell.voice_index[some],
        face_index=cell.face_index[some],
    )
    for alignment in ("centroids", "scores", "probe"):
        step = ChainingCluster(**QUICK, alignment=alignment)
        step.calibrate(world.reference())
        assert step(cell).trace["tie"]["face_of_voice"] == step(part).trace["tie"]["face_of_voice"]


def suited(identities: int, seed: int) -> tuple[ScoredCell, np.ndarray]:
    """Data that suit Algorithm 1: gender dominates, clips are close to their identity, voice and face only similar."""
    rng = np.random.default_rng(seed)
    identity = np.repeat(np.arange(2 * identities), 12)
    sign = np.where(np.arange(2 * identities) < identities, 2.0, -2.0)
    traits = rng.normal(size=(2 * identities, 31)) / np.sqrt(31)
    sides = []
    for _ in range(2):
        centres = traits + 0.8 * rng.normal(size=traits.shape) / np.sqrt(31)
        x = np.c_[sign[identity], centres[identity] + rng.normal(size=(len(identity), 31)) / np.sqrt(31)]
        sides.append(x / np.linalg.norm(x, axis=1, keepdims=True))
    same = [
        np.arange(len(identity)).reshape(2 * identities, 12)[identity].ravel(),
        np.repeat(np.arange(len(identity)), 12),
    ]
    other = rng.integers(len(identity), size=(2, len(same[0])))
    voice, face = np.concatenate([same, other], axis=1)
    distances = 1 - np.einsum("td,td->t", sides[0][voice], sides[1][face])
    return ScoredCell(distances, voice, face, *({"model": x} for x in sides)), (
        identity[voice] == identity[face]
    ).astype(np.int8)


@pytest.mark.parametrize("identities", [3, 20])
def test_the_knee_gains_on_data_that_suit_the_method_for_any_seed(identities: int) -> None:
    """The published elbow takes two clusters of twenty and doubles the EER."""
    cell, labels = suited(identities, seed=identities)
    raw = eer(cell.distances, labels, direction="distance").eer
    for seed in range(2):
        knee = ChainingCluster(backend="cpu", n_init=2, seed=seed)(cell)
        assert eer(knee.distances, labels, direction="distance").eer < raw
        for curve in knee.trace["elbow"].values():
            assert abs(curve["chosen"] - identities) <= identities / 5
    if identities == 20:
        elbow = ChainingCluster("elbow", (2, 8), backend="cpu", n_init=1)(cell)
        assert eer(elbow.distances, labels, direction="distance").eer > 1.5 * raw


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pairs": "sure"}, "pairs: 'sure' is none of all, confident"),
        ({"reward": ">"}, "reward: '>' is none of above, below"),
        ({"alignment": "labels"}, "alignment: 'labels' is none of centroids, scores, probe"),
        ({"t_m": {"voice": Threshold(quantile=0.5)}}, "t_m: voice; give one threshold, or all of face, voice"),
        ({"t_g": {}}, "t_g: no names"),
        ({"t_g": {"female": Threshold(quantile=0.5), "male": Threshold(quantile=0.6)}}, "set genders: probe"),
        ({"n_identities": 0}, "n_identities"),
        ({"n_identities": "gap"}, "n_identities"),
        ({"elbow_range": (1, 4)}, "elbow_range"),
        ({"elbow_range": (5, 4)}, "elbow_range"),
        ({"alpha": 1.5}, "alpha"),
        ({"space": "inputs"}, "space"),
        ({"genders": "names"}, "genders"),
        ({"backend": "tpu"}, "backend"),
    ],
)
def test_bad_options_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ChainingCluster(**options)


@pytest.mark.parametrize("values", [{}, {"absolute": 1.0, "quantile": 0.5}, {"quantile": 1.1}, {"absolute": np.nan}])
def test_a_threshold_is_one_number(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="threshold"):
        Threshold(**values)


def test_a_quantile_threshold_keeps_that_share() -> None:
    values = np.arange(101.0)
    assert Threshold(quantile=0.95).of(values) == 95
    assert Threshold(absolute=0.2).of(values) == 0.2
