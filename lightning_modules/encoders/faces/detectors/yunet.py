"""YuNet, by OpenCV's reader of its files."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_modules.encoders.faces.detectors.base import OVERLAP, LandmarkDetector, opencv


class YuNetDetector(LandmarkDetector):
    """Any file of YuNet that ``cv2.FaceDetectorYN`` reads, such as face_detection_yunet_2023mar.onnx.

    Args:
        weights: see :class:`LandmarkDetector`.
        threshold: see :class:`LandmarkDetector`.
        side: see :class:`LandmarkDetector`.
    """

    def __init__(self, weights: str, threshold: float = 0.6, side: int = 640) -> None:
        super().__init__(weights, threshold, side)

    def find(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        detector = _detector(self.path)
        detector.setInputSize(pixels.shape[1::-1])
        detector.setScoreThreshold(self.threshold)
        _, faces = detector.detect(np.ascontiguousarray(pixels[:, :, ::-1]))  # OpenCV's order of colours
        rows = np.empty((0, 15), np.float32) if faces is None else faces
        return rows[:, :4], rows[:, 4:14].reshape(-1, 5, 2)


@lru_cache(maxsize=4)
def _detector(path: str) -> Any:
    """The detector of a file; one per process, because it cannot be pickled with a module."""
    return opencv().FaceDetectorYN.create(path, "", (320, 320), nms_threshold=OVERLAP)
