"""FAA: learns without labels, the same on two ranks and after a stop, and scores pairs by its matching head."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.nn import functional as F

from datamodules.schema import DataError, EvaluationSet, Ranking, Stage
from datamodules.training_set import TrainingSet
from lightning_modules.faa import FAA
from lightning_modules.networks.heads import SharedHeads
from lightning_modules.networks.matching import MatchingEncoder
from tests.lightning_modules.tiny import DIMS, TinyData, fit_and_test, trainer
from tests.ranks import TwoRanks

PUBLISHED: dict[str, Any] = {"loss": "multi_similarity", "unit": "video", "joint": True, "learnt_from": 0}
SELF_LIFTING: dict[str, Any] = PUBLISHED | {"matching": None, "diverse_positives": False, "scoring": "cosine"}


def faa(**options: Any) -> FAA:
    torch.manual_seed(0)
    network = partial(SharedHeads, embedding_dim=8, hidden=16, dropout=0.0)
    matching = partial(MatchingEncoder, width=16, depth=1, heads=2)
    optimizer = partial(torch.optim.Adam, lr=5e-3)
    defaults = {"network": network, "matching": matching, "clusters": [8, 12], "optimizer": optimizer}
    return FAA(DIMS, **{**defaults, "scoring": "matching", **options})


class Relabelled(TinyData):
    """The same clips under other names."""

    def training_set(self) -> TrainingSet:
        train = super().training_set()
        identity = np.random.default_rng(1).permutation(train.identity)
        names = (name for name in train.__dataclass_fields__ if name != "identity")
        return TrainingSet(identity=identity, **{name: getattr(train, name) for name in names})


def weights_after(model: FAA, data: TinyData, folder: Path, **options: Any) -> dict[str, Tensor]:
    trainer(folder, **{"max_epochs": 2, "enable_checkpointing": False, "callbacks": [], **options}).fit(model, data)
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize(
    "options", [{}, {"clusters": "silhouette"}, PUBLISHED, SELF_LIFTING], ids=["faa", "silhouette", "paper", "lifting"]
)
def test_identity_labels_change_no_weight(options: dict[str, Any], tmp_path: Path) -> None:
    assert equal(*(weights_after(faa(**options), data, tmp_path) for data in (TinyData(), Relabelled())))


def test_the_supervised_bound_does_learn_from_labels(tmp_path: Path) -> None:
    bound = (weights_after(faa(supervised=True), data, tmp_path) for data in (TinyData(), Relabelled()))
    assert not equal(*bound)


def test_learns_who_belongs_together_from_videos_alone(tmp_path: Path) -> None:
    untrained = trainer(tmp_path / "untrained").validate(faa(), TinyData(), verbose=False)[0]["val/eer"]
    assert (
        fit_and_test(partial(faa, tau=0.2, clusters="silhouette"), tmp_path, max_epochs=12)["val/eer"] < 0.3 < untrained
    )


def run_on_rank(folder: Path) -> dict[str, Any]:
    return fit_and_test(faa, folder, devices=2, strategy="ddp")


def test_two_ranks_give_the_result_of_one(two_ranks: TwoRanks, tmp_path: Path) -> None:
    """Clusters, batches, negatives and their draws are global, so training does not depend on the number of ranks."""
    expected = fit_and_test(faa, tmp_path / "one")
    results = two_ranks.run(run_on_rank, tmp_path / "two")
    assert np.array_equal(results[0]["scores"]["heard"], results[1]["scores"]["heard"])
    for result in results:
        assert result["steps"] == expected["steps"] == 22
        np.testing.assert_allclose(result["scores"]["heard"], expected["scores"]["heard"], atol=1e-3)


@pytest.mark.parametrize("step", [15, 22], ids=["mid-epoch", "epoch end"])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(step: int, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "recluster_every": 2,
        "learnt_from": 0,
    }  # so the second epoch lives on the labels of the first
    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1, save_on_train_epoch_end=False)
    through = faa(**options)
    trainer(tmp_path, max_epochs=3, callbacks=[keep], limit_val_batches=0).fit(through, TinyData())
    path = tmp_path / f"step={step}.ckpt"
    assert len(torch.load(path, weights_only=True)["callbacks"]["PseudoIdentities"]["labels"]) == 84
    resumed, run = faa(**options), trainer(tmp_path / "r", max_epochs=3, callbacks=[], limit_val_batches=0)
    run.fit(resumed, TinyData(), ckpt_path=path, weights_only=True)
    assert run.global_step == 33
    assert equal(through.state_dict(), resumed.state_dict())


def test_the_schedule_of_clusters_goes_on_to_its_last(tmp_path: Path) -> None:
    found: list[int] = []

    class Watch(FAA):
        def set_pseudo_identities(self, labels: Any, videos: Any) -> Any:
            found.append(len(np.unique(labels)))
            return super().set_pseudo_identities(labels, videos)

    weights_after(Watch(DIMS, clusters=[4, 9, 11], recluster_every=2), TinyData(), tmp_path, max_epochs=8)
    assert found == [4, 4, 9, 9, 11, 11, 11, 11]


def test_quality_is_logged(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=1)
    run.fit(faa(), TinyData())
    assert 0 < run.callback_metrics["cluster/nmi"] <= 1
    assert {"cluster/ari", "cluster/purity", "train/matching", "train/contrastive"} <= set(run.callback_metrics)


def test_distance_is_minus_log_of_the_probability_of_one_person(monkeypatch: pytest.MonkeyPatch) -> None:
    model, (voices, faces) = faa().eval(), F.normalize(torch.randn(2, 11, 8), dim=2)
    with torch.no_grad():
        whole = model.distance(voices, faces)
        monkeypatch.setattr("lightning_modules.faa.MATCHING_CHUNK", 3)
        torch.testing.assert_close(model.distance(voices, faces), whole)
        logits = torch.cat([model.matching(v[None], f[None]) for v, f in zip(voices, faces, strict=True)])
    torch.testing.assert_close(whole, -torch.sigmoid(logits).log())


@pytest.mark.parametrize("probe", ["voice", "face"])
def test_reranking_orders_the_nearest_by_the_head_and_keeps_the_rest(probe: Any) -> None:
    model, (probes, gallery) = faa(scoring="rerank", rerank_top=4).eval(), F.normalize(torch.randn(2, 9, 8), dim=2)
    with torch.no_grad():
        found = model.rank(probes, gallery, probe)
        for row, x in enumerate(probes):
            cosine = 1 - gallery @ x
            pairs = (x.expand(9, -1), gallery) if probe == "voice" else (gallery, x.expand(9, -1))
            top, rest = cosine.argsort()[:4], cosine.argsort()[4:]
            by_head = top[model.distance(*pairs)[top].argsort()]
            assert found[row].argsort().tolist() == [*by_head.tolist(), *rest.tolist()]
            torch.testing.assert_close(found[row].sort().values, cosine.sort().values)


class Ranked(TinyData):
    """With a matching and a retrieval over the items of its cell."""

    def evaluation_set(self, stage: Stage) -> EvaluationSet:
        found, rows = super().evaluation_set(stage), np.arange(17)
        rankings = [
            Ranking("match", "voice", rows, np.stack([rows, (rows + 3) % 17], axis=1)),
            Ranking("retrieve", "face", rows, rows),
        ]
        return replace(found, rankings={ranking.name: ranking for ranking in rankings})


def test_a_gallery_by_cosine_has_the_distances_of_its_pairs() -> None:
    model, (probes, gallery) = faa(scoring="cosine").eval(), F.normalize(torch.randn(2, 9, 8), dim=2)
    pairs = torch.stack([model.distance(probe.expand_as(gallery), gallery) for probe in probes])
    torch.testing.assert_close(model.rank(probes, gallery, "voice"), pairs)


def test_further_scorings_give_what_the_same_weights_give_alone(tmp_path: Path) -> None:
    def tested(scoring: Any) -> FAA:
        model = faa(scoring=scoring, rerank_top=4)
        trainer(tmp_path).test(model, Ranked(), verbose=False)
        return model

    def ranked(model: FAA, name: str) -> Any:
        return model.score_rows(model.evaluation.rankings[name])(slice(0, 17))

    ways = ["matching", "cosine", "rerank"]
    one, alone = tested(ways), {way: tested(way) for way in ways}
    assert list(one.scores) == ["heard", "cosine/heard"]  # a pair has the same distance by rerank as by matching
    assert set(one.evaluation.rankings) == {
        *("match", "retrieve", "cosine/match", "cosine/retrieve", "rerank/retrieve"),
    }
    assert one.evaluation.cells["cosine/heard"].name == "cosine/heard"
    np.testing.assert_array_equal(one.scores["heard"], alone["matching"].scores["heard"])
    np.testing.assert_array_equal(one.scores["cosine/heard"], alone["cosine"].scores["heard"])
    for name in one.evaluation.rankings:
        way = alone[name.partition("/")[0]] if "/" in name else alone["matching"]
        np.testing.assert_array_equal(ranked(one, name), ranked(way, name.rpartition("/")[2]))
    assert one.scoring == "matching"


def test_without_its_parts_nothing_of_them_is_left() -> None:
    assert not any("matching" in name for name in faa(**SELF_LIFTING).state_dict())


@pytest.mark.parametrize(
    ("options", "units", "diverse"),
    [
        ({}, "labels", "labels"),
        ({"diverse_positives": False}, "labels", None),
        ({"unit": "video"}, "videos", "labels"),
        (SELF_LIFTING, "videos", None),
    ],
)
def test_units_of_batches_and_positives_are_those_of_the_switches(
    options: dict[str, Any], units: str, diverse: str | None
) -> None:
    groups = {"labels": np.array([0, 0, 1]), "videos": np.array([0, 1, 2])}
    found = faa(**options).set_pseudo_identities(groups["labels"], groups["videos"])
    assert found[0] is groups[units]
    assert found[1] is (None if diverse is None else groups[diverse])


def independent_infonce(voice: Tensor, face: Tensor, label: Tensor, tau: float, joint: bool) -> Tensor:
    """Mean over voices and faces of -log of a pair's share among itself and the pairs of other labels."""
    n, terms = len(voice), []
    for anchors, others in ((voice, face), (face, voice)):
        for i in range(n):
            rivals = [others[j] for j in range(n) if label[j] != label[i]]
            rivals += [anchors[j] for j in range(n) if joint and label[j] != label[i]]
            logits = torch.stack([F.cosine_similarity(anchors[i], x, dim=0) for x in [others[i], *rivals]]) / tau
            terms.append(-logits.log_softmax(0)[0])
    return torch.stack(terms).mean()


