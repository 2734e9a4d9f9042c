"""Images become 8-bit RGB, upright, or are refused in one line that names the file."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.io.media import read_image
from datamodules.schema import DataError
from tests.datamodules.noise import RNG, jpg


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
    assert "BufferedReader" not in str(error.value)


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
FEWER_BITS += [(bits, GREY * 2.0 ** (bits - 8)) for bits in (9, 10, 12, 14, 15)]


@pytest.mark.parametrize(("bits", "numbers"), FEWER_BITS)
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_fewer_bits_in_a_16_bit_image_are_read_right_and_said(
    tmp_path: Path, name: str, bits: int, numbers: np.ndarray
) -> None:
    Image.fromarray(numbers.astype(np.uint16)).save(tmp_path / name)
    with pytest.warns(UserWarning, match=rf"{name}: the brightest of its 16-bit numbers is \d+; read as {bits}-bit"):
        read = np.asarray(read_image(tmp_path / name))[..., 0].astype(int)
    assert np.abs(read - GREY).max() <= 1


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def colours_png(numbers: np.ndarray) -> bytes:
    """A 16-bit png of grey and alpha, RGB or RGBA, which Pillow cannot write."""
    height, width, channels = numbers.shape
    head = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in numbers)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def plain_tif(numbers: np.ndarray, order: str) -> bytes:
    """An uncompressed tif of the numbers (h, w, 1 or 3), of either byte order."""
    (height, width, channels), bits = numbers.shape, numbers.dtype.itemsize * 8
    content, kind = numbers.astype(numbers.dtype.newbyteorder(order)).tobytes(), 3 if numbers.dtype.kind == "f" else 1
    at = 8 + 2 + 12 * 10 + 4
    tags = {256: width, 257: height, 259: 1, 262: 2 if channels == 3 else 1, 273: at + 12, 277: channels, 278: height}
    entries = [struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in (tags | {279: len(content)}).items()]
    for tag, value, place in ((258, bits, at), (339, kind, at + 6)):
        where = struct.pack(f"{order}I", place) if channels == 3 else struct.pack(f"{order}HH", value, 0)
        entries.append(struct.pack(f"{order}HHI", tag, 3, channels) + where)
    entries.sort(key=lambda entry: struct.unpack(f"{order}H", entry[:2]))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries))
    return head + b"".join(entries) + bytes(4) + struct.pack(f"{order}6H", *[bits] * 3, *[kind] * 3) + content


@pytest.mark.parametrize("order", "<>")
def test_tifs_are_read_right_or_refused_with_what_to_save(tmp_path: Path, order: str) -> None:
    path, colours = tmp_path / "a.tif", RNG.integers(0, 256, (12, 9, 3))
    for numbers in (colours.astype(np.uint8), (colours * 257).astype(np.uint16)):
        path.write_bytes(plain_tif(numbers, order))
        assert np.abs(np.asarray(read_image(path)).astype(int) - colours).max() <= 1
    path.write_bytes(plain_tif((colours[..., :1] / 255).astype(np.float32), order))
    assert np.abs(np.asarray(read_image(path)).astype(int) - colours[..., :1]).max() <= 1
    other = [(colours / 255).astype(np.float32), (colours * 257).astype(np.uint32)]
    other += [(colours[..., :1] * 257).astype(np.uint32), (colours[..., :1] / 255).astype(np.float64)]
    for numbers in other:
        path.write_bytes(plain_tif(numbers, order))
        with pytest.raises(DataError, match=r"a\.tif: .*; save (it as 8-bit png|the image with 8)"):
            read_image(path)


def colours_tif(numbers: np.ndarray, order: str, packed: bool) -> bytes:
    """A 16-bit RGB tif, turned by its tag, of either byte order."""
    turned = np.rot90(numbers)
    height, width, _ = turned.shape
    content = turned.astype(f"{order}u2").tobytes()
    content = zlib.compress(content) if packed else content
    at = 8 + 2 + 12 * 10 + 4
    tags = {256: width, 257: height, 259: 8 if packed else 1, 262: 2, 273: at + 6, 274: 6, 277: 3, 278: height}
    tags |= {279: len(content)}
    entries = [struct.pack(f"{order}HHII", 258, 3, 3, at)]
    entries += [struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items()]
    entries.sort(key=lambda entry: struct.unpack(f"{order}H", entry[:2]))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries))
    return head + b"".join(entries) + bytes(4) + struct.pack(f"{order}3H", 16, 16, 16) + content


@pytest.mark.parametrize("kind", ["la.png", "rgb.png", "rgba.png", "<.tif", ">.tif", "<packed.tif", ">packed.tif"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 15, 16])
def test_16_bit_colours_are_read_as_grey_levels_are(tmp_path: Path, kind: str, bits: int) -> None:
    colours = RNG.integers(0, 256, (12, 9, 3))
    colours[0, 0] = 255
    numbers, path = np.rint(colours * ((2**bits - 1) / 255)).astype(int), tmp_path / f"a{kind[-4:]}"
    if kind.endswith("png"):
        opaque = np.full((12, 9, int("a" in kind)), 65535)
        numbers, colours = (x[..., :1] if "la" in kind else x for x in (numbers, colours))
        path.write_bytes(colours_png(np.dstack([numbers, opaque])))
    else:
        path.write_bytes(colours_tif(numbers, kind[0], "packed" in kind))
    said = warnings.catch_warnings() if bits == 16 else pytest.warns(UserWarning, match=rf"{path.name}.*{bits}-bit")
    with said:
        read = np.asarray(read_image(path)).astype(int)
    assert np.abs(read - colours).max() <= 1


def test_dark_16_bit_images_stay_dark(tmp_path: Path) -> None:
    dark = GREY // 16
    Image.fromarray(dark.astype(np.uint16) * 257).save(tmp_path / "a.png")
    assert np.array_equal(np.asarray(read_image(tmp_path / "a.png"))[..., 0], dark)
    for part in (3, 23):
        raw = GREY.astype(np.uint16) * 257 // part
        Image.fromarray(raw).save(tmp_path / "b.png")
        with pytest.warns(UserWarning, match=rf"b\.png: .* is {raw.max()}; read as a dark picture"):
            assert np.abs(np.asarray(read_image(tmp_path / "b.png"))[..., 0] - raw / 257).max() <= 0.5
    Image.fromarray(raw).save(tmp_path / "c.tif", tiffinfo={281: 3000})  # it says what is white
    assert np.abs(np.asarray(read_image(tmp_path / "c.tif"))[..., 0] - raw * (255 / 3000)).max() <= 0.5


def test_images_of_too_many_pixels_and_programs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datamodules.io.media.images.PIXELS", 1199)
    jpg(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: 40 x 30 pixels; scale"):
        read_image(tmp_path / "a.png")
    Image.fromarray(GREY[:5]).save(tmp_path / "b.jpg", "EPS")
    with pytest.raises(DataError, match=r"b\.jpg: a PostScript program, which is not run"):
        read_image(tmp_path / "b.jpg")
