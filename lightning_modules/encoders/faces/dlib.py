"""The face recognition ResNet of dlib, 128-d, with weights from the package ``face-recognition-models``."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lightning_modules.encoders.base import FrozenEncoder, optional
from lightning_modules.encoders.faces.alignment import Aligned, found_in, inputs_of
from lightning_modules.encoders.faces.detectors.base import FaceDetector
from lightning_modules.encoders.faces.detectors.dlib import DlibDetector

CHIP, PADDING = 150, 0.25  # size in pixels and relative border of aligned faces in the network's training


class DlibFace(FrozenEncoder):
    """Finds the largest face and turns it upright, and encodes it.

    Args:
        upsample: of :class:`DlibDetector`.
        detector: None = :class:`DlibDetector`.

    Raises:
        DataError: the extra ``pretrained`` is not installed.
    """

    modality = "face"
    dim = 128

    def __init__(self, upsample: int = 1, detector: FaceDetector | None = None) -> None:
        super().__init__()
        self.detector = detector or DlibDetector(upsample)
        _network()

    def prepare(self, media: Image.Image) -> Aligned:
        """PIL RGB image -> aligned face (150, 150, 3) uint8."""
        (chip,), found = self.detector.align(media, [CHIP], PADDING)
        return Aligned(torch.from_numpy(chip), found)

    def forward(self, inputs: list[Aligned]) -> Tensor:
        """Runs on the CPU and returns the result on the device of the inputs."""
        chips = inputs_of(inputs)
        pixels = [chip.cpu().numpy() for chip in chips]
        found = np.array(_network().compute_face_descriptor(pixels), dtype=np.float32)
        return torch.from_numpy(found).to(chips[0].device)

    def notes(self, inputs: list[Aligned]) -> dict[str, list[float]]:
        return found_in(inputs)


@lru_cache(maxsize=1)
def _network() -> Any:
    """The network; one per process, because it cannot be pickled with the module."""
    dlib, files = optional("dlib"), optional("face_recognition_models")
    return dlib.face_recognition_model_v1(files.face_recognition_model_location())