@pytest.mark.parametrize("joint", [False, True])
def test_infonce_has_the_value_of_its_formula(joint: bool) -> None:
    (voice, face), label = torch.randn(2, 6, 8), torch.tensor([0, 0, 1, 2, 2, 3])
    loss = faa(tau=0.3, joint=joint).contrastive(voice, face, label)
    torch.testing.assert_close(loss, independent_infonce(voice, face, label, 0.3, joint))


def test_the_matching_weight_is_the_encoders_share_of_its_gradient() -> None:
    train = TinyData().training_set()
    gradients: list[Any] = []
    clips = np.arange(8)
    for weight in (0.0, 0.5, 1.0):
        model: Any = faa(matching_weight=weight).train()
        torch.nn.init.normal_(model.matching.head.weight)  # at first it lets nothing through
        model.set_pseudo_identities(train.identity, np.arange(len(train.identity)))
        model._trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
        batch = {"voice": train.voices.read(clips), "face": train.faces.read(clips), "clip": torch.from_numpy(clips)}
        model.loss(batch)["matching"].backward()
        gradients.append([model.network.shared[0].weight.grad, model.matching.slope.grad])
    (none, head), (half, same), (whole, _) = gradients
    assert (none == 0).all()
    assert (whole != 0).any()
    assert head != 0
    torch.testing.assert_close(half, whole / 2)
    torch.testing.assert_close(same, head)


