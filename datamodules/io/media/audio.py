"""Reads audio as crops at 16 kHz."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import resample_poly

from datamodules.io.media.lengths import examined
from datamodules.schema import DataError, one_line

SAMPLE_RATE = 16_000
SHORTEST = 400  # samples: one analysis window of 25 ms
QUIETEST = 2 / 32768  # peak to peak: the dither of 16-bit audio stays below it, every sound is above
RATES = 1000, 768_000  # Hz; a header with another rate is damaged
FULL_SCALE_16 = np.float32(1 / 32768)
LOUDEST = 2.0  # of float audio, where 1 is full scale; twice that is the headroom of loud masters and of decoders
CANCELLED = 0.05  # share of the channels' power that their mean keeps; 1 / channels for independent ones
FLOAT_WIDTH = {"FLOAT", "DOUBLE"}  # subtypes that can hold samples beyond full scale
UNKNOWN = 1 << 60  # frames that libsndfile says of a recording without a length
BLOCK = 1 << 20  # samples read at once where the whole recording is looked at
CHECKED = frozenset(["AIFF", "AU", "CAF", "FLAC", "HTK", "MP3", "NIST", "OGG", "RF64", "SVX", "W64", "WAV", "WAVEX"])
"""Formats of libsndfile of which a truncated file is told from a whole one; of others it reads what is there."""


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
        lacks, source = examined(path)
        if lacks:
            raise DataError(f"{path}: truncated audio, {lacks}")
        file = soundfile.SoundFile(source)
        if file.format == "RAW":  # libsndfile takes files that are named so and have no header for telephone speech
            raise DataError(f"{path}: not readable as audio (it has no header)")
        if file.format not in CHECKED:
            raise DataError(f"{path}: {file.format} audio, whose truncated files look whole; convert it to wav or flac")
        if file.format != "MP3" and file.subtype.startswith("MPEG"):
            raise DataError(f"{path}: mp3 in a {file.format} file, whose length is unknown; convert it to wav")
        if file.frames >= UNKNOWN:
            raise DataError(f"{path}: declares no length, as flac that was written to a pipe; convert it to wav")
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
    if file.subtype == "PCM_16":  # the same numbers as float32 of libsndfile, in a third of its time
        audio = np.multiply(file.read(count, dtype="int16", always_2d=True), FULL_SCALE_16, dtype=np.float32)
    else:
        audio = file.read(count, dtype="float32", always_2d=True)
        if not np.isfinite(audio).all():
            raise DataError(f"{path}: NaN or infinite audio samples")
    if len(audio) < count:
        raise DataError(f"{path}: truncated audio, {start + len(audio)} of {file.frames} frames can be read")
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


def _one_line(error: Exception, path: Path) -> str:
    said = re.sub(r"<_io\.BytesIO [^>]*>", "it", one_line(error))
    return said.replace(repr(str(path)), "it")[:120]
