"""Faces that a detector turned upright, on their way into an encoder, and whether it found them."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

FOUND = "face_found"
"""Column of a feature file's index that says whether the detector found a face: 1 or 0."""


class Aligned(NamedTuple):
    """A face as an input of an encoder, and whether the detector found it."""

    x: Any
    found: bool


def found_in(inputs: list[Aligned]) -> dict[str, list[float]]:
    """The column of an index that says which faces were found."""
    return {FOUND: [float(face.found) for face in inputs]}


def inputs_of(inputs: list[Aligned]) -> list[Tensor]:
    """The inputs of an encoder, without whether they were found."""
    return [face.x for face in inputs]