def test_the_matching_head_starts_from_the_cosine_and_follows_its_mean() -> None:
    model, (voices, faces) = faa().eval(), F.normalize(torch.randn(2, 30, 8), dim=2)
    with torch.no_grad():
        assert torch.equal(model.distance(voices, faces).argsort(), (voices * faces).sum(1).argsort(descending=True))
        for _ in range(100):  # true pairs have cosines of .9, others of .5 to .7
            model.matching.centre_on(0.5 + 0.1 * torch.arange(9.0).view(3, 3) % 0.3 + 0.4 * torch.eye(3))
    assert 0.6 < float(model.matching.centre) < 0.9
    assert 0.01 <= float(model.matching.spread) < 0.2


def test_a_head_of_an_earlier_version_gives_slope_times_cosine(tmp_path: Path) -> None:
    model, run = faa(), trainer(tmp_path, max_epochs=1)
    run.fit(model, TinyData())
    run.save_checkpoint(tmp_path / "new.ckpt")
    content = torch.load(tmp_path / "new.ckpt", weights_only=True)
    for name in ("matching.centre", "matching.spread"):
        del content["state_dict"][name]
    torch.save(content, tmp_path / "old.ckpt")
    torch.save(content["state_dict"], tmp_path / "old.pt")
    voices, faces = F.normalize(torch.randn(2, 30, 8), dim=2)
    old = FAA.load_from_checkpoint(tmp_path / "old.ckpt")
    started = faa(weights=str(tmp_path / "old.pt")).eval()
    with torch.no_grad():
        fused = (
            model.matching(voices, faces)
            - model.matching.slope * ((voices * faces).sum(1) - model.matching.centre) / model.matching.spread
        )
        expected = F.softplus(-(model.matching.slope * (voices * faces).sum(1) + fused))
        for head in (old, started):
            torch.testing.assert_close(head.distance(voices, faces), expected, atol=1e-5, rtol=1e-5)


