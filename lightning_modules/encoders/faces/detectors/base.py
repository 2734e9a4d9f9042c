"""What every face detector does: it finds the largest face of an image and turns it upright."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from datamodules.schema import DataError, one_line
from lightning_modules.encoders.base import optional, weights_file

MARGIN = 0.2  # where no face is found, the image without this relative border is taken as the face
OVERLAP = 0.3  # of two boxes that overlap more (intersection over union), the less certain one is dropped

Frame = Literal["dlib", "arcface"]
FRAMES: dict[Frame, NDArray[np.float64]] = {
    "dlib": np.array([[0.2255, 0.2160], [0.7548, 0.2160], [0.4901, 0.5156], [0.2541, 0.7802], [0.7261, 0.7802]]),
    "arcface": (np.array([[38.29, 51.7], [73.53, 51.5], [56.03, 71.74], [41.55, 92.37], [70.73, 92.2]]) + 0.5) / 112,
}
"""Where the middle of the eyes, the tip of the nose and the corners of the mouth lie in an upright face, from the left
of the image to its right, relative to its size: of dlib's mean face, and as networks trained like ArcFace's take it."""


class FaceDetector(ABC):
    """Finds faces."""

    @abstractmethod
    def align(
        self, image: Image.Image, sizes: list[int], padding: float, frame: Frame = "dlib"
    ) -> tuple[list[NDArray[np.uint8]], bool]:
        """The largest face of an image, turned upright, in several sizes; and whether one was found.

        It also runs on images that are already cropped, because alignment needs the landmarks of the face. Where it
        finds no face, the middle of the image is taken.

        Args:
            image: PIL RGB image.
            sizes: sides of the squares that are returned, in pixels.
            padding: border around the frame, relative to its size.
            frame: where the landmarks lie, see :data:`FRAMES`.

        Raises:
            DataError: an extra is not installed; a frame that the detector cannot fill.
        """


class LandmarkDetector(FaceDetector):
    """A detector from an ONNX file that gives five landmarks, run by OpenCV on the CPU.

    Args:
        weights: the file, or ``package:NAME/FILE`` for one that an installed package ships.
        threshold: the least certainty of a face, 0 to 1.
        side: longer images are shrunk to this many pixels before detection.

    Raises:
        DataError: the extra ``detector`` is not installed; no such file, or one of another kind.
    """

    def __init__(self, weights: str, threshold: float, side: int) -> None:
        if not 0 <= threshold <= 1 or side < 1:
            raise DataError(f"face.detector: threshold {threshold} must be 0 to 1, and side: {side} 1 or more")
        self.path, self.threshold, self.side = str(weights_file(weights, "ONNX file of a detector")), threshold, side
        self.align(Image.new("RGB", (64, 64)), [64], 0)  # says now what is wrong with the extra or the file

    @abstractmethod
    def find(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """RGB (h, w, 3) -> of n faces: left, top, width, height (n, 4) and landmarks x, y (n, 5, 2), in pixels.

        The order of landmarks is that of :data:`FRAMES`.
        """

    def align(
        self, image: Image.Image, sizes: list[int], padding: float, frame: Frame = "dlib"
    ) -> tuple[list[NDArray[np.uint8]], bool]:
        scale = min(1.0, self.side / max(image.size))
        small = image if scale == 1 else image.resize([max(1, round(scale * length)) for length in image.size])
        try:
            boxes, landmarks = self.find(np.asarray(small))
        except opencv().error as error:
            reason = one_line(error.err, 150)
            raise DataError(f"{self.path}: cannot be run as {type(self).__name__} ({reason})") from error
        if not len(boxes):
            left, top = (round(MARGIN * length) for length in image.size)
            middle = image.crop((left, top, max(left + 1, image.width - left), max(top + 1, image.height - top)))
            return [np.array(middle.resize((size, size))) for size in sizes], False
        points = landmarks[np.argmax(boxes[:, 2] * boxes[:, 3])] * (np.array(image.size) / small.size)
        return [upright(image, points, size, padding, frame) for size in sizes], True


def opencv() -> Any:
    """OpenCV with as many threads as torch, and without its log: what is wrong comes as an exception too.

    Raises:
        DataError: the extra ``detector`` is not installed.
    """
    cv2 = optional("cv2", "detector")
    cv2.setNumThreads(torch.get_num_threads())
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2


def upright(
    image: Image.Image, points: NDArray[np.float64], size: int, padding: float, frame: Frame
) -> NDArray[np.uint8]:
    """Moves, turns and scales an image so that landmarks come to lie where a frame has them, by least squares.

    Args:
        image: PIL RGB image.
        points: x, y of the landmarks (5, 2), in pixels from the corner of the image.
        size: side of the square that is returned, in pixels.
        padding: border around the frame, relative to its size.
        frame: see :data:`FRAMES`.

    Returns:
        (size, size, 3).
    """
    target = (FRAMES[frame] + padding) / (1 + 2 * padding) * size
    # a similarity of the plane is z -> turn z + shift in complex numbers; from the square into the image
    z, w = target @ [1, 1j], points @ [1, 1j]
    centred = z - z.mean()
    turn = np.vdot(centred, w - w.mean()) / np.vdot(centred, centred)
    shrink = max(1, int(abs(turn)))  # averages pixels first, for the transform reads only those next to a point
    turn, shift = turn / shrink, (w.mean() - turn * z.mean()) / shrink
    onto = (turn.real, -turn.imag, shift.real, turn.imag, turn.real, shift.imag)
    face = image.reduce(shrink).transform((size, size), Image.Transform.AFFINE, onto, Image.Resampling.BICUBIC)
    return np.array(face)  # writable, as torch wants it
