"""Text files in other encodings and with other line ends: every reader reads them as they were meant, or names them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from datamodules.schema import DataError
from tests.fuzz.readers import READERS

TEXTS = [name for name, reader in READERS.items() if Path(reader.name).suffix in (".csv", ".txt", ".json", ".yaml")]
SAME = {
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text,
    "CR": lambda text: text.replace(b"\n", b"\r"),
    "CRLF": lambda text: text.replace(b"\n", b"\r\n"),
    "no last line end": lambda text: text.rstrip(b"\n"),
}
OTHER = {
    "UTF-16": lambda text: text.decode().encode("utf-16"),
    "UTF-16 without mark": lambda text: text.decode().encode("utf-16-le"),
    "UTF-32": lambda text: text.decode().encode("utf-32"),
    "Latin-1": lambda text: text + "é\n".encode("latin-1"),
    "zero byte": lambda text: text + b"\0\n",
}
STRICT = {("score file", "byte order mark"), ("score file", "CR")}  # the challenge's own reader takes neither


def read(name: str, content: bytes, folder: Path) -> str:
    folder.mkdir()
    path = folder / READERS[name].name
    path.write_bytes(content)
    found = READERS[name].read(path)
    plain = vars(found.items) if hasattr(found, "items") and hasattr(found, "array") else found
    return re.sub(r"0x\w+", "", repr(plain)).replace(str(folder), "")


@pytest.mark.parametrize("name", TEXTS)
def test_line_ends_and_byte_order_marks_change_nothing(name: str, tmp_path: Path) -> None:
    seed = READERS[name].seeds[0]
    right = read(name, seed, tmp_path / "right")
    for way, change in SAME.items():
        if (name, way) not in STRICT:
            assert read(name, change(seed), tmp_path / way) == right, way


@pytest.mark.parametrize("name", TEXTS)
def test_other_encodings_are_named(name: str, tmp_path: Path) -> None:
    for way, change in OTHER.items():
        with pytest.raises(DataError, match=re.escape(READERS[name].name)) as error:
            read(name, change(READERS[name].seeds[0]), tmp_path / way)
        assert "\n" not in str(error.value), way
