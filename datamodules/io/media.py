"""Reads audio and images from disk. A damaged file raises an error of one line that names it."""

from __future__ import annotations

import io
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy.signal import resample_poly

from datamodules.schema import DataError, one_line

SAMPLE_RATE = 16_000
SHORTEST = 400  # samples: one analysis window of 25 ms
QUIETEST = 2 / 32768  # peak to peak: the dither of 16-bit audio stays below it, every sound is above
STREAMED = 0x7F000000  # a recording that was written to a pipe declares at least this many bytes, or none
RATES = 1000, 768_000  # Hz; a header with another rate is damaged
LOUDEST = 2.0  # of float audio, where 1 is full scale; twice that is the headroom of loud masters and of decoders
CANCELLED = 0.05  # share of the channels' power that their mean keeps; 1 / channels for independent ones
FLOAT_WIDTH = {"FLOAT", "DOUBLE"}  # subtypes that can hold samples beyond full scale
BLOCK = 1 << 20  # samples read at once where the whole recording is looked at
CHECKED = frozenset(["AIFF", "AU", "CAF", "FLAC", "HTK", "MP3", "NIST", "OGG", "RF64", "SVX", "W64", "WAV", "WAVEX"])
"""Formats of libsndfile of which a truncated file is told from a whole one; of others it reads what is there."""
OGG_PAGE, OGG_LAST = 65_307, 4  # largest page in bytes, flag of the last one (RFC 3533)
CHUNKED = {b"RIFF": "little", b"RF64": "little", b"RIFX": "big", b"FORM": "big"}  # wav, wav, wav, aiff: byte orders
SAMPLED = {b"data", b"SSND", b"BODY"}  # their chunks that hold the samples
PIXELS = 89_478_485  # the most of an image; Pillow warns of more
FULL, MAX_SAMPLE_VALUE = 65_535, 281  # white of 16 bits; the tag by which a TIFF may declare another
DEPTHS = 8, 10, 12, 14  # bits of numbers that cameras store in 16-bit images as they are


def samples_of(frames: int) -> int:
    """Number of samples of 16 kHz audio that this many analysis frames (25 ms, every 10 ms) span."""
    return SHORTEST + (frames - 1) * 160


