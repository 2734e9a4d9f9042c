"""Reads audio and images from disk. A damaged file raises an error of one line that names it."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy.signal import resample_poly

from datamodules.schema import DataError, one_line

SAMPLE_RATE = 16_000
SHORTEST = 400  # samples: one analysis window of 25 ms
QUIETEST = 2 / 32768  # peak to peak: the dither of 16-bit audio stays below it, every sound is above
STREAMED = 0x7FFF0000  # a wav that was written to a pipe declares at least this many bytes, or none
LOUDEST = 2.0  # of float audio, where 1 is full scale; twice that is the headroom of loud masters and of decoders
CANCELLED = 0.05  # share of the channels' power that their mean keeps; 1 / channels for independent ones
FLOAT_WIDTH = {"FLOAT", "DOUBLE"}  # subtypes that can hold samples beyond full scale
BLOCK = 1 << 20  # frames read at once where the whole recording is looked at
OGG_PAGE, OGG_LAST = 65_307, 4  # largest page in bytes, flag of the last one (RFC 3533)


def samples_of(frames: int) -> int:
    """Number of samples of 16 kHz audio that this many analysis frames (25 ms, every 10 ms) span."""
    return SHORTEST + (frames - 1) * 160


def read_audio(path: str | Path, samples: int, positions: Sequence[float]) -> list[NDArray[np.float32]]:
    """Reads crops of a recording, mono at 16 kHz. Only the crops are decoded, and all of a file of float samples.

    Channels are averaged; where they cancel each other, the loudest is taken. A silent crop is moved to the loudest
    moment of the recording.

    Args:
        path: a file of any format that libsndfile reads.
        samples: length of a crop at 16 kHz. A shorter recording is returned whole for every crop.
        positions: place of each crop: 0 = start, 0.5 = centre, 1 = end.

    Returns:
        One (n,) array for each position, n <= samples.

    Raises:
        DataError: the file is missing, empty, truncated, not audio, shorter than 25 ms, silent, or has samples that are
            NaN, infinite or far beyond full scale.
    """
    path = Path(path)
    with open_audio(path) as file:
        try:
            if file.subtype in FLOAT_WIDTH:
                _check_scale(file, path)
            return [_crop(file, path, samples, position) for position in positions]
        except soundfile.SoundFileError as error:
            raise DataError(f"{path}: not readable as audio ({_one_line(error, path)})") from error


def open_audio(path: Path) -> soundfile.SoundFile:
    """Opens a recording that is whole.

    Raises:
        DataError: the file is missing, empty, truncated, not audio or shorter than 25 ms.
    """
    try:
        if lacks := truncation(path):
            raise DataError(f"{path}: truncated audio, {lacks}")
        file = soundfile.SoundFile(_with_length(path))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such audio file") from error
    except (soundfile.SoundFileError, OSError, TypeError) as error:  # TypeError: headerless audio (.raw)
        raise DataError(f"{path}: not readable as audio ({_one_line(error, path)})") from error
    if file.frames * SAMPLE_RATE < SHORTEST * file.samplerate:
        seconds = file.frames / file.samplerate
        raise DataError(f"{path}: {seconds:.3f} s of audio, shorter than one analysis window of 0.025 s")
    return file


def _crop(file: soundfile.SoundFile, path: Path, samples: int, position: float) -> NDArray[np.float32]:
    up, down = SAMPLE_RATE, file.samplerate
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
    return _mono(audio)


def _mono(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of the channels (n, c), or the loudest where they cancel: one of them has the opposite sign."""
    if audio.shape[1] == 1:
        return audio[:, 0]
    mono: NDArray[np.float32] = audio.mean(axis=1)
    power = audio.var(axis=0, dtype=np.float64)
    loudest: NDArray[np.float32] = audio[:, int(power.argmax())]
    return loudest if mono.var(dtype=np.float64) < CANCELLED * power.mean() else mono


def _check_scale(file: soundfile.SoundFile, path: Path) -> None:
    """Refuses float audio whose samples are not in -1..1, such as 16-bit integers stored as floats.

    The whole recording is looked at: the level of a crop alone may be low.
    """
    peak = max((float(np.abs(block).max()) for block in file.blocks(BLOCK, dtype="float32") if block.size), default=0.0)
    if np.isfinite(peak) and peak > LOUDEST:
        raise DataError(
            f"{path}: float samples up to {peak:.6g}, full scale is 1; divide them by 32768 if they are 16-bit integers"
        )


def _with_length(path: Path) -> Path | io.BytesIO:
    """The file; a wav that was written to a pipe and declares no length in memory, with the length that it has."""
    with path.open("rb") as file:
        if not (found := _wav_data(file)) or found[1] > 0 or found[2] == path.stat().st_size - 8:
            return path
        file.seek(0)
        content = bytearray(file.read())
    start = found[0]
    content[start - 4 : start] = (len(content) - start).to_bytes(4, "little")
    content[4:8] = (len(content) - 8).to_bytes(4, "little")
    return io.BytesIO(content)


def _wav_data(file: BinaryIO) -> tuple[int, int, int] | None:
    """Where the samples of a wav begin, and the bytes that its data chunk and the whole file declare; None: no wav."""
    head = file.read(12)
    if head[:4] != b"RIFF":
        return None
    while len(chunk := file.read(8)) == 8:
        length = int.from_bytes(chunk[4:], "little")
        if chunk[:4] == b"data":
            return file.tell(), length, int.from_bytes(head[4:8], "little")
        file.seek(length + length % 2, 1)
    return None


def truncation(path: Path) -> str:
    """What a truncated wav or Ogg file lacks, "" if it is whole. Libsndfile reads such a file without an error."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if data := _wav_data(file):
            start, length, _ = data
            lost = 0 if length >= STREAMED else start + length - size
            return f"{lost} bytes that its header declares are missing" if lost > 0 else ""
        file.seek(0)
        if (magic := file.read(4)) == b"OggS":
            file.seek(max(0, size - OGG_PAGE))
            page = file.read()
            page = page[page.rfind(magic) :]
            if len(page) < 27 or not page[5] & OGG_LAST or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]]):
                return "its last page is missing or cut"
    return ""


def read_image(path: str | Path) -> Image.Image:
    """Reads an image as 8-bit RGB, turned upright by its EXIF tag; grey images become RGB.

    16-bit images are scaled to 8 bits, float images from 0..1 or 0..255.

    Raises:
        DataError: the file is missing, truncated, not an image, or has numbers of an unknown range.
    """
    path = Path(path)
    try:
        with Image.open(path) as image:
            image.load()
            return _eight_bits(ImageOps.exif_transpose(image), image.format, path).convert("RGB")
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such image file") from error
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not readable as an image ({_one_line(error, path)})") from error


def _eight_bits(image: Image.Image, kind: str | None, path: Path) -> Image.Image:
    """A grey image of 16-bit, 32-bit or float numbers as 8-bit grey; Pillow cuts them off at 255. Others stay."""
    if image.mode.startswith("I;16") or (image.mode == "I" and kind in ("PNG", "PPM")):  # those hold 16 bits in 32
        levels = np.asarray(image).astype(np.float64) / 257
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


def _one_line(error: Exception, path: Path) -> str:
    return one_line(error).replace(repr(str(path)), "it")[:120]
