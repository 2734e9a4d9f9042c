"""Reads images as tensors of pixels, for training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import Tensor

from datamodules.io.media.images import PIXELS, read_image
from datamodules.io.shards import opened
from datamodules.schema import DataError

_UNREAD = (DataError, OSError, RuntimeError, ValueError, AttributeError, IndexError)
# ISO 10918-1 table B.1: baseline, extended and progressive images; tables, JFIF, colour profile, Adobe, comment
_FRAMES, _SEGMENTS, _SCAN = (0xC0, 0xC1, 0xC2), (0xC4, 0xDB, 0xDD, 0xE0, 0xE2, 0xEE, 0xFE), b"\xff\xda"


def read_pixels(path: str | Path) -> Tensor:
    """The image of :func:`read_image` as (3, H, W) uint8.

    Usual jpg files are decoded by torchvision: the same pixels in less time.

    Raises:
        DataError: as :func:`read_image`.
    """
    pixels = _usual_jpeg(Path(path))
    return torch.from_numpy(np.array(read_image(path))).permute(2, 0, 1) if pixels is None else pixels


def _usual_jpeg(path: Path) -> Tensor | None:
    """Pixels of a jpg in grey or RGB that no tag turns; None for every other file and for a damaged one."""
    try:
        with opened(path) as file:
            content = bytearray(file.read())
        if content[:3] != b"\xff\xd8\xff" or not _is_usual(content):
            return None
        # torchvision 0.29 says that a later release has no decoders: the other reader then reads all files
        pixels: Tensor = torchvision.io.decode_jpeg(torch.frombuffer(content, dtype=torch.uint8))
    except _UNREAD:  # the other reader says what it is
        return None
    return pixels.expand(3, -1, -1)


def _is_usual(content: bytearray) -> bool:
    """Whether it is a jpg of 8 bits in grey or RGB with no tags. Pillow would tell in a tenth of the time of decoding.

    Raises:
        IndexError: it ends before its pixels.
    """
    at, sized = 2, False
    while content[at] == 0xFF and ((kind := content[at + 1]) in _SEGMENTS or (kind in _FRAMES and not sized)):
        if kind in _FRAMES:
            height, width = (int.from_bytes(content[i : i + 2], "big") for i in (at + 5, at + 7))
            sized = content[at + 4] == 8 and 0 < height * width <= PIXELS and content[at + 9] in (1, 3)
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return sized and content[at : at + 2] == _SCAN