def read_audio(path: str | Path, samples: int, positions: Sequence[float]) -> list[NDArray[np.float32]]:
    """Reads crops of a recording, mono at 16 kHz. Only the crops are decoded, and all of a file of float samples.

    Channels are averaged; where they cancel each other, the loudest is taken. A silent crop is moved to the loudest
    moment of the recording.

    Args:
        path: a file of one of the formats :data:`CHECKED`.
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
        if file.format == "RAW":  # libsndfile takes files that are named so and have no header for telephone speech
            raise DataError(f"{path}: not readable as audio (it has no header)")
        if file.format not in CHECKED:
            raise DataError(f"{path}: {file.format} audio, whose truncated files look whole; convert it to wav or flac")
        if not RATES[0] <= file.samplerate <= RATES[1]:
            raise DataError(f"{path}: its header declares {file.samplerate} Hz; it is damaged")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such audio file") from error
    except DataError:
        raise
    except (soundfile.SoundFileError, OSError, TypeError, ValueError) as error:  # TypeError: headerless audio (.raw)
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
        start = min(max(0, _loudest(file, path) - length // 2), file.frames - length)
        mono = _read(file, path, start, length)
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


def _loudest(file: soundfile.SoundFile, path: Path) -> int:
    """The frame that is farthest from the mean of the recording."""
    step = max(1, BLOCK // file.channels)
    total, low, high = 0.0, (np.inf, 0), (-np.inf, 0)
    for start in range(0, file.frames, step):
        mono = _read(file, path, start, min(step, file.frames - start))
        total += float(mono.sum(dtype=np.float64))
        low = min(low, (float(mono.min()), start + int(mono.argmin())))
        high = max(high, (float(mono.max()), start + int(mono.argmax())), key=lambda peak: peak[0])
    if high[0] - low[0] <= QUIETEST:
        raise DataError(f"{path}: silent audio")
    mean = total / file.frames
    return high[1] if high[0] - mean > mean - low[0] else low[1]


def _check_scale(file: soundfile.SoundFile, path: Path) -> None:
    """Refuses float audio whose samples are not in -1..1, such as 16-bit integers stored as floats, or not finite.

    The whole recording is looked at: the level of a crop alone may be low.
    """
    peak = 0.0
    for block in file.blocks(max(1, BLOCK // file.channels), dtype="float32"):
        if not np.isfinite(block).all():
            raise DataError(f"{path}: NaN or infinite audio samples")
        peak = max(peak, float(np.abs(block).max(initial=0)))
    if peak > LOUDEST:
        raise DataError(
            f"{path}: float samples up to {peak:.6g}, full scale is 1; divide them by 32768 if they are 16-bit integers"
        )


def _with_length(path: Path) -> Path | io.BytesIO:
    """The file; a wav that was written to a pipe and declares no length in memory, with the length that it has."""
    with path.open("rb") as file:
        if file.read(4) != b"RIFF" or not (declared := _declared(file)) or declared[1] > 0:
            return path
        start = declared[0]
        file.seek(start)
        content = bytearray(file.read())
        if not content or _are_chunks(content):
            return path
        file.seek(0)
        head = bytearray(file.read(start))
    head[start - 4 : start] = len(content).to_bytes(4, "little")
    head[4:8] = (start + len(content) - 8).to_bytes(4, "little")
    return io.BytesIO(bytes(head) + content)


def _are_chunks(content: bytearray) -> bool:
    """Whether the bytes are chunks of a wav to their end: such a wav holds no samples."""
    at = 0
    while at + 8 <= len(content) and content[at : at + 4].isascii():
        at += 8 + int.from_bytes(content[at + 4 : at + 8], "little")
        if at == len(content):
            return True
        at += at % 2
    return at == len(content)


def _declared(file: BinaryIO) -> tuple[int, int] | None:
    """Where the samples of a recording begin and how many bytes of them its header declares; None where it does not."""
    file.seek(0)
    head = file.read(16)
    if order := CHUNKED.get(head[:4]):
        return _sample_chunk(file, order == "little")
    if head[:4] in (b".snd", b"dns."):
        start, length = (int.from_bytes(head[i : i + 4], "big" if head[:1] == b"." else "little") for i in (4, 8))
        return start, length
    if head[:4] == b"caff":
        file.seek(8)
        while len(chunk := file.read(12)) == 12:
            length = int.from_bytes(chunk[4:], "big")
            if chunk[:4] == b"data":
                return file.tell(), length
            file.seek(length, 1)
    elif head[:4] == b"riff":  # W64: names of 16 bytes, lengths include name and length
        file.seek(40)
        while len(chunk := file.read(24)) == 24:
            length = int.from_bytes(chunk[16:], "little") - 24
            if chunk[:4] == b"data" or length < 0:
                return file.tell(), length
            file.seek(length + -length % 8, 1)
    elif head[:8] == b"NIST_1A\n":
        return _nist(head + file.read(4096))
    return None


def _sample_chunk(file: BinaryIO, little: bool) -> tuple[int, int] | None:
    """:func:`_declared` of a file of chunks with names of four letters."""
    order: Literal["little", "big"] = "little" if little else "big"
    file.seek(12)
    long = 0
    while len(chunk := file.read(8)) == 8:
        length = int.from_bytes(chunk[4:], order)
        if chunk[:4] == b"ds64":
            long = int.from_bytes(file.read(16)[8:], order)
            length -= 16
        elif chunk[:4] in SAMPLED:
            return file.tell(), long if length == 0xFFFFFFFF and long else length
        file.seek(max(0, length) + length % 2, 1)
    return None


def _nist(head: bytes) -> tuple[int, int] | None:
    """:func:`_declared` of a SPHERE file: a header in words, and samples that are not compressed."""
    fields = dict(re.findall(rb"^(\w+) -\S+ (\S+)$", head.partition(b"end_head")[0], re.MULTILINE))
    try:
        start = int(head[8:16])
        size = [int(fields[name]) for name in (b"sample_count", b"sample_n_bytes", b"channel_count")]
    except (KeyError, ValueError):
        return None
    return None if b"," in fields.get(b"sample_coding", b"") else (start, size[0] * size[1] * size[2])


def truncation(path: Path) -> str:
    """What a truncated recording lacks, "" if it is whole. Libsndfile reads such a file without an error."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if declared := _declared(file):
            start, length = declared
            lost = start + length - size if length < STREAMED else 0
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
        DataError: the file is missing, truncated, not an image, too large, or has numbers of an unknown range.
    """
    path = Path(path)
    try:
        # an open file, no name: Pillow maps uncompressed TIFF files into memory, and turns those maps wrongly
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
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
        raise DataError(
            f"{path}: not readable as an image ({'no known format' if path.stat().st_size else 'empty'})"
        ) from error
    except Exception as error:  # decoders fail in more ways than can be listed
        raise DataError(f"{path}: not readable as an image ({_one_line(error, path)})") from error


def _low_bytes(image: Image.Image) -> list[Any]:
    """Of an image of 16-bit colours that is not decoded yet the tiles that give its low bytes; empty for others.

    Pillow decodes the high bytes alone. Numbers of the other byte order have the low bytes there.
    """
    swapped = []
    for tile in getattr(image, "tile", ()):
        mode, *more = tile.args if isinstance(tile.args, tuple) else [tile.args]
        if not re.fullmatch(r"RGB[AX]?;16[BLN]", str(mode)):
            return []
        big = mode.endswith("B") or (mode.endswith("N") and sys.byteorder == "big")
        other = mode[:-1] + ("L" if big else "B")
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
        numbers = high.astype(np.uint16) << 8 | np.asarray(again)[..., :3]
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
    """The number that means white in a 16-bit image: its full range, or that of 8 to 14 bits which it uses.

    A TIFF may declare it. Else numbers that end within one level of the white of a smaller depth are of that depth,
    unless they are an 8-bit picture's in 16 bits (multiples of 256 or 257). A darker picture is taken as it is.
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
    if top < 2 ** DEPTHS[-2]:
        warnings.warn(
            f"{path}: the brightest of its 16-bit numbers is {top}; read as a dark picture. If its numbers have fewer"
            " bits, save it with 8",
            stacklevel=2,
        )
    return FULL


def _one_line(error: Exception, path: Path) -> str:
    return one_line(error).replace(repr(str(path)), "it")[:120]
