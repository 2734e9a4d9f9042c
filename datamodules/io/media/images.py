"""Reads images as 8-bit RGB."""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from datamodules.io.shards import opened
from datamodules.schema import DataError, one_line

PIXELS = 89_478_485  # the most of an image; Pillow warns of more
FULL, MAX_SAMPLE_VALUE = 65_535, 281  # white of 16 bits; the tag by which a TIFF may declare another
TIFF = (b"II*\0", b"MM\0*")
DEPTHS = range(8, 16)  # bits of numbers that cameras and programs store in 16-bit images as they are


def read_image(path: str | Path) -> Image.Image:
    """Reads an image as 8-bit RGB, turned upright by its EXIF tag; grey images become RGB.

    16-bit images are scaled to 8 bits, float images from 0..1 or 0..255.

    Raises:
        DataError: the file is missing, truncated, not an image, too large, or has numbers of an unknown range.
    """
    path = Path(path)
    try:
        # an open file, no name: Pillow maps uncompressed TIFF files into memory, and turns those maps wrongly
        with opened(path) as file, warnings.catch_warnings():
            start = file.read(4)
            file.seek(0)
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            # advice to keep the transparency, which no face needs
            warnings.filterwarnings("ignore", "Palette images with Transparency")
            with Image.open(file) as image:
                if image.width * image.height > PIXELS:
                    raise DataError(f"{path}: {image.width} x {image.height} pixels; scale the image down")
                if image.format == "EPS":
                    raise DataError(f"{path}: a PostScript program, which is not run; save it as png")
                low = _low_bytes(image)
                image.load()
                ImageOps.exif_transpose(image, in_place=True)
                grey = _dark_colours(image, file, low, path) if low else _eight_bits(image, path)
                return grey if grey.mode == "RGB" else grey.convert("RGB")
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such image file") from error
    except UnidentifiedImageError as error:
        why = "no known format" if start else "empty"
        if start in TIFF:
            why = "a tiff that is damaged or of a kind that is not read (float or 32-bit colours); save it as 8-bit png"
        raise DataError(f"{path}: not readable as an image ({why})") from error
    except Exception as error:  # decoders fail in more ways than can be listed
        raise DataError(f"{path}: not readable as an image ({_one_line(error, path)})") from error


def _low_bytes(image: Image.Image) -> list[Any]:
    """Of an image of 16-bit colours that is not decoded yet the tiles that give its low bytes; empty for others.

    Pillow decodes the high bytes alone. Numbers of the other byte order have the low bytes there. Grey levels with
    alpha are taken as four 8-bit channels, of which the second is the low bytes.
    """
    swapped = []
    for tile in getattr(image, "tile", ()):
        mode, *more = tile.args if isinstance(tile.args, tuple) else [tile.args]
        if not re.fullmatch(r"RGB[AX]?;16[BLN]|LA;16B", str(mode)):
            return []
        big = mode.endswith("B") or (mode.endswith("N") and sys.byteorder == "big")
        other = "RGBA" if mode == "LA;16B" else mode[:-1] + ("L" if big else "B")
        swapped.append(tile._replace(args=(other, *more) if isinstance(tile.args, tuple) else other))
    return swapped


def _dark_colours(image: Image.Image, file: BinaryIO, low: list[Any], path: Path) -> Image.Image:
    """An image of 16-bit colours in 8 bits; numbers of fewer bits are scaled as :func:`_white` says."""
    high = np.asarray(image)[..., :3]
    if high.max(initial=0) > (2 ** DEPTHS[-1] - 1) >> 8:
        return image
    file.seek(0)
    with Image.open(file) as again:
        again.tile = low
        again.load()
        ImageOps.exif_transpose(again, in_place=True)
        channels = slice(1, 2) if low[0].args == "RGBA" else slice(3)
        numbers = high.astype(np.uint16) << 8 | np.asarray(again)[..., channels]
    white = _white(numbers, image, path)
    return image if white == FULL else Image.fromarray(np.rint(numbers * np.float32(255 / white)).astype(np.uint8))


def _eight_bits(image: Image.Image, path: Path) -> Image.Image:
    """A grey image of 16-bit, 32-bit or float numbers as 8-bit grey; Pillow cuts them off at 255. Others stay."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):  # 16 bits in 32
        numbers = np.asarray(image)
        levels = numbers * np.float32(255 / _white(numbers, image, path))
    elif image.mode == "F":
        levels = np.asarray(image, dtype=np.float64)
        if np.isfinite(levels).all() and levels.min() >= 0 and levels.max() <= 1:
            levels = levels * 255
    elif image.mode == "I":
        raise DataError(f"{path}: 32-bit integers, whose white is unknown; save the image with 8 or 16 bits")
    else:
        return image
    if not np.isfinite(levels).all() or levels.min() < 0 or levels.max() > 255:
        raise DataError(f"{path}: numbers outside 0..1 and 0..255; save the image with 8 bits")
    return Image.fromarray(np.rint(levels).astype(np.uint8))


def _white(numbers: NDArray[Any], image: Image.Image, path: Path) -> int:
    """The number that means white in a 16-bit image: its full range, or that of 8 to 15 bits which it uses.

    A TIFF may declare it. Else numbers that end within one level of the white of a smaller depth are of that depth,
    unless they are an 8-bit picture's in 16 bits (multiples of 256 or 257). A darker picture is taken as it is, with a
    warning where none of its numbers is above half the range.
    """
    top = int(numbers.max(initial=0))
    tag: Any = getattr(image, "tag_v2", {}).get(MAX_SAMPLE_VALUE)
    declared = tag[0] if isinstance(tag, tuple) and tag else tag
    if isinstance(declared, int) and 255 <= declared < FULL and top <= declared:
        return declared
    if top == 0 or top > 2 ** DEPTHS[-1] - 1 or not (numbers % 257).any() or not (numbers % 256).any():
        return FULL
    for bits in DEPTHS:
        white = (1 << bits) - 1
        if white - white // 255 <= top <= white:
            warnings.warn(f"{path}: the brightest of its 16-bit numbers is {top}; read as {bits}-bit", stacklevel=2)
            return white
    warnings.warn(
        f"{path}: the brightest of its 16-bit numbers is {top}; read as a dark picture. If its numbers have fewer"
        " bits, save it with 8",
        stacklevel=2,
    )
    return FULL


def _one_line(error: Exception, path: Path) -> str:
    return one_line(error).replace(repr(str(path)), "it")[:120]
