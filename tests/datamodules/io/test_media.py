"""Audio and images: read right, cropped without decoding the rest, and refused in one line that names the file."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from datamodules.io.media import read_audio, read_image, samples_of
from datamodules.media.sources import BadSamples, FaceSource, VoiceSource, augmenting_transform, plain_transform
from datamodules.schema import DataError

RNG = np.random.default_rng(0)


def noise(samples: int = 16000) -> np.ndarray:
    return (RNG.standard_normal(samples) * 0.1).astype(np.float32)


def write(path: Path, audio: np.ndarray, rate: int = 16000, **options: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio, rate, **options)
    return path


def jpg(path: Path, size: tuple[int, int] = (40, 30), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = size[::-1] if mode == "L" else (*size[::-1], 3)
    Image.fromarray(RNG.integers(0, 256, shape, dtype=np.uint8), mode).save(path)
    return path


# -- audio ---------------------------------------------------------------------------------------------------------


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


# -- images --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_any_colour_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.jpg"
    Image.new(mode, (20, 30), 100).save(path)
    image = read_image(path)
    assert image.mode == "RGB"
    assert image.size == (20, 30)


def test_exif_rotation_is_undone(tmp_path: Path) -> None:
    image, exif = Image.new("RGB", (20, 30)), Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").size == (30, 20)


@pytest.mark.parametrize("kind", ["truncated", "zero", "junk", "missing"])
def test_broken_images_are_one_line_that_names_the_file(tmp_path: Path, kind: str) -> None:
    whole = jpg(tmp_path / "whole.jpg", (100, 100)).read_bytes()
    path = tmp_path / f"{kind}.jpg"
    if kind != "missing":
        path.write_bytes({"truncated": whole[: len(whole) // 2], "zero": b"", "junk": b"\xff\xd8 no"}[kind])
    with pytest.raises(DataError, match="image") as error:
        read_image(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_plain_transform_is_resize_centre_crop_and_statistics() -> None:
    image = Image.new("RGB", (60, 40), (255, 0, 128))
    out = plain_transform(32, "imagenet")(image)
    expected = (torch.tensor([1.0, 0.0, 128 / 255]) - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor(
        [0.229, 0.224, 0.225]
    )
    assert out.shape == (3, 32, 32)
    assert torch.allclose(out, expected[:, None, None].expand(3, 32, 32), atol=1e-5)
    stripes = np.zeros((40, 60, 3), np.uint8)
    stripes[:, :10] = stripes[:, 50:] = 255  # cut away by the centre crop
    assert plain_transform(40)(Image.fromarray(stripes)).unique().numel() == 3


def test_unknown_statistics_are_named() -> None:
    with pytest.raises(ValueError, match="image_normalisation is 'vgg'; choose from imagenet, clip"):
        plain_transform(32, "vgg")  # type: ignore[arg-type]


# -- sources -------------------------------------------------------------------------------------------------------


@pytest.fixture
def voices(tmp_path: Path) -> np.ndarray:
    return np.array([str(write(tmp_path / f"v{i}.wav", noise(4000 + 4000 * i))) for i in range(5)])


@pytest.fixture
def faces(tmp_path: Path) -> np.ndarray:
    return np.array([str(jpg(tmp_path / f"f{i}.jpg")) for i in range(5)])


def test_evaluation_is_deterministic_and_padded_with_nan(voices: np.ndarray) -> None:
    source = VoiceSource(voices, samples=8000)
    batch = source.read([0, 2, 0])
    assert batch.shape == (3, 8000)
    assert (~batch.isnan()).sum(1).tolist() == [4000, 8000, 4000]
    assert torch.equal(batch.nan_to_num(), source.read([0, 2, 0]).nan_to_num())
    whole = soundfile.read(voices[2], dtype="float32")[0]
    assert np.array_equal(batch[1].numpy(), whole[2000:10000])


def test_several_crops_are_spread_from_start_to_end(voices: np.ndarray) -> None:
    batch = VoiceSource(voices, samples=8000, crops=3).read([4, 0])
    whole = soundfile.read(voices[4], dtype="float32")[0]
    assert batch.shape == (2, 3, 8000)
    for crop, start in zip(batch[0].numpy(), (0, 6000, 12000), strict=True):
        assert np.array_equal(crop, whole[start : start + 8000])


def test_the_whole_recording_is_one_more_crop(tmp_path: Path) -> None:
    long, short = noise(5000), noise(700)
    names = [write(tmp_path / f"{i}.wav", audio, subtype="FLOAT") for i, audio in enumerate((long, short))]
    paths = np.array([str(name) for name in names])
    batch = VoiceSource(paths, 1000, crops=2, whole=4000).read([0, 1])
    assert batch.shape == (2, 3, 4000)
    crops = [long[:1000], long[4000:], long[500:4500], short, short, short]  # 4000 samples at most, from the centre
    for row, audio in zip(batch.flatten(0, 1), crops, strict=True):
        assert np.array_equal(row[: len(audio)], audio)
        assert row[len(audio) :].isnan().all()
    assert VoiceSource(paths, 1000, crops=2, whole=4000, seed=0).read([0, 1]).shape == (2, 1000)  # training: one crop


def test_augmentation_depends_on_seed_and_rows_only(voices: np.ndarray, faces: np.ndarray) -> None:
    transform = augmenting_transform(24)
    for make in (lambda s: VoiceSource(voices, 2000, seed=s), lambda s: FaceSource(faces, transform, seed=s)):
        first = make(1).read([4, 3])
        torch.manual_seed(5)
        torch.rand(3)
        state = torch.get_rng_state()
        assert torch.equal(make(1).read([4, 3]), first)
        assert torch.equal(torch.get_rng_state(), state)  # and it leaves the global generator alone
        assert not torch.equal(make(2).read([4, 3]), first)
        assert not torch.equal(make(1).read([3, 4]).flip(0), first)


def test_an_unreadable_file_stops_evaluation_and_training(voices: np.ndarray) -> None:
    Path(voices[1]).write_bytes(b"")
    for seed in (None, 0):
        with pytest.raises(DataError, match=r"v1\.wav"):
            VoiceSource(voices, 2000, seed=seed).read([0, 1])


def test_skip_takes_the_same_identity_up_to_the_cap_and_keeps_a_list(voices: np.ndarray, tmp_path: Path) -> None:
    person = np.array([0, 0, 1, 1, 1])
    record = tmp_path / "bad_samples.txt"
    source = VoiceSource(voices, 2000, seed=0, bad=BadSamples(person, record))
    Path(voices[1]).write_bytes(b"")
    with pytest.warns(UserWarning, match="skipped in training: .*v1.wav"):
        batch = source.read([1, 4])
    whole = soundfile.read(voices[0], dtype="float32")[0]  # the only other file of person 0
    assert any(np.array_equal(batch[0].numpy(), whole[i : i + 2000]) for i in range(2001))
    source.read([1])  # known by now: no second attempt, no second line
    assert record.read_text().count("v1.wav") == 1
    Path(voices[3]).write_bytes(b"junk")
    with pytest.raises(DataError, match=r"v3\.wav: .*more than 1 of 5 training files are unreadable, see .*bad_s"):
        source.read([3])


def test_the_cap_is_one_in_a_thousand() -> None:
    assert BadSamples(np.zeros(2999, np.int64)).allowed == 2
    assert BadSamples(np.zeros(10, np.int64)).allowed == 1


def test_an_identity_without_readable_files_is_an_error(faces: np.ndarray) -> None:
    Path(faces[0]).write_bytes(io.BytesIO(b"junk").getvalue())
    source = FaceSource(faces, plain_transform(24), seed=0, bad=BadSamples(np.arange(5)))
    with pytest.warns(UserWarning, match="f0"), pytest.raises(DataError, match="has no readable training file"):
        source.read([0])


# -- what other programs write -------------------------------------------------------------------------------------


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


GREY = RNG.integers(0, 256, (30, 40), dtype=np.uint8)


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("16.png", Image.fromarray(GREY.astype(np.uint16) * 257)),
        ("16.tif", Image.fromarray(GREY.astype(np.uint16) * 257)),
        ("big_endian.tif", Image.fromarray((GREY.astype(np.uint16) * 257).astype(">u2"))),
        ("16.pgm", Image.fromarray(GREY.astype(np.int32) * 257)),
        ("16.jp2", Image.fromarray(GREY.astype(np.uint16) * 257)),
        ("unit.tif", Image.fromarray(GREY.astype(np.float32) / 255)),
        ("float.tif", Image.fromarray(GREY.astype(np.float32))),
        ("cmyk.tif", Image.fromarray(GREY).convert("RGB").convert("CMYK")),
        ("ycbcr.tif", Image.fromarray(GREY).convert("RGB").convert("YCbCr")),
        ("la.png", Image.fromarray(GREY).convert("LA")),
        ("palette.png", Image.fromarray(GREY).convert("P")),
    ],
)
def test_any_bit_depth_is_within_one_level_of_the_8_bit_picture(tmp_path: Path, name: str, image: Image.Image) -> None:
    image.save(tmp_path / name)
    levels = np.asarray(read_image(tmp_path / name)).astype(int)
    assert np.abs(levels - GREY[..., None]).max() <= 1


@pytest.mark.parametrize(
    "levels", [GREY.astype(np.int32) * 257, GREY.astype(np.float32) * 257, np.full((4, 4), np.nan)]
)
def test_numbers_of_unknown_range_are_refused(tmp_path: Path, levels: np.ndarray) -> None:
    Image.fromarray(levels.astype(np.float32) if levels.dtype.kind == "f" else levels).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"^[^:]*a\.tif: .*save the image with 8"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["L", "I;16", "RGB", "P", "lzw"])
def test_a_tiff_is_turned_upright(tmp_path: Path, kind: str, orientation: int) -> None:
    image = Image.fromarray(GREY.astype(np.uint16) * 257) if kind == "I;16" else Image.fromarray(GREY)
    image = image.convert(kind) if kind in ("RGB", "P") else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.tif", exif=exif, compression="tiff_lzw" if kind == "lzw" else None)
    turned = {1: GREY, 2: GREY[:, ::-1], 3: GREY[::-1, ::-1], 4: GREY[::-1], 5: GREY.T, 6: GREY[::-1].T,
              7: GREY[::-1, ::-1].T, 8: GREY[:, ::-1].T}[orientation]  # fmt: skip
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "a.tif"))[..., 0], turned)


FEWER_BITS = [(bits, np.rint(GREY * (white / 255))) for bits, white in ((8, 255), (10, 1023), (12, 4095))]
FEWER_BITS += [(bits, GREY * 2.0 ** (bits - 8)) for bits in (10, 12, 14)]


@pytest.mark.parametrize(("bits", "numbers"), FEWER_BITS)
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_fewer_bits_in_a_16_bit_image_are_read_right_and_said(
    tmp_path: Path, name: str, bits: int, numbers: np.ndarray
) -> None:
    Image.fromarray(numbers.astype(np.uint16)).save(tmp_path / name)
    with pytest.warns(UserWarning, match=rf"{name}: the brightest of its 16-bit numbers is \d+; read as {bits}-bit"):
        read = np.asarray(read_image(tmp_path / name))[..., 0].astype(int)
    assert np.abs(read - GREY).max() <= 1


def test_dark_16_bit_images_stay_dark(tmp_path: Path) -> None:
    dark = GREY // 16
    Image.fromarray(dark.astype(np.uint16) * 257).save(tmp_path / "a.png")
    assert np.array_equal(np.asarray(read_image(tmp_path / "a.png"))[..., 0], dark)
    raw = GREY.astype(np.uint16) * 257 // 23
    Image.fromarray(raw).save(tmp_path / "b.png")
    with pytest.warns(UserWarning, match=r"b\.png: .* is 2849; read as a dark picture"):
        assert np.abs(np.asarray(read_image(tmp_path / "b.png"))[..., 0] - raw / 257).max() <= 0.5
    Image.fromarray(raw).save(tmp_path / "c.tif", tiffinfo={281: 3000})  # it says what is white
    assert np.abs(np.asarray(read_image(tmp_path / "c.tif"))[..., 0] - raw * (255 / 3000)).max() <= 0.5


def test_images_of_too_many_pixels_and_programs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datamodules.io.media.PIXELS", 1199)
    jpg(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: 40 x 30 pixels; scale"):
        read_image(tmp_path / "a.png")
    Image.fromarray(GREY[:5]).save(tmp_path / "b.jpg", "EPS")
    with pytest.raises(DataError, match=r"b\.jpg: a PostScript program, which is not run"):
        read_image(tmp_path / "b.jpg")


@pytest.mark.parametrize("kind", ["AIFF", "AU", "CAF", "W64", "RF64", "NIST", "WAV", "SVX"])
@pytest.mark.parametrize("part", [0.5, 0.99])
def test_a_truncated_recording_of_any_format_is_refused(tmp_path: Path, kind: str, part: float) -> None:
    audio = noise()
    whole = write(tmp_path / f"a.{kind.lower()}", audio, format=kind)
    assert np.abs(read_audio(whole, 16000, [0.0])[0] - audio).max() < 0.01
    whole.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * part)])
    with pytest.raises(DataError, match=r"truncated audio, \d+ bytes that its header declares are missing"):
        read_audio(whole, 1000, [0.0])


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
