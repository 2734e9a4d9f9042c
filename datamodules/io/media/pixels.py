"""Reads images as tensors of pixels, for training."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor

from datamodules.io.media.images import PIXELS, read_image
from datamodules.io.shards import opened
from datamodules.schema import DataError

_UNREAD = (DataError, OSError, RuntimeError, ValueError, AttributeError, Image.DecompressionBombError)


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
        if content[:3] != b"\xff\xd8\xff":
            return None
        with Image.open(BytesIO(content)) as image:
            tagged = any(name == "APP1" for name, _ in getattr(image, "applist", ()))
            if image.format != "JPEG" or image.mode not in ("L", "RGB") or tagged:
                return None
            if image.width * image.height > PIXELS:
                return None
        # torchvision 0.29 says that a later release has no decoders: the other reader then reads all files
        pixels: Tensor = torchvision.io.decode_jpeg(torch.frombuffer(content, dtype=torch.uint8))
    except _UNREAD:  # the other reader says what it is
        return None
    return pixels.expand(3, -1, -1)
