"""dlib's frontal face detector and its five landmarks."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datamodules.schema import DataError
from lightning_modules.encoders.base import optional
from lightning_modules.encoders.faces.detectors.base import MARGIN, FaceDetector, Frame


class DlibDetector(FaceDetector):
    """Histograms of gradients and a cascade of trees, with weights from the package ``face-recognition-models``.

    Args:
        upsample: how many times the image is doubled in size before detection; 1 finds faces of 40 pixels and more.

    Raises:
        DataError: the extra ``pretrained`` is not installed.
    """

    def __init__(self, upsample: int = 1) -> None:
        self.upsample = upsample
        _detector()  # says now if the extra is missing

    def align(
        self, image: Image.Image, sizes: list[int], padding: float, frame: Frame = "dlib"
    ) -> tuple[list[NDArray[np.uint8]], bool]:
        if frame != "dlib":
            raise DataError(f"face.frame: dlib finds no corners of the mouth for {frame}; name another face.detector")
        dlib, find, landmarks = _detector()
        pixels = np.asarray(image)
        height, width = pixels.shape[:2]
        x, y = round(MARGIN * width), round(MARGIN * height)
        boxes = find(pixels, self.upsample)
        box = max(boxes, key=lambda face: face.area(), default=dlib.rectangle(x, y, width - 1 - x, height - 1 - y))
        shape = landmarks(pixels, box)
        return [dlib.get_face_chip(pixels, shape, size, padding) for size in sizes], len(boxes) > 0


@lru_cache(maxsize=1)
def _detector() -> tuple[Any, Any, Any]:
    """dlib, detector, landmarks; one set per process, because they cannot be pickled with a module."""
    dlib, files = optional("dlib"), optional("face_recognition_models")
    return (
        dlib,
        dlib.get_frontal_face_detector(),
        dlib.shape_predictor(files.pose_predictor_five_point_model_location()),
    )
