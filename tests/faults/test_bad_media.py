"""Broken and mislabelled wav and jpg files, read by ``fit``."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from experiments.run import main
from tests import warm
from tests.faults.worlds import media_world, refusal

TRAINED = "v1/voices/id0001/English/vid0/00000.wav", "v1/faces/id0001/English/vid1/0000000.jpg"
HEARD = "v1/voices/English/00001.wav", "v1/faces/English/00001.jpg"
# the validation identities are fixed, so that id0001 is trained on
FIT = ["--data.val_identities=[id0007,id0008]", "--no-test"]


def wav(audio: np.ndarray, rate: int = 16000, subtype: str = "FLOAT") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, audio, rate, format="WAV", subtype=subtype)
    return buffer.getvalue()


def with_nan(content: bytes) -> bytes:
    audio, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    audio[::7] = np.nan
    return wav(audio, rate)


def recoded(content: bytes, rate: int, channels: int) -> bytes:
    audio, _ = soundfile.read(io.BytesIO(content), dtype="float32")
    return wav(np.repeat(audio[:, None], channels, axis=1), rate, "PCM_16")


def image(content: bytes, mode: str) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(content)).convert(mode).save(buffer, "jpeg")
    return buffer.getvalue()


Spoil = Callable[[bytes], bytes]
BROKEN: dict[str, tuple[int, Spoil, str]] = {
    "zero-byte wav": (0, lambda _: b"", "not readable as audio"),
    "junk wav": (0, lambda _: b"no audio at all" * 99, "not readable as audio"),
    "wav cut in the header": (0, lambda c: c[:30], "not readable as audio|truncated|shorter"),
    "wav that decodes silently short": (0, lambda c: c[: len(c) * 9 // 10], r"truncated audio, \d+ bytes"),
    "silent wav": (0, lambda _: wav(np.zeros(8000, np.float32)), "silent audio"),
    "NaN wav": (0, with_nan, "NaN or infinite audio samples"),
    "jpg called wav": (0, lambda _: image_of_noise(), "not readable as audio"),
    "zero-byte jpg": (1, lambda _: b"", "not readable as an image"),
    "junk jpg": (1, lambda _: b"\xff\xd8\xff no image", "not readable as an image"),
    "truncated jpg": (1, lambda c: c[: len(c) * 2 // 3], "not readable as an image"),
}
FINE: dict[str, tuple[int, Spoil]] = {
    "8 kHz": (0, lambda c: recoded(c, 8000, 1)),
    "44.1 kHz stereo": (0, lambda c: recoded(c, 44100, 2)),
    "grey jpg": (1, lambda c: image(c, "L")),
    "CMYK jpg": (1, lambda c: image(c, "CMYK")),
}


def image_of_noise() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "jpeg")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    media_world(root)
    return root


@pytest.fixture
def world(whole: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    shutil.copytree(whole, tmp_path / "media")
    media_world_config = (whole / "world.yaml").read_text().replace(str(whole), str(tmp_path / "media"))
    (tmp_path / "media" / "world.yaml").write_text(media_world_config)
    return tmp_path / "media"


def spoil(path: Path, how: Spoil) -> None:
    path.write_bytes(how(path.read_bytes()))


def fit(world: Path, *options: str) -> list[str]:
    return ["fit", "--config", str(world / "world.yaml"), f"--run_dir={world.parent / 'run'}", *options]


IN_A_TEST = ("zero-byte wav", "wav that decodes silently short", "truncated jpg")


@pytest.mark.parametrize(
    ("where", "fault"), [*(("training", fault) for fault in BROKEN), *(("test", fault) for fault in IN_A_TEST)]
)
def test_a_broken_file_ends_the_run_and_is_named(
    world: Path, where: str, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    side, how, said = BROKEN[fault]
    path = world / (TRAINED if where == "training" else HEARD)[side]
    spoil(path, how)
    skip = [] if where == "training" else ["--data.media.on_bad_sample=skip"]  # never in a test
    line = refusal(fit(world, *(FIT[:1] if where == "test" else FIT), *skip), capsys)
    assert line.startswith(f"{path}: ")
    assert re.search(said, line), line
    if where == "test":  # what was trained is kept
        assert (world.parent / "run" / "checkpoints" / "best.ckpt").is_file()
        assert not (world.parent / "run" / "results.json").exists()


@pytest.mark.parametrize("fault", FINE)
def test_other_rates_channels_and_colours_are_read(world: Path, fault: str) -> None:
    side, how = FINE[fault]
    for name in (TRAINED[side], HEARD[side]):
        spoil(world / name, how)
    assert main(fit(world, FIT[0])) == 0
    assert (world.parent / "run" / "results.json").is_file()


def test_workers_report_a_broken_file_as_one_line_too(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(world / TRAINED[0], lambda _: b"")
    line = refusal(fit(world, *FIT, "--data.num_workers=2"), capsys)
    assert line.startswith(f"{world / TRAINED[0]}: not readable as audio")


@pytest.mark.processes
@pytest.mark.parametrize("workers", [0, 2])
def test_one_training_file_may_be_skipped_and_is_listed(world: Path, workers: int) -> None:
    spoil(world / TRAINED[0], lambda _: b"")
    skip = ["--data.media.on_bad_sample=skip", f"--data.num_workers={workers}"]
    done = warm.run(*fit(world, *FIT, *skip))
    assert done.returncode == 0, done.stderr
    assert f"skipped in training: {world / TRAINED[0]}: not readable" in done.stderr
    listed = (world.parent / "run" / "bad_samples.txt").read_text().splitlines()
    assert len(listed) == 1
    assert listed[0].startswith(f"{world / TRAINED[0]}: ")


def test_more_than_one_in_a_thousand_ends_the_run(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lost = sorted((world / "v1/voices/id0001/English").rglob("*.wav"))[:2]
    for path in lost:
        spoil(path, lambda _: b"")
    line = refusal(fit(world, *FIT, "--data.media.on_bad_sample=skip"), capsys)
    assert re.search(r"more than 1 of 24 training files are unreadable, see .*bad_samples\.txt; repair them", line)
    listed = (world.parent / "run" / "bad_samples.txt").read_text()
    assert all(str(path) in listed for path in lost)
