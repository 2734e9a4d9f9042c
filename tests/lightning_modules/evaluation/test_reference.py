"""The embeddings of training and validation identities that refinements may learn from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.training_set import TrainingSet
from lightning_modules.evaluation.reference import embed_reference
from tests.lightning_modules.test_base import Linear
from tests.lightning_modules.tiny import TinyData, trainer


class Validated(TinyData):
    """The first three identities are trained on, the others validated on."""

    def _people(self, learnt: bool) -> TrainingSet:
        every = super().training_set()
        keep = (every.identity < 3) == learnt
        names, identity = np.unique(every.identities[every.identity[keep]], return_inverse=True)
        rows = every.voice_rows[keep]
        some = {"language": every.language[keep], "video": every.video[keep]}
        return replace(every, voice_rows=rows, face_rows=rows, identity=identity, identities=names, **some)

    def training_set(self) -> TrainingSet:
        return self._people(learnt=True)

    def held_out_set(self) -> TrainingSet:
        return self._people(learnt=False)

    def identity_genders(self) -> dict[str, str]:
        return {"id0": "M", "id4": "F"}


def test_clips_of_seen_and_unseen_identities_are_embedded_by_the_model(tmp_path: Path) -> None:
    data, model = Validated(), Linear()
    run = trainer(tmp_path)
    run.test(model, data, verbose=False)
    reference = embed_reference(model)
    assert set(reference.identity[reference.seen]) == {"id0", "id1", "id2"}
    assert set(reference.identity[~reference.seen]) == {f"id{i}" for i in range(3, 12)}
    assert set(reference.gender[reference.identity == "id4"]) == {"F"}
    assert set(reference.gender[reference.identity == "id5"]) == {""}
    place = {x.tobytes(): i for i, x in enumerate(data.train[0])}
    rows = np.array([place[x.tobytes()] for x in reference.voices["input"]])
    np.testing.assert_array_equal(reference.identity, [f"id{i}" for i in data.identity[rows]])
    np.testing.assert_array_equal(reference.faces["input"], data.train[1][rows])
    with torch.no_grad():
        voices = model.voice(torch.from_numpy(data.train[0][rows])).numpy()
    np.testing.assert_allclose(reference.voices["model"], voices, atol=1e-6)


def test_no_identity_has_more_clips_than_asked_for(tmp_path: Path) -> None:
    data, model = TinyData(), Linear()
    trainer(tmp_path).test(model, data, verbose=False)
    reference, again = embed_reference(model, per_identity=4), embed_reference(model, per_identity=4)
    assert reference.seen.all()
    assert np.unique(reference.identity, return_counts=True)[1].tolist() == [4] * 12
    assert set(np.unique(embed_reference(model).identity, return_counts=True)[1]) == {7}
    np.testing.assert_array_equal(reference.voices["input"], again.voices["input"])


@pytest.mark.parametrize(
    ("scale", "copies", "small"), [(True, 1, True), (False, 1, True), (None, 1, False), (True, 9000, False)]
)
def test_few_clips_of_feature_files_are_kept_without_being_asked_for(
    scale: bool | None, copies: int, small: bool, tmp_path: Path
) -> None:
    data, model = TinyData(), Linear()
    trainer(tmp_path).test(model, data, verbose=False)
    data.unit_length = scale  # None: media
    train, held_out = data.training_set(), Validated().held_out_set()
    names = np.array([f"{name}-{copy}" for copy in range(copies) for name in train.identities])
    identity = np.concatenate([train.identity + copy * len(train.identities) for copy in range(copies)])
    data.reference_set = lambda: replace(train, identities=names, identity=identity)
    data.held_out_set = lambda: held_out
    assert model.small_reference() is small
