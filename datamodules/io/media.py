"""Reads audio and images from disk. A damaged file raises an error of one line that names it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy.signal import resample_poly

from datamodules.schema import DataError, one_line

SAMPLE_RATE = 16_000
SHORTEST = 400  # samples: one analysis window of 25 ms
QUIETEST = 2 / 32768  # peak to peak: the dither of 16-bit audio stays below it, every sound is above
UNKNOWN_SIZE = 0xFFFFFFFF  # the length that a streamed wav declares
OGG_PAGE, OGG_LAST = 65_307, 4  # largest page in bytes, flag of the last one (RFC 3533)


def samples_of(frames: int) -> int:
    """Number of samples of 16 kHz audio that this many analysis frames (25 ms, every 10 ms) span."""
    return SHORTEST + (frames - 1) * 160


def read_audio(path: str | Path, samples: int, positions: Sequence[float]) -> list[NDArray[np.float32]]:
    """Reads crops of a recording, mono at 16 kHz. Only the crops are decoded; channels are averaged.

    A silent crop is moved to the loudest moment of the recording.

    Args:
        path: a file of any format that libsndfile reads.
        samples: length of a crop at 16 kHz. A shorter recording is returned whole for every crop.
        positions: place of each crop: 0 = start, 0.5 = centre, 1 = end.

    Returns:
        One (n,) array for each position, n <= samples.

    Raises:
        DataError: the file is missing, empty, truncated, not audio, shorter than 25 ms, silent, or has NaN or infinite
            samples.
    """
    path = Path(path)
    try:
        if lacks := truncation(path):
            raise DataError(f"{path}: truncated audio, {lacks}")
        with soundfile.SoundFile(path) as file:
            return [_crop(file, path, samples, position) for position in positions]
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such audio file") from error
    except (soundfile.SoundFileError, OSError, TypeError) as error:  # TypeError: headerless audio (.raw)
        raise DataError(f"{path}: not readable as audio ({_one_line(error, path)})") from error


def _crop(file: soundfile.SoundFile, path: Path, samples: int, position: float) -> NDArray[np.float32]:
    up, down = SAMPLE_RATE, file.samplerate
    if file.frames * up < SHORTEST * down:
        raise DataError(f"{path}: {file.frames / down:.3f} s of audio, shorter than one analysis window of 0.025 s")
    length = min(-(-samples * down // up), file.frames)
    mono = _read(file, path, round(position * (file.frames - length)), length)
    if np.ptp(mono) <= QUIETEST:
        whole = _read(file, path, 0, file.frames)
        if np.ptp(whole) <= QUIETEST:
            raise DataError(f"{path}: silent audio")
        peak = int(np.abs(whole - whole.mean()).argmax())
        start = min(max(0, peak - length // 2), file.frames - length)
        mono = whole[start : start + length]
    if up != down:
        common = int(np.gcd(up, down))
        mono = resample_poly(mono, up // common, down // common).astype(np.float32)[:samples]
    return mono


def _read(file: soundfile.SoundFile, path: Path, start: int, count: int) -> NDArray[np.float32]:
    """``count`` mono samples from ``start`` on, checked."""
    file.seek(start)
    audio = file.read(count, dtype="float32", always_2d=True)
    if len(audio) < count:
        raise DataError(f"{path}: truncated audio, {start + len(audio)} of {file.frames} frames can be read")
    if not np.isfinite(audio).all():
        raise DataError(f"{path}: NaN or infinite audio samples")
    mono: NDArray[np.float32] = audio[:, 0] if audio.shape[1] == 1 else audio.mean(axis=1)
    return mono


def truncation(path: Path) -> str:
    """What a truncated wav or Ogg file lacks, "" if it is whole. Libsndfile reads such a file without an error."""
    size = path.stat().st_size
    with path.open("rb") as file:
        magic = file.read(4)
        if magic == b"RIFF":
            file.seek(12)
            while len(head := file.read(8)) == 8:
                name, length = head[:4], int.from_bytes(head[4:], "little")
                if name == b"data":
                    lost = 0 if length == UNKNOWN_SIZE else file.tell() + length - size
                    return f"{lost} bytes that its header declares are missing" if lost > 0 else ""
                file.seek(length + length % 2, 1)
        elif magic == b"OggS":
            file.seek(max(0, size - OGG_PAGE))
            page = file.read()
            page = page[page.rfind(magic) :]
            if len(page) < 27 or not page[5] & OGG_LAST or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]]):
                return "its last page is missing or cut"
    return ""


def read_image(path: str | Path) -> Image.Image:
    """Reads an image as RGB, turned upright by its EXIF tag; grey images become RGB.

    Raises:
        DataError: the file is missing, truncated or not an image.
    """
    path = Path(path)
    try:
        with Image.open(path) as image:
            image.load()
            return ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such image file") from error
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not readable as an image ({_one_line(error, path)})") from error


def _one_line(error: Exception, path: Path) -> str:
    return one_line(error).replace(repr(str(path)), "it")[:120]
