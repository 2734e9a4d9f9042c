"""Audio is read as crops at 16 kHz, or refused in one line that names the file."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from datamodules.io.media import CHECKED, read_audio, read_image, samples_of
from datamodules.schema import DataError
from tests.datamodules.noise import jpg, noise, write


@pytest.mark.parametrize(("position", "start"), [(0.0, 0), (0.5, 3500), (1.0, 7000)])
def test_a_crop_is_that_part_of_the_file(tmp_path: Path, position: float, start: int) -> None:
    audio = noise(8000)
    path = write(tmp_path / "a.wav", audio, subtype="FLOAT")
    assert np.array_equal(read_audio(path, 1000, [position])[0], audio[start : start + 1000])


def test_a_short_recording_is_read_whole(tmp_path: Path) -> None:
    audio = noise(5000)
    crops = read_audio(write(tmp_path / "a.wav", audio, subtype="FLOAT"), 8000, [0.0, 1.0])
    assert all(np.array_equal(crop, audio) for crop in crops)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_only_the_crop_is_decoded(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / f"long.{suffix}", noise(160_000))
    decoded: list[int] = []
    original = soundfile.SoundFile.read

    def counting(self: soundfile.SoundFile, frames: int, **options: object) -> np.ndarray:
        decoded.append(frames)
        return original(self, frames, **options)

    monkeypatch.setattr(soundfile.SoundFile, "read", counting)
    read_audio(path, 4000, [0.3])
    assert decoded == [4000]


def test_stereo_is_averaged_and_other_rates_resampled(tmp_path: Path) -> None:
    t = np.arange(2 * 44100) / 44100
    tone = 0.5 * np.sin(2 * np.pi * 440 * t)
    path = write(tmp_path / "a.wav", np.stack([tone, np.zeros_like(tone)], axis=1), 44100)
    crop = read_audio(path, 16000, [0.0])[0]
    expected = 0.25 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert len(crop) == 16000
    assert crop.dtype == np.float32
    assert np.abs(crop - expected)[200:-200].max() < 2e-3


def test_a_crop_of_pure_silence_moves_to_the_sound(tmp_path: Path) -> None:
    audio = np.concatenate([np.zeros(20000, np.float32), noise(2000), np.zeros(20000, np.float32)])
    crop = read_audio(write(tmp_path / "a.wav", audio), 4000, [0.0])[0]
    assert len(crop) == 4000
    assert np.abs(crop).max() == pytest.approx(np.abs(audio).max(), abs=1e-4)


def broken_audio(folder: Path) -> dict[str, tuple[Path, str]]:
    whole = {suffix: write(folder / f"whole.{suffix}", noise(32000)).read_bytes() for suffix in ("wav", "ogg", "flac")}
    nan = noise()
    nan[8000] = np.nan
    made = {
        "zero.wav": (b"", "not readable as audio"),
        "junk.wav": (b"not audio at all" * 100, "not readable as audio"),
        "truncated.wav": (whole["wav"][:20000], "truncated audio, 44044 bytes that its header declares are missing"),
        "truncated.ogg": (whole["ogg"][: len(whole["ogg"]) // 2], "truncated audio, its last page"),
        "truncated.flac": (whole["flac"][:20000], "not readable as audio|truncated"),
    }
    out = {}
    for name, (content, said) in made.items():
        (folder / name).write_bytes(content)
        out[name] = (folder / name, said)
    out["silent.wav"] = (write(folder / "silent.wav", np.zeros(16000, np.float32)), "silent audio")
    out["constant.wav"] = (write(folder / "constant.wav", np.full(16000, 0.3, np.float32)), "silent audio")
    out["nan.wav"] = (write(folder / "nan.wav", nan, subtype="FLOAT"), "NaN or infinite")
    out["short.wav"] = (write(folder / "short.wav", noise(200)), "shorter than one analysis window")
    out["missing.wav"] = (folder / "missing.wav", "no such audio file")
    return out


BROKEN = (
    "zero.wav junk.wav truncated.wav truncated.ogg truncated.flac silent.wav constant.wav nan.wav short.wav missing.wav"
)


@pytest.mark.parametrize("name", BROKEN.split())
def test_broken_audio_is_one_line_that_names_the_file(tmp_path: Path, name: str) -> None:
    path, said = broken_audio(tmp_path)[name]
    with pytest.raises(DataError, match=said) as error:
        read_audio(path, 32000, [0.5])
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_streamed_wav_without_a_length_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(4000))
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert len(read_audio(path, 4000, [0.0])[0]) == 4000


def test_names_with_blanks_and_unicode(tmp_path: Path) -> None:
    folder = tmp_path / "مثال voices ü"
    assert len(read_audio(write(folder / "a 1.wav", noise()), 400, [0.0])[0]) == 400
    assert read_image(jpg(folder / "b 2.jpg")).size == (40, 30)


def test_every_real_recording_is_read(shared_data: Path) -> None:
    files = sorted((shared_data / "s2f" / "audio").glob("*.ogg"))[::10]
    for file in files:
        (crop,) = read_audio(file, samples_of(128), [0.5])
        assert len(crop) == samples_of(128)


@pytest.mark.parametrize(
    ("whole", "data"),
    [
        (0x7FFFF024, 0x7FFFF000),  # sox
        (0xFFFFFFFF, 0xFFFFFFFF),  # ffmpeg
        (0x7FFFFFFF, 0x7FFFFFFF),
        (0x80000024, 0x80000000),
        (0, 0),
    ],
)
def test_a_wav_of_unknown_length_is_read_to_its_end(tmp_path: Path, whole: int, data: int) -> None:
    path = write(tmp_path / "a.wav", noise())
    expected = read_audio(path, 8000, [0.5])[0]
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[4:8], content[at : at + 4] = whole.to_bytes(4, "little"), data.to_bytes(4, "little")
    path.write_bytes(content)
    assert np.array_equal(read_audio(path, 8000, [0.5])[0], expected)


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_integers_stored_as_floats_are_refused(tmp_path: Path, subtype: str) -> None:
    audio = noise()
    audio[:6000] *= 1e-5  # the crop is quiet, the recording is not
    path = write(tmp_path / "a.wav", np.rint(audio * 32767), subtype=subtype)
    with pytest.raises(DataError, match=r"a\.wav: float samples up to \d+, full scale is 1; divide"):
        read_audio(path, 1000, [0.0])
    assert np.abs(read_audio(write(tmp_path / "loud.wav", noise() * 4, subtype=subtype), 16000, [0.5])[0]).max() > 1


def test_where_channels_cancel_one_is_read(tmp_path: Path) -> None:
    audio = noise()
    for others in ([-audio], [-0.95 * audio], [-audio, audio, -audio]):
        path = write(tmp_path / "a.wav", np.stack([audio, *others], axis=1), subtype="FLOAT")
        assert np.array_equal(read_audio(path, 16000, [0.5])[0], audio)
    stereo = np.stack([audio, noise()], axis=1)
    mono = read_audio(write(tmp_path / "b.wav", stereo, subtype="FLOAT"), 16000, [0.5])[0]
    assert np.array_equal(mono, stereo.mean(axis=1))


@pytest.mark.parametrize("kind", ["AIFF", "AU", "CAF", "W64", "RF64", "NIST", "WAV", "SVX"])
@pytest.mark.parametrize("part", [0.5, 0.99])
def test_a_truncated_recording_of_any_format_is_refused(tmp_path: Path, kind: str, part: float) -> None:
    audio = noise()
    whole = write(tmp_path / f"a.{kind.lower()}", audio, format=kind)
    assert np.abs(read_audio(whole, 16000, [0.0])[0] - audio).max() < 0.01
    whole.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * part)])
    with pytest.raises(DataError, match=r"truncated audio, \d+ bytes that its header declares are missing"):
        read_audio(whole, 1000, [0.0])


@pytest.mark.parametrize(
    "kind", [k for k in soundfile.available_formats() if k not in (*CHECKED, "RAW", "SD2", "MPC2K", "XI", "WVE")]
)
def test_formats_whose_truncated_files_look_whole_are_refused(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / f"a.{kind.lower()}", noise(), format=kind)
    with pytest.raises(DataError, match=rf"a\.{kind.lower()}: {kind} audio, .*; convert it to wav or flac"):
        read_audio(path, 1000, [0.0])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_numbers_that_are_not_finite_are_refused_outside_the_crop_too(
    tmp_path: Path, value: float, subtype: str
) -> None:
    audio = noise()
    audio[15_000] = value
    with pytest.raises(DataError, match=r"a\.wav: NaN or infinite audio samples"):
        read_audio(write(tmp_path / "a.wav", audio, subtype=subtype), 1000, [0.0])


def test_a_wav_whose_data_alone_have_no_length_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise())
    expected = read_audio(path, 8000, [0.5])[0]
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = bytes(4)
    path.write_bytes(content)
    assert np.array_equal(read_audio(path, 8000, [0.5])[0], expected)
    listed = bytes(content[: at + 4]) + b"LIST" + (4).to_bytes(4, "little") + b"INFO"  # no samples, a chunk of words
    path.write_bytes(listed[:4] + (len(listed) - 8).to_bytes(4, "little") + listed[8:])
    with pytest.raises(DataError, match=r"a\.wav: 0\.000 s of audio"):
        read_audio(path, 8000, [0.5])


@pytest.mark.parametrize("rate", [0, 1, 999, 2**31 - 1])
def test_impossible_rates_are_refused(tmp_path: Path, rate: int) -> None:
    path = write(tmp_path / "a.wav", noise())
    content = bytearray(path.read_bytes())
    content[24:28] = rate.to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.wav: "):
        read_audio(path, 8000, [0.5])


def variable_mp3(path: Path, channels: int = 1, rate: int = 16000) -> bytes:
    """An mp3 of variable rate, a second of tones that become louder."""
    audio = np.sin(np.arange(rate) * 0.1) * np.linspace(0, 0.9, rate) ** 3
    soundfile.write(path, np.stack([audio] * channels, axis=1), rate, bitrate_mode="VARIABLE")
    return path.read_bytes()


TITLE, TAG = b"ID3\x04\0\0\0\0\0\x05title", b"TAG" + bytes(125)


@pytest.mark.parametrize(
    ("channels", "rate", "before", "after"),
    [(1, 16000, b"", b""), (1, 16000, TITLE, TAG), (2, 44100, TITLE, bytes(40)), (1, 8000, b"", TAG)],
    ids=["plain", "tags", "stereo", "slow"],
)
def test_an_mp3_without_a_length_is_read_whole(
    tmp_path: Path, channels: int, rate: int, before: bytes, after: bytes
) -> None:
    path = tmp_path / "a.mp3"
    content = variable_mp3(path, channels, rate)
    (expected,) = read_audio(path, 32000, [0.0])
    path.write_bytes(before + content[content.index(content[:2], 4) :] + after)  # without the frame that says it
    (read,) = read_audio(path, 32000, [0.0])
    padding = len(read) - len(expected)  # the first frame also says how many samples to leave out
    assert 0 <= padding < 2 * 1152 * 16000 / rate
    starts = range(padding + 1)
    assert max(np.corrcoef(read[i : i + len(expected)], expected)[0, 1] for i in starts) > 0.999


@pytest.mark.parametrize("header", [True, False])
def test_a_cut_mp3_is_refused_whatever_is_read_of_it(tmp_path: Path, header: bool) -> None:
    path = tmp_path / "a.mp3"
    content = variable_mp3(path)
    content = content if header else content[content.index(content[:2], 4) :]
    for end in (len(content) // 2 + 1, len(content) - 2):
        path.write_bytes(content[:end])
        with pytest.raises(DataError, match=r"a\.mp3: truncated audio, (its last frame is cut|\d+ frames .* missing)"):
            read_audio(path, 1000, [0.0])


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_an_mp2_is_read_whole(tmp_path: Path, rate: int) -> None:
    """Its frames differ in length at 44.1 kHz, and libsndfile guesses how many there are."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(np.arange(rate) * 0.05), rate)
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", "-f", "mp2", tmp_path / "a.mp2"]
    subprocess.run(command, check=True)
    (audio,) = read_audio(tmp_path / "a.mp2", 100_000, [0.0])
    assert 16_000 <= len(audio) <= 16_000 + 2 * 1152
    assert np.abs(audio).max() == pytest.approx(0.5, abs=0.01)
    (tmp_path / "a.mp2").write_bytes((tmp_path / "a.mp2").read_bytes()[:-9])
    with pytest.raises(DataError, match=r"a\.mp2: truncated audio, its last frame is cut"):
        read_audio(tmp_path / "a.mp2", 400, [0.0])


def test_recordings_of_unknown_length_say_so(tmp_path: Path) -> None:
    tone = 0.5 * np.sin(np.arange(16_000) * 0.05)
    soundfile.write(tmp_path / "a.flac", tone, 16_000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] &= 0xF0  # the number of samples, 36 bits
    content[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.flac: declares no length.*convert it to wav"):
        read_audio(tmp_path / "a.flac", 400, [0.0])