def test_each_objective_alone_trains_the_encoders(tmp_path: Path) -> None:
    for options in (
        {"contrastive_weight": 0.0, "matching_weight": 1.0},
        {"matching": None, "scoring": "cosine"},
        {"loss": "multi_similarity"},
    ):
        trained = weights_after(faa(**options), TinyData(), tmp_path, max_epochs=1)
        assert not torch.equal(
            trained["network.shared.0.weight"], faa(**options).state_dict()["network.shared.0.weight"]
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clusters": []}, "clusters"),
        ({"clusters": [1]}, "clusters"),
        ({"clusters": "elbow"}, "choose silhouette"),
        ({"recluster_every": 0}, "recluster_every"),
        ({"learnt_from": -1}, "learnt_from is -1"),
        ({"pooling": "mean"}, "pooling is 'mean'; choose from both, voice, face"),
        ({"loss": "triplet"}, "infonce, multi_similarity"),
        ({"unit": "clip"}, "pseudo_identity, video"),
        ({"scoring": "fused"}, "cosine, matching, rerank"),
        ({"scoring": []}, "cosine, matching, rerank"),
        ({"matching": None, "scoring": ["cosine", "rerank"]}, "matching is null"),
        ({"matching": None}, "matching is null"),
        ({"matching": None, "scoring": "cosine", "contrastive_weight": 0.0}, "contrastive_weight is 0"),
        ({"contrastive_weight": 0.0}, "no matching loss reaches them"),
        ({"matching": partial(MatchingEncoder, width=10, heads=4)}, "width is 10"),
    ],
)
def test_options_out_of_range_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        faa(**options)
