"""Looks at media files: how long, how large, whether they can be read. Headers only, where these are enough."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import soundfile
from PIL import Image

from datamodules.io.media import SAMPLE_RATE, SHORTEST, read_audio, read_image, truncation
from datamodules.schema import DataError, Modality

_TAIL = 256  # bytes within which an unbroken jpg says that it ends


class Probe(NamedTuple):
    """What a file is; of a voice ``width`` and ``height`` are 0, of a face the other three.

    Attributes:
        path: relative to the root.
        bytes: its size.
        modified: when it was written, in ns.
        seconds: duration.
        rate: samples per second.
        channels: of the recording.
        width: in pixels.
        height: in pixels.
        problem: why it cannot be used, "" if it can.
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


def probe(root: Path, path: str, modality: Modality, decode: bool) -> Probe:
    """Looks at one file; never raises for what is wrong with it.

    Args:
        root: of the tree.
        path: below it.
        modality: what the file is.
        decode: read all of it, which also finds silence, NaN and damage inside.
    """
    whole = root / path
    size = modified = 0
    try:
        status = whole.stat()
        size, modified = status.st_size, status.st_mtime_ns
        if size == 0:
            raise DataError(f"{whole}: empty")
        looked = _voice(whole, decode) if modality == "voice" else _face(whole, decode)
        return Probe(path, size, modified, *looked)
    except OSError as error:
        return Probe(path, size, modified, problem=error.strerror or str(error))
    except DataError as error:
        return Probe(path, size, modified, problem=str(error).removeprefix(f"{whole}: "))


def probe_all(root: Path, decode: bool, batch: Iterable[tuple[str, Modality]]) -> list[Probe]:
    """:func:`probe` of several files."""
    return [probe(root, path, modality, decode) for path, modality in batch]


def _voice(path: Path, decode: bool) -> tuple[float, int, int]:
    try:
        lacks, info = truncation(path), soundfile.info(str(path))
    except (soundfile.SoundFileError, TypeError) as error:
        raise DataError(f"{path}: not readable as audio") from error
    if lacks:
        raise DataError(f"{path}: truncated audio, {lacks}")
    if info.frames * SAMPLE_RATE < SHORTEST * info.samplerate:
        raise DataError(f"{path}: {info.duration:.3f} s of audio, shorter than one analysis window of 0.025 s")
    if decode:
        read_audio(path, info.frames * SAMPLE_RATE // info.samplerate, [0])
    return info.duration, info.samplerate, info.channels


def _face(path: Path, decode: bool) -> tuple[float, int, int, int, int]:
    try:
        with Image.open(path) as image:
            width, height, kind = *image.size, image.format
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not readable as an image") from error
    if decode or kind != "JPEG" or not _ends(path):
        read_image(path)
    return 0.0, 0, 0, width, height


def _ends(path: Path) -> bool:
    """Whether a jpg has its end marker at its end; one that has not may still be whole."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        return b"\xff\xd9" in file.read()


def convert(path: Path, ffmpeg: str) -> str:
    """Makes ``x.wav`` (16 kHz, mono) beside ``x.m4a``, whole or not at all; an existing newer one is kept.

    Returns:
        Why that was not possible, "" if it was.
    """
    target = path.with_suffix(".wav")
    beside = target.with_name(f".{target.name}.{os.getpid()}.wav")
    try:
        if target.is_file() and target.stat().st_mtime_ns >= path.stat().st_mtime_ns:
            return ""
        command = [ffmpeg, "-nostdin", "-v", "error", "-y", "-i", str(path), "-vn", "-ac", "1", "-ar", str(SAMPLE_RATE)]
        done = subprocess.run([*command, "-c:a", "pcm_s16le", str(beside)], capture_output=True, text=True, check=False)
        if done.returncode:
            return f"ffmpeg cannot convert it ({' '.join(done.stderr.split())[-120:]})"
        beside.replace(target)
    except OSError as error:
        return f"cannot be converted in {path.parent} ({error.strerror})"
    finally:
        beside.unlink(missing_ok=True)
    return ""
