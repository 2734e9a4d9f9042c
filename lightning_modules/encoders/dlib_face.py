"""dlib's face recognition ResNet, 128-d, with weights from the package ``face-recognition-models``."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lightning_modules.encoders.base import FrozenEncoder, optional

CHIP, PADDING = 150, 0.25  # pixels of the aligned face, and its border: what the network was trained on
MARGIN = 0.2  # where no face is found the crop itself is taken as one, without this border


class DlibFace(FrozenEncoder):
    """Faces by dlib: the largest face is found, turned upright by five landmarks, and encoded.

    Crops of a face are searched too: alignment wants the face's own box. Where the detector finds none, the middle of
    the image is taken as the face.

    Args:
        upsample: how often the image is doubled before the search; 1 finds faces of 40 pixels and more.

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
        found = find(pixels, self.upsample)
        box = max(found, key=lambda face: face.area(), default=dlib.rectangle(x, y, width - 1 - x, height - 1 - y))
        return torch.from_numpy(dlib.get_face_chip(pixels, landmarks(pixels, box), CHIP, PADDING))

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Always on the CPU; the result lies where the inputs do."""
        network = _models()[3]
        chips = [chip.cpu().numpy() for chip in inputs]
        return torch.from_numpy(np.array(network.compute_face_descriptor(chips), dtype=np.float32)).to(inputs[0].device)


@lru_cache(maxsize=1)
def _models() -> tuple[Any, Any, Any, Any]:
    """dlib, detector, landmarks, network: of the process and not of the module, for they cannot be sent to another."""
    dlib, files = optional("dlib"), optional("face_recognition_models")
    return (
        dlib,
        dlib.get_frontal_face_detector(),
        dlib.shape_predictor(files.pose_predictor_five_point_model_location()),
        dlib.face_recognition_model_v1(files.face_recognition_model_location()),
    )
