"""RegularisedCCA through the Trainer: one pass, any number of ranks, refusal of half fits; real data."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.schema import DataError
from lightning_modules.cca import RegularisedCCA
from lightning_modules.training.closed_form import add_clips, fit_cca, no_moments
from postproc.metrics import eer
from tests.lightning_modules.tiny import DIMS, TinyData, fit_and_test, trainer
from tests.ranks import TwoRanks


def cca() -> RegularisedCCA:
    return RegularisedCCA(DIMS, directions=4)


def parameters(
    voice: NDArray[np.floating],
    face: NDArray[np.floating],
    identity: NDArray[np.int64],
    dims: tuple[int, int],
    directions: int = 16,
) -> dict[str, Tensor]:
    """Those of a model fitted on clips."""
    moments = no_moments(int(identity.max()) + 1, dims)
    add_clips(moments, *(torch.from_numpy(x) for x in (voice, face, identity)))
    solution = fit_cca(moments, directions=directions)
    names = "voice_mean", "face_mean", "voice_projection", "face_projection"
    values = (*solution.means, *solution.projections)
    return {name: torch.from_numpy(value) for name, value in zip(names, values, strict=True)}


def run_on_rank(folder: Path) -> dict[str, Any]:
    return fit_and_test(cca, folder, devices=2, strategy="ddp", max_epochs=7)


def test_fits_in_one_epoch_validates_and_comes_back_from_its_checkpoint(tmp_path: Path) -> None:
    result = fit_and_test(cca, tmp_path, max_epochs=50)
    assert result["epochs"] == 1
    data = TinyData()
    expected = parameters(*data.train, data.identity, DIMS, directions=4)
    assert set(result["weights"]) == set(expected)
    for name, weight in result["weights"].items():
        np.testing.assert_allclose(weight, expected[name].numpy(), rtol=1e-5, atol=1e-7)
    cell = data.evaluation_set("test").cells["heard"]
    # the validation EER is that of the fitted model, not of what was there before the fit
    assert result["val/eer"] == pytest.approx(
        eer(result["scores"]["heard"], cell.trials.labels, direction="distance").eer
    )
    assert result["val/eer"] < 0.35


def test_two_ranks_give_the_result_of_one(two_ranks: TwoRanks, tmp_path: Path) -> None:
    expected = fit_and_test(cca, tmp_path / "one")
    for result in two_ranks.run(run_on_rank, tmp_path / "two"):
        assert result["epochs"] == 1
        for name, weight in expected["weights"].items():
            np.testing.assert_allclose(result["weights"][name], weight, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(result["scores"]["heard"], expected["scores"]["heard"], atol=1e-6)
        assert result["val/eer"] == expected["val/eer"]


def test_bf16_changes_nothing(tmp_path: Path) -> None:
    expected = fit_and_test(cca, tmp_path / "32")
    result = fit_and_test(cca, tmp_path / "bf16", precision="bf16-mixed")
    np.testing.assert_array_equal(result["scores"]["heard"], expected["scores"]["heard"])


def test_a_test_without_a_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not fitted"):
        trainer(tmp_path).test(cca(), TinyData(), verbose=False)


def test_a_fit_on_other_than_every_clip_once_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"80 clips, the training set has 84.*data\.sampling"):
        trainer(tmp_path).fit(cca(), TinyData(sampling="identity", steps_per_epoch=10))


def test_a_limited_fit_warns(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="limit_train_batches"):
        trainer(tmp_path, limit_train_batches=4).fit(cca(), TinyData())


def test_several_directions_score_by_the_mean_of_their_cosines(tmp_path: Path) -> None:
    data = TinyData()
    scores = {
        str(k): fit_and_test(partial(RegularisedCCA, DIMS, directions=k), tmp_path / str(k))["scores"]["heard"]
        for k in (2, 4, 8, [2, 4, 8])
    }
    mean = np.mean([scores["2"], scores["4"], scores["8"]], axis=0)
    np.testing.assert_allclose(scores["[2, 4, 8]"], mean, atol=1e-6)
    assert len(mean) == len(data.evaluation_set("test").cells["heard"].trials.keys)
    assert np.abs(mean - scores["8"]).max() > 0.01


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"shrinkage": -1.0}, "shrinkage"),
        ({"directions": 13}, "1 to 12"),
        ({"directions": [2, 13]}, "1 to 12"),
        ({"directions": []}, "1 to 12"),
    ],
)
def test_bad_options_name_themselves(options: dict[str, Any], word: str) -> None:
    with pytest.raises(DataError, match=word):
        RegularisedCCA(DIMS, **options)


def test_real_data_give_the_known_figure(shared_data: Path) -> None:
    """Fold 0, trained on English, balanced lists: 21.6 % heard and unheard (25.9 % is the mean of all 24 cells)."""
    folder = shared_data / "mavceleb"
    voices, faces = (np.load(folder / f"v1_{n}.npz") for n in ("voices_ecapa192", "faces_facenet512"))
    rows = list(csv.DictReader((folder / "trials" / "v1_fold0_English.csv").open()))
    held_out = {row["voice"].split("/")[0] for row in rows}
    train = (voices["language"] == "English") & ~np.isin(voices["identity"], list(held_out))
    identity = np.unique(voices["identity"][train], return_inverse=True)[1]
    assert identity.max() + 1 == 58
    model = RegularisedCCA((192, 512))
    model.load_state_dict(parameters(voices["x"][train], faces["x"][train], identity, (192, 512)))
    keys = ["/".join(k) for k in zip(*(voices[n] for n in ("identity", "language", "video", "item")), strict=True)]
    face_keys = ["/".join(k) for k in zip(*(faces[n] for n in ("identity", "language", "video", "item")), strict=True)]
    row_of_voice, row_of_face = ({k: i for i, k in enumerate(ks)} for ks in (keys, face_keys))
    figures = []
    for language in ("English", "Urdu"):
        rows = list(csv.DictReader((folder / "trials" / f"v1_fold0_{language}.csv").open()))
        v = [row_of_voice[row["voice"].rsplit(".", 1)[0]] for row in rows]
        f = [row_of_face[row["face"].rsplit(".", 1)[0]] for row in rows]
        with torch.no_grad():
            voice = model.embed_voice(torch.from_numpy(voices["x"][v]))
            face = model.embed_face(torch.from_numpy(faces["x"][f]))
            distances = model.distance(voice, face).numpy()
        figures.append(eer(distances, [int(row["label"]) for row in rows], direction="distance").eer)
    assert figures == pytest.approx([0.216, 0.216], abs=1e-3)
