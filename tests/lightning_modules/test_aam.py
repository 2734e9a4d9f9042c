"""AAM: learning, noise and dropout by value, dropout by language, starts, weights of another number of identities."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from datamodules.schema import DataError
from datamodules.training_set import TrainingSet
from lightning_modules.aam import AAM
from lightning_modules.training.closed_form import add_clips, fit_cca, no_moments
from tests.lightning_modules.tiny import DIMS, TinyData, fit_and_test, trainer


def aam(**options: Any) -> AAM:
    torch.manual_seed(0)
    return AAM(DIMS, 12, **{"embedding_dim": 8, "dropout": 0.0, "noise": 0.0, **options})


def batch(size: int = 6) -> dict[str, torch.Tensor]:
    rows = torch.arange(size)
    return {"voice": torch.randn(size, 12), "face": torch.randn(size, 20), "identity": rows, "clip": rows}


class TwoLanguages(TinyData):
    """Every other clip in Urdu."""

    def training_set(self) -> TrainingSet:
        train = super().training_set()
        return replace(train, language=np.array(["en", "ur"])[np.arange(len(train.language)) % 2])


@pytest.mark.parametrize(
    "options", [{"scale": 10.0}, {"contrastive_weight": 1.0}, {"cca_start": 1.0, "mean_start": True, "scale": 3.0}]
)
def test_learns_who_belongs_together(options: dict[str, Any], tmp_path: Path) -> None:
    optimizer = {"optimizer": lambda p: torch.optim.AdamW(p, lr=0.01)}
    assert fit_and_test(lambda: aam(**options, **optimizer), tmp_path, max_epochs=10)["val/eer"] < 0.4


def test_loss_is_the_weighted_sum_of_its_terms() -> None:
    model, pairs = aam(classifier_weight=0.5, contrastive_weight=2.0, tau=0.7), batch()
    terms = model.loss(pairs)
    voice, face = model.embed_voice(pairs["voice"]), model.embed_face(pairs["face"])
    logits, rows = voice @ face.T / 0.7, pairs["identity"]
    contrastive = (F.cross_entropy(logits, rows) + F.cross_entropy(logits.T, rows)) / 2
    torch.testing.assert_close(terms["contrastive"], contrastive)
    classifier = (model.classifier(voice, rows) + model.classifier(face, rows)) / 2
    torch.testing.assert_close(terms["loss"], 0.5 * classifier + 2 * contrastive)


def test_one_classifier_serves_both_sides() -> None:
    model = aam()
    assert [name for name, _ in model.named_parameters() if "classifier" in name] == ["classifier.weight"]
    assert model.classifier.weight.shape == (12, 8)


@pytest.mark.parametrize("length", [1.0, 250.0])
def test_noise_is_a_share_of_the_root_mean_square(length: float) -> None:
    x = F.normalize(torch.randn(4, 20000), dim=1) * length
    added = aam(noise=0.1)._spoil(x, torch.arange(4)) - x
    torch.testing.assert_close(added.std(dim=1), torch.full((4,), 0.1 * length / 20000**0.5), rtol=0.05, atol=0)


def test_each_clip_has_the_dropout_of_its_language(tmp_path: Path) -> None:
    model, data = aam(dropout={"en": 0.0, "ur": 0.75}), TwoLanguages()
    trainer(tmp_path, max_epochs=1, limit_train_batches=1, limit_val_batches=0, callbacks=[]).fit(model, data)
    spoiled = model._spoil(torch.ones(4, 20000), torch.tensor([0, 1, 2, 3]))
    assert (spoiled[[0, 2]] == 1).all()
    assert set(spoiled[[1, 3]].unique().tolist()) == {0.0, 4.0}
    assert (spoiled[1] == 0).float().mean().item() == pytest.approx(0.75, abs=0.02)


def test_a_language_without_dropout_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"model\.dropout gives none for ur, .*; it names de, en"):
        trainer(tmp_path, callbacks=[]).fit(aam(dropout={"en": 0.1, "de": 0.2}), TwoLanguages())


def test_embeddings_have_neither_noise_nor_dropout() -> None:
    model, x = aam(noise=1.0, dropout=0.9), torch.randn(5, 12)
    assert torch.equal(model.embed_voice(x), model.embed_voice(x))
    torch.testing.assert_close(model.embed_voice(x).norm(dim=1), torch.ones(5))


def test_starts_from_cca_with_classes_at_the_means_of_their_clips(tmp_path: Path) -> None:
    model, data = aam(cca_start=3.0, mean_start=True, optimizer=lambda p: torch.optim.SGD(p, lr=0.0)), TinyData()
    trainer(tmp_path, max_epochs=1, callbacks=[]).fit(model, data)
    moments, train = no_moments(12, DIMS), data.training_set()
    inputs = train.voices.read(train.voice_rows), train.faces.read(train.face_rows)
    identity = torch.from_numpy(train.identity)
    add_clips(moments, *inputs, identity)
    solution = fit_cca(moments, 3.0, 8)
    with torch.no_grad():
        embedded = model.embed_voice(inputs[0]), model.embed_face(inputs[1])
    for x, of, mean, projection in zip(inputs, embedded, solution.means, solution.projections, strict=True):
        expected = (x.double().numpy() - mean) @ projection
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(of.numpy(), expected, atol=1e-4)
    for i in range(12):
        clips = identity == i
        mean = torch.cat([embedded[0][clips], embedded[1][clips]]).mean(dim=0)
        torch.testing.assert_close(model.classifier.weight[i].detach(), mean, rtol=1e-4, atol=1e-5)


def test_pre_trained_weights_leave_a_classifier_of_other_identities_out(tmp_path: Path) -> None:
    torch.save({"state_dict": aam().state_dict()}, tmp_path / "w.pt")
    with pytest.warns(UserWarning, match="12 identities, the data have 9"):
        model = AAM(DIMS, 9, embedding_dim=8, weights=str(tmp_path / "w.pt"))
    assert torch.equal(model.network.voice_branch[-1].weight, aam().network.voice_branch[-1].weight)
    assert model.classifier.weight.shape == (9, 8)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"dropout": {"en": -0.1}}, "dropout is"),
        ({"noise": -1.0}, "noise is -1.0"),
        ({"classifier_weight": 0.0}, "one must be above 0"),
        ({"cca_start": 1.0, "weights": "x.pt"}, "cca_start and model.weights are both set"),
    ],
)
def test_options_out_of_range_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        aam(**options)


@pytest.mark.parametrize("identities", [None, 1])
def test_identities_are_required(identities: int | None) -> None:
    with pytest.raises(DataError, match="num_identities"):
        AAM(DIMS, identities)
