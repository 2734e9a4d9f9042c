"""Checks media files: duration, size, and whether they can be read. Reads only headers where these are enough."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple

from PIL import Image

from datamodules.io.media import SAMPLE_RATE, open_audio, read_audio, read_image
from datamodules.io.text import plain_file
from datamodules.io.writing import CannotWrite, draft_of
from datamodules.schema import DataError, Modality, one_line

_TAIL = 256  # a complete jpg has its end marker within so many last bytes


class Probe(NamedTuple):
    """The properties of a file. ``width`` and ``height`` of a voice are 0, and the audio properties of a face.

    Attributes:
        path: relative to the root.
        bytes: size of the file.
        modified: time of the last change, in ns.
        seconds: duration of a recording.
        rate: its samples per second.
        channels: its number of channels.
        width: width of an image in pixels.
        height: height of an image in pixels.
        problem: why the file cannot be used, "" if it can.
    """

    path: str
    bytes: int
    modified: int
    seconds: float = 0.0
    rate: int = 0
    channels: int = 0
    width: int = 0
    height: int = 0
    problem: str = ""


def probe(root: str | Path, path: str, modality: Modality, decode: bool) -> Probe:
    """Checks one file. A problem with it is recorded, not raised.

    Args:
        root: folder of the media.
        path: path below ``root``.
        modality: voice or face.
        decode: decode the whole file, which also finds silence, NaN and damage inside.
    """
    whole = Path(root) / path
    size = modified = 0
    try:
        status = whole.stat()
        size, modified = status.st_size, status.st_mtime_ns
        if size == 0:
            raise DataError(f"{whole}: empty")
        properties = _voice(whole, decode) if modality == "voice" else _face(whole, decode)
        return Probe(path, size, modified, *properties)
    except OSError as error:
        return Probe(path, size, modified, problem=error.strerror or str(error))
    except DataError as error:
        return Probe(path, size, modified, problem=str(error).removeprefix(f"{whole}: "))


def probe_all(root: str | Path, decode: bool, batch: Iterable[tuple[str, Modality]]) -> list[Probe]:
    """:func:`probe` of several files."""
    return [probe(root, path, modality, decode) for path, modality in batch]


def _voice(path: Path, decode: bool) -> tuple[float, int, int]:
    with open_audio(path) as file:
        properties = file.frames / file.samplerate, file.samplerate, file.channels
        frames = file.frames
    if decode:
        read_audio(path, frames * SAMPLE_RATE // properties[1], [0])
    return properties


def _face(path: Path, decode: bool) -> tuple[float, int, int, int, int]:
    try:
        with plain_file(path).open("rb") as file:
            with Image.open(file) as image:
                width, height, kind = *image.size, image.format
            whole = kind == "JPEG" and _ends(file)
    except DataError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not readable as an image") from error
    if decode or not whole:
        read_image(path)
    return 0.0, 0, 0, width, height


def _ends(file: BinaryIO) -> bool:
    """Whether a jpg has an end marker near its end; a complete one may also have it earlier."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
    return b"\xff\xd9" in file.read()


def convert(path: Path, ffmpeg: str) -> str:
    """Converts ``x.m4a`` to ``x.wav`` (16 kHz, mono) in the same folder; a newer ``x.wav`` is kept.

    Args:
        path: the compressed file.
        ffmpeg: the program to call.

    Returns:
        Why the conversion failed, "" if it did not.
    """
    target = path.with_suffix(".wav")
    try:
        if target.is_file() and target.stat().st_mtime_ns >= path.stat().st_mtime_ns:
            return ""
        command = [ffmpeg, "-nostdin", "-v", "error", "-y", "-i", str(path), "-vn", "-ac", "1", "-ar", str(SAMPLE_RATE)]
        with draft_of(target) as draft:
            to = ["-c:a", "pcm_s16le", "-f", "wav", str(draft)]
            subprocess.run([*command, *to], capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as error:
        return f"ffmpeg cannot convert it ({' '.join(error.stderr.split())[-120:]})"
    except (OSError, CannotWrite) as error:
        return f"cannot be converted in {path.parent} ({getattr(error, 'strerror', None) or one_line(error)})"
    return ""
