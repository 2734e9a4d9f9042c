"""Readers of media by row: crops, augmentation, and what an unreadable file does."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from datamodules.media.sources import BadSamples, FaceSource, VoiceSource
from datamodules.media.transforms import (
    COLOURS,
    STATISTICS,
    WHITE,
    augmenting_transform,
    plain_transform,
    random_box,
    recolour,
)
from datamodules.schema import DataError
from tests.datamodules.noise import jpg, noise, write
from tests.datamodules.torch_draws import torch_draws


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


@pytest.mark.parametrize("options", [(0.2, 0.2, 0.2), (0.9, 0.0, 0.5), (0.0, 0.8, 0.0), (0, 0, 0)])
def test_colours_change_in_place_as_torchvision_changes_them(options: tuple[float, float, float]) -> None:
    jitter = v2.ColorJitter(*options)
    for seed in range(12):
        image = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(seed))
        torch.manual_seed(seed)
        expected = jitter(image)
        torch.manual_seed(seed)
        drawn = jitter.make_params([])
        changes = [(COLOURS[i], drawn[f"{COLOURS[i]}_factor"]) for i in drawn["fn_idx"].tolist() if i < len(COLOURS)]
        levels = WHITE * image
        recolour(levels, [(kind, factor) for kind, factor in changes if factor is not None])
        assert torch.allclose(levels / WHITE, expected, atol=2e-6)


@pytest.mark.parametrize(("colour", "smallest"), [(0.0, 0.5), (0.4, 0.9)])
def test_training_images_are_torchvisions_after_the_same_draws(colour: float, smallest: float) -> None:
    pixels = torch.randint(0, 256, (3, 60, 50), dtype=torch.uint8)
    steps = [
        v2.RandomResizedCrop(32, (smallest, 1.0), interpolation=InterpolationMode.BICUBIC, antialias=True),
        v2.RandomHorizontalFlip(0.5),
        v2.ToDtype(torch.float32, scale=True),
        v2.ColorJitter(colour, colour, colour) if colour else v2.Identity(),
        v2.Normalize(*STATISTICS["clip"]),
    ]
    for seed in range(20):
        torch.manual_seed(seed)
        expected = v2.Compose(steps)(pixels)
        transform = augmenting_transform(32, "clip", smallest, colour)
        assert torch.allclose(transform(pixels, torch_draws(seed)), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(60, 50), (250, 250), (20, 90), (90, 20), (1, 300)])
def test_crops_are_torchvisions_after_the_same_draws(shape: tuple[int, int]) -> None:
    crop = v2.RandomResizedCrop(8, (0.3, 1.0))
    for seed in range(300):
        torch.manual_seed(seed)
        expected = crop.make_params([torch.empty(3, *shape)])
        box = random_box(*shape, 0.3, torch_draws(seed))
        assert box == tuple(expected[name] for name in ("top", "left", "height", "width"))


def test_unknown_statistics_are_named() -> None:
    with pytest.raises(ValueError, match="image_normalisation is 'vgg'; choose from imagenet, clip"):
        plain_transform(32, "vgg")  # type: ignore[arg-type]


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
    source = FaceSource(faces, augmenting_transform(24), seed=0, bad=BadSamples(np.arange(5)))
    with pytest.warns(UserWarning, match="f0"), pytest.raises(DataError, match="has no readable training file"):
        source.read([0])
