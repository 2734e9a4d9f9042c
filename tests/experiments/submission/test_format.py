"""Score files and archives: what is written reads back, and every mistake seen in the wild is named with its line."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.schema import DataError
from experiments.submission import format as module
from experiments.submission.format import (
    check_keys,
    direction_by_labels,
    direction_by_raw,
    pack,
    parse_scores,
    render,
    unpack,
)

KEYS = ["ab12", "cd34", "ef56"]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_distances_read_back_to_the_last_bit(distances: list[float]) -> None:
    keys = [f"k{i}" for i in range(len(distances))]
    text = render(keys, np.array(distances), "f.txt")
    assert text.count("\n") == len(keys)
    read, values = parse_scores(text.encode(), "f.txt")
    assert read == keys
    np.testing.assert_array_equal(values, distances)


@pytest.mark.parametrize("key", ["a b", "a\nb 0.1", "", "a\x00", "a\u2028b", "a\u202eb", "x" * 300])
def test_hostile_keys_are_not_written(key: str) -> None:
    with pytest.raises(DataError, match=r"f\.txt, line 2: key .* blank or control character") as error:
        render(["ok", key], np.zeros(2), "f.txt")
    assert len(str(error.value).splitlines()) == 1


def test_only_unique_keys_and_finite_distances_are_written() -> None:
    with pytest.raises(DataError, match="'a' occurs 2 times"):
        render(["a", "b", "a"], np.zeros(3), "f.txt")
    with pytest.raises(DataError, match="line 2: the distance of b is nan"):
        render(["a", "b"], np.array([0, np.nan]), "f.txt")


def test_windows_lines_and_a_last_line_without_end_are_fine() -> None:
    assert parse_scores(b"ab12 0.5\r\ncd34 -1e-3", "f.txt")[0] == ["ab12", "cd34"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ab12 0.5\ncd34 [0.6438]\n", r"line 2: the distance '\[0.6438\]' has brackets.* write 0.6438"),
        ("ab12 0.5\ncd34 tensor(0.6438)\n", "line 2: the distance .* is not a number"),
        ("ab12 0.5cd34 0.6ef56 0.7", "line 1: 4 columns; a line end is missing"),
        ("ab12 0.5cd34 0.6\n", "line 1: 3 columns; a line end is missing"),
        ("ab12 0.5 cd34 0.6\n", "line 1: 4 columns; a line end is missing"),
        ("ab12 0.5\ncd34 0.6ef56\n", "line 2: .* a line end is missing"),
        ("ab12 nan\n", "line 1: the distance 'nan' is not finite"),
        ("ab12 -Infinity\n", "line 1: .* not finite"),
        ("ab12 1e999\n", "line 1: .* not finite"),
        ("ab12 0.5\n\ncd34 0.6\n", "line 2: is blank"),
        ("ab12 1_000\n", "line 1: .* is not a number"),
        ("ab12 \u0660.\u0665\n", "line 1: .* is not a number"),
        ("ab12 0,5\n", "line 1: .* is not a number"),
        ("ab12\n", "line 1: expected '<key> <distance>'"),
        ("ab12  0.5\n", "line 1: expected '<key> <distance>' with one blank"),
        ("ab12\t0.5\n", "line 1: expected '<key> <distance>'"),
        ("ab12 0.5 1\n", "line 1: expected '<key> <distance>'"),
        ("0.5 ab12\n", "line 1: the distance 'ab12' is not a number"),
        ("ab12 0.5\nc\x1bd 0.5\n", r"line 2: key 'c\\x1bd' contains"),
        ("", "is empty"),
    ],
)
def test_mistakes_in_a_line_are_named(text: str, message: str) -> None:
    with pytest.raises(DataError, match=r"^f\.txt.*" + message) as error:
        parse_scores(text.encode(), "f.txt")
    assert len(str(error.value).splitlines()) == 1


def test_bytes_that_are_no_text_are_named() -> None:
    with pytest.raises(DataError, match="line 1: starts with a byte order mark"):
        parse_scores(b"\xef\xbb\xbfab12 0.5\n", "f.txt")
    with pytest.raises(DataError, match="line 2: not UTF-8"):
        parse_scores(b"ab12 0.5\n\xff 0.5\n", "f.txt")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["ab12", "cd34"], "1 of 3 trials are missing, first 'ef56', trial 3 of list.txt"),
        (["ab12", "cd34", "cd34"], "line 3: key 'cd34' is already in line 2"),
        (["ab12", "ef56", "cd34"], "line 2: key 'ef56' instead of 'cd34'"),
        (["ab12", "cd34", "../../x"], "line 3: key '../../x' is not in list.txt"),
        ([*KEYS, "zz"], "line 4: key 'zz' is not in list.txt"),
    ],
)
def test_keys_must_be_those_of_the_list_in_its_order(keys: list[str], message: str) -> None:
    check_keys(KEYS, KEYS, "f.txt", "list.txt")
    with pytest.raises(DataError, match=message):
        check_keys(keys, KEYS, "f.txt", "list.txt")


def test_similarities_are_told_from_distances() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200).astype(np.int8)
    distances = rng.normal(size=200) - labels
    assert direction_by_labels(distances, labels).verdict == "right"
    assert direction_by_labels(-distances, labels).verdict == "wrong"
    assert direction_by_labels(rng.normal(size=200), labels).verdict == "undecided"
    refined = distances + 0.5 * rng.normal(size=200)
    assert direction_by_raw(refined, distances).verdict == "right"
    assert direction_by_raw(1 - refined, distances).verdict == "wrong"
    assert direction_by_raw(np.ones(200), distances).verdict == "undecided"


def zipped(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def test_an_archive_reads_back_and_is_reproducible() -> None:
    files = {"a.txt": "x 1\n", "gender/b.txt": "y 2\n"}
    assert unpack(pack(files), "s.zip") == {name: text.encode() for name, text in files.items()}
    assert pack(files) == pack(files)


@pytest.mark.parametrize(
    "name",
    [
        "../a.txt",
        "/etc/a.txt",
        "x/../../a.txt",
        "C:\\a.txt",
        "..\\a.txt",
        "C:a.txt",
        "a\n.txt",
        "./a.txt",
        "x//a.txt",
        "=cmd().txt",
        "x/+a.txt",
        "@a.txt",
        "-rf",
        "~/a.txt",
        "a*.txt",
        "a.txt.",
        "a\u202etxt",
        "a" * 300,
        "\x1b[2J",
    ],
)
def test_names_that_lead_out_of_the_archive_are_refused(name: str) -> None:
    with pytest.raises(DataError, match="is not a printable relative path") as error:
        unpack(zipped({name: b"x 1\n"}), "s.zip")
    assert len(str(error.value).splitlines()) == 1


def test_a_zip_bomb_is_refused_whether_or_not_it_says_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 1 << 20)
    bomb = zipped({"a.txt": bytes(1 << 21)})
    with pytest.raises(DataError, match="unpacks to more than 1 MiB"):
        unpack(bomb, "s.zip")
    liar = bomb.replace((1 << 21).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    assert liar != bomb
    with pytest.raises(DataError, match=r"s\.zip: "):
        unpack(liar, "s.zip")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_broken_and_odd_archives_are_refused() -> None:
    good = zipped({"a.txt": b"ab12 0.5\n" * 50})
    for broken in (b"", b"no zip", good[:-30], good.replace(good[40:44], b"\0\0\0\0")):
        with pytest.raises(DataError, match=r"s\.zip: not a readable zip"):
            unpack(broken, "s.zip")
    encrypted = bytearray(good)
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        encrypted[good.index(signature) + flags] |= 1
    with pytest.raises(DataError, match=r"s\.zip: not a readable zip archive \(.*encrypted"):
        unpack(bytes(encrypted), "s.zip")
    with pytest.raises(DataError, match="5 files where 4 are expected"):
        unpack(zipped({f"{i}.txt": b"" for i in range(5)}), "s.zip")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", "1")
        archive.writestr("a.txt", "2")
    with pytest.raises(DataError, match=r"contains a\.txt twice"):
        unpack(buffer.getvalue(), "s.zip")
