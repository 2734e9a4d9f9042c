"""The face recognition ResNet of dlib, 128-d, with weights from the package ``face-recognition-models``."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lightning_modules.encoders.base import FrozenEncoder, optional

CHIP, PADDING = 150, 0.25  # size in pixels and relative border of aligned faces in the network's training
MARGIN = 0.2  # where no face is found, the image without this relative border is taken as the face


class DlibFace(FrozenEncoder):
    """Detects the largest face, aligns it by five landmarks, and encodes it.

    The detector also runs on images that are already cropped, because alignment needs the box of the face. Where it
    finds no face, the middle of the image is taken.

    Args:
        upsample: how many times the image is doubled in size before detection; 1 finds faces of 40 pixels and more.

    Raises:
        DataError: the extra ``pretrained`` is not installed.
    """

    modality = "face"
    dim = 128

    def __init__(self, upsample: int = 1) -> None:
        super().__init__()
        self.upsample = upsample
        _models()

    def prepare(self, media: Image.Image) -> Tensor:
        """PIL RGB image -> aligned face (150, 150, 3) uint8."""
        dlib, find, landmarks, _ = _models()
        pixels = np.asarray(media)
        height, width = pixels.shape[:2]
        x, y = round(MARGIN * width), round(MARGIN * height)
        boxes = find(pixels, self.upsample)
        box = max(boxes, key=lambda face: face.area(), default=dlib.rectangle(x, y, width - 1 - x, height - 1 - y))
        return torch.from_numpy(dlib.get_face_chip(pixels, landmarks(pixels, box), CHIP, PADDING))

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Runs on the CPU and returns the result on the device of the inputs."""
        network = _models()[3]
        chips = [chip.cpu().numpy() for chip in inputs]
        return torch.from_numpy(np.array(network.compute_face_descriptor(chips), dtype=np.float32)).to(inputs[0].device)


@lru_cache(maxsize=1)
def _models() -> tuple[Any, Any, Any, Any]:
    """dlib, detector, landmarks, network; one set per process, because they cannot be pickled with the module."""
    dlib, files = optional("dlib"), optional("face_recognition_models")
    return (
        dlib,
        dlib.get_frontal_face_detector(),
        dlib.shape_predictor(files.pose_predictor_five_point_model_location()),
        dlib.face_recognition_model_v1(files.face_recognition_model_location()),
    )
