"""The faster reader of training images gives the pixels of the other one, and refuses what that refuses."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.io.media import pixels, read_image
from datamodules.io.media.pixels import read_pixels
from datamodules.schema import DataError

NOISE = np.random.default_rng(0).integers(0, 256, (61, 45, 3), dtype=np.uint8)
PICTURE = Image.fromarray(NOISE).resize((90, 122), Image.Resampling.BICUBIC)
TURNED = Image.Exif()
TURNED[0x0112] = 6
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "plain": ("RGB", "jpeg", {}),
    "full colours": ("RGB", "jpeg", {"subsampling": 0, "quality": 95}),
    "half colours": ("RGB", "jpeg", {"subsampling": 1}),
    "progressive": ("RGB", "jpeg", {"progressive": True}),
    "grey": ("L", "jpeg", {}),
    "turned": ("RGB", "jpeg", {"exif": TURNED}),
    "print colours": ("CMYK", "jpeg", {}),
    "png": ("RGB", "png", {}),
    "png with a palette": ("P", "png", {}),
}


def saved(kind: str) -> bytes:
    mode, name, options = KINDS[kind]
    file = io.BytesIO()
    PICTURE.convert(mode).save(file, name, **options)
    return file.getvalue()


def same(path: Path) -> bool:
    return torch.equal(read_pixels(path).permute(1, 2, 0), torch.from_numpy(np.array(read_image(path))))


def refused(read: Callable[[Path], Any], path: Path) -> str:
    """The error of a reader, "" where it reads the file."""
    try:
        read(path)
    except DataError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", KINDS)
def test_the_pixels_are_those_of_the_other_reader(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(saved(kind))
    assert same(tmp_path / "a.jpg")


def test_usual_files_take_the_fast_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "read_image", None)
    for kind in ("plain", "full colours", "half colours", "progressive", "grey"):
        (tmp_path / "a.jpg").write_bytes(saved(kind))
        assert read_pixels(tmp_path / "a.jpg").shape == (3, 122, 90)


def test_without_the_fast_decoder_files_are_read_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").write_bytes(saved("plain"))
    monkeypatch.delattr("torchvision.io.decode_jpeg")
    assert same(tmp_path / "a.jpg")


def test_damaged_files_are_refused_or_read_alike(tmp_path: Path) -> None:
    whole, rng = saved("plain"), np.random.default_rng(1)
    path = tmp_path / "a.jpg"
    damaged = [
        whole[:end] for end in rng.integers(0, len(whole), 60).tolist() + list(range(len(whole) - 3, len(whole)))
    ]
    for _ in range(60):
        content = bytearray(whole)
        content[rng.integers(len(content))] ^= int(rng.integers(1, 256))
        damaged.append(bytes(content))
    for content in damaged:
        path.write_bytes(content)
        refusal = refused(read_image, path)
        assert refused(read_pixels, path) == refusal
        assert refusal or same(path)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.jpg"):
        with pytest.raises(DataError, match=path.name):
            read_pixels(path)
