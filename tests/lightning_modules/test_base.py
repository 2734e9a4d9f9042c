"""The evaluation path every method shares, and the stop before a non-finite step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from datamodules.schema import PairBatch
from lightning_modules.base import AssociationModule
from lightning_modules.training.safety import NonFiniteError
from tests.lightning_modules.tiny import DIMS, TinyData, fit_and_test, trainer
from tests.ranks import TwoRanks


class Linear(AssociationModule):
    """The smallest method: cosine of two linear maps. ``spoil`` turns the loss or gradient NaN on a rank at a step."""

    def __init__(self, spoil: str = "", step: int = 3, rank: int = 0) -> None:
        super().__init__(DIMS, optimizer=lambda p: torch.optim.SGD(p, lr=0.1))
        torch.manual_seed(0)
        self.voice, self.face = nn.Linear(DIMS[0], 4), nn.Linear(DIMS[1], 4)
        self.spoil = (spoil, step, rank)

    def embed_voice(self, x: Tensor) -> Tensor:
        return self.voice(x)

    def embed_face(self, x: Tensor) -> Tensor:
        return self.face(x)

    def loss(self, batch: PairBatch) -> dict[str, Tensor]:
        loss = self.distance(self.voice(batch["voice"]), self.face(batch["face"])).mean()
        what, step, rank = self.spoil
        if self.trainer.global_step == step and self.global_rank == rank:
            if what == "loss":
                loss = loss + torch.nan  # its gradient is fine
            elif what == "gradient":
                self.face.weight.register_hook(lambda g: g * torch.inf)
        return {"loss": loss}


class Watch(Callback):
    """Keeps the weights after the last completed step."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.weights = {k: v.clone() for k, v in pl_module.state_dict().items()}


def test_a_model_that_cannot_embed_is_not_made() -> None:
    class Deaf(AssociationModule):
        def embed_face(self, x: Tensor) -> Tensor:
            return x

    with pytest.raises(TypeError, match=r"abstract.*embed_voice"):
        Deaf(DIMS)


def test_scores_are_those_of_the_distance_trial_by_trial(tmp_path: Path) -> None:
    data, model = TinyData(), Linear()
    trainer(tmp_path).test(model, data, verbose=False)
    cell = data.evaluation_set("test").cells["heard"]
    with torch.no_grad():
        voice, face = (e(torch.from_numpy(x)) for e, x in zip((model.voice, model.face), data.held_out, strict=True))
        expected = 1 - torch.nn.functional.cosine_similarity(voice[cell.voice_index], face[cell.face_index])
    np.testing.assert_allclose(model.scores["heard"], expected.numpy(), atol=1e-6)
    np.testing.assert_allclose(model.embeddings["voice"], voice.numpy(), atol=1e-6)


def test_scoring_in_chunks_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, chunked = Linear(), Linear()
    trainer(tmp_path).test(whole, TinyData(), verbose=False)
    monkeypatch.setattr("lightning_modules.evaluation.scorer.SCORING_CHUNK", 10)
    trainer(tmp_path).test(chunked, TinyData(), verbose=False)
    np.testing.assert_array_equal(chunked.scores["heard"], whole.scores["heard"])


def test_a_refinement_sees_the_cell_and_nothing_else(tmp_path: Path) -> None:
    data, model = TinyData(), Linear()
    trainer(tmp_path).test(model, data, verbose=False)
    cell, seen = data.evaluation_set("test").cells["heard"], model.scored_cell("heard")
    assert set(vars(seen)) == {"distances", "voice_index", "face_index", "voices", "faces"}
    np.testing.assert_array_equal(seen.voices["model"][seen.voice_index], model.embeddings["voice"][cell.voice_index])
    np.testing.assert_array_equal(seen.faces["input"][seen.face_index], data.held_out[1][cell.face_index])


def test_the_sanity_check_scores_nothing_and_training_goes_on(tmp_path: Path) -> None:
    run = trainer(tmp_path, num_sanity_val_steps=1, max_epochs=1)
    run.fit(Linear(), TinyData())
    assert run.callback_metrics["val/eer"] <= 0.6


