"""Finds the largest face of an image and turns it upright, with dlib's detector and five landmarks."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lightning_modules.encoders.base import optional

MARGIN = 0.2  # where no face is found, the image without this relative border is taken as the face
FOUND = "face_found"
"""Column of a feature file's index that says whether the detector found a face: 1 or 0."""


class Aligned(NamedTuple):
    """A face as an input of an encoder, and whether the detector found it."""

    x: Any
    found: bool


def align(image: Image.Image, sizes: list[int], padding: float, upsample: int) -> tuple[list[NDArray[np.uint8]], bool]:
    """The largest face of an image, turned upright, in several sizes; and whether one was found.

    The detector also runs on images that are already cropped, because alignment needs the box of the face. Where it
    finds no face, the middle of the image is taken.

    Args:
        image: PIL RGB image.
        sizes: sides of the squares that are returned, in pixels.
        padding: border around the face, relative to its size.
        upsample: how many times the image is doubled in size before detection; 1 finds faces of 40 pixels and more.
    """
    dlib, find, landmarks = _detector()
    pixels = np.asarray(image)
    height, width = pixels.shape[:2]
    x, y = round(MARGIN * width), round(MARGIN * height)
    boxes = find(pixels, upsample)
    box = max(boxes, key=lambda face: face.area(), default=dlib.rectangle(x, y, width - 1 - x, height - 1 - y))
    shape = landmarks(pixels, box)
    return [dlib.get_face_chip(pixels, shape, size, padding) for size in sizes], len(boxes) > 0


def found_in(inputs: list[Aligned]) -> dict[str, list[float]]:
    """The column of an index that says which faces were found."""
    return {FOUND: [float(face.found) for face in inputs]}


def inputs_of(inputs: list[Aligned]) -> list[Tensor]:
    """The inputs of an encoder, without whether they were found."""
    return [face.x for face in inputs]


@lru_cache(maxsize=1)
def _detector() -> tuple[Any, Any, Any]:
    """dlib, detector, landmarks; one set per process, because they cannot be pickled with a module."""
    dlib, files = optional("dlib"), optional("face_recognition_models")
    return (
        dlib,
        dlib.get_frontal_face_detector(),
        dlib.shape_predictor(files.pose_predictor_five_point_model_location()),
    )