def run_on_rank(folder: Path) -> dict[str, Any]:
    return fit_and_test(Linear, folder, devices=2, strategy="ddp")


def test_one_and_two_ranks_give_identical_scores_from_fit_to_test(two_ranks: TwoRanks, tmp_path: Path) -> None:
    expected = fit_and_test(Linear, tmp_path / "one")
    one, other = two_ranks.run(run_on_rank, tmp_path / "two")
    np.testing.assert_array_equal(one["scores"]["heard"], other["scores"]["heard"])
    # training rounds differently (a mean of means); the evaluation of equal weights does not
    np.testing.assert_allclose(one["scores"]["heard"], expected["scores"]["heard"], atol=1e-6)
    assert one["val/eer"] == other["val/eer"] == expected["val/eer"]


def score_untrained(ranks: int, folder: Path) -> np.ndarray:
    model = Linear()
    options = {"devices": 2, "strategy": "ddp"} if ranks > 1 else {}
    trainer(folder, **options).test(model, TinyData(), verbose=False)
    return model.scores["heard"]


def test_equal_weights_give_bit_equal_scores_on_any_number_of_ranks(two_ranks: TwoRanks, tmp_path: Path) -> None:
    expected = score_untrained(1, tmp_path)
    for scores in two_ranks.run(score_untrained, 2, tmp_path):
        np.testing.assert_array_equal(scores, expected)


class ScoresOnlyOnRankZero(Linear):
    def distance(self, voices: Tensor, faces: Tensor) -> Tensor:
        if self.global_rank > 0:
            raise AssertionError("rank 1 scored")
        return super().distance(voices, faces)


def score_on_rank_zero(folder: Path) -> np.ndarray:
    model = ScoresOnlyOnRankZero()
    trainer(folder, devices=2, strategy="ddp").test(model, TinyData(), verbose=False)
    return model.scores["heard"]


def test_trials_are_scored_on_rank_zero_and_sent_to_all(two_ranks: TwoRanks, tmp_path: Path) -> None:
    one, other = two_ranks.run(score_on_rank_zero, tmp_path)
    assert np.array_equal(one, other)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_non_finite_step_is_not_taken(what: str, tmp_path: Path) -> None:
    model, watch = Linear(what), Watch()
    with pytest.raises(NonFiniteError, match=f"step 3: {what} is NaN") as error:
        trainer(tmp_path, callbacks=[watch]).fit(model, TinyData())
    assert all(torch.equal(v, watch.weights[k]) for k, v in model.state_dict().items())
    saved = torch.load(tmp_path / "nonfinite_step3_rank0.pt", weights_only=True)
    assert saved["voice"].shape == (8, DIMS[0])
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_bad_loss_anywhere_in_an_accumulated_batch_stops_the_step(tmp_path: Path) -> None:
    model = Linear("loss", step=1)
    run = trainer(tmp_path, accumulate_grad_batches=3)
    with pytest.raises(NonFiniteError, match="step 1: loss"):
        run.fit(model, TinyData())


def test_a_folder_that_cannot_be_written_does_not_hide_the_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NonFiniteError, match="could not be saved"):
        trainer(tmp_path / "file" / "x", callbacks=[], enable_checkpointing=False).fit(Linear("loss"), TinyData())


def fit_with_one_bad_rank(what: str, folder: Path) -> tuple[str, bool]:
    model, watch = Linear(what, rank=1), Watch()
    try:
        trainer(folder, devices=2, strategy="ddp", callbacks=[watch]).fit(model, TinyData())
    except NonFiniteError as error:
        return str(error), all(torch.equal(v, watch.weights[k]) for k, v in model.state_dict().items())
    return "", False


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_one_bad_rank_stops_all_before_the_step(what: str, two_ranks: TwoRanks, tmp_path: Path) -> None:
    messages = two_ranks.run(fit_with_one_bad_rank, what, tmp_path)
    for message, unchanged in messages:
        assert message.startswith("step 3: ")
        assert unchanged
    if what == "loss":
        assert "loss on another rank" in messages[0][0]
        assert "loss is NaN" in messages[1][0]
