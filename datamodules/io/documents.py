"""JSON, YAML and numpy files of other people: plain values only, of bounded size and depth, with every key once."""

from __future__ import annotations

import json
import lzma
import os
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG
from tokenize import TokenError
from typing import Any

import numpy as np
import yaml
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from datamodules.io.text import plain_file
from datamodules.schema import DataError, one_line

MAX_BYTES = 256 << 20
"""Of a JSON file; the traces of the largest refinement are a tenth of it."""
MAX_CONFIG = 4 << 20
"""Bytes of a YAML file."""
MAX_RATIO = 100
"""By which an array of more than :data:`MAX_BYTES` may be packed; embeddings pack to nine tenths."""
ARCHIVE = (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error)
"""What damaged zip archives raise; RuntimeError and its NotImplementedError for encrypted and unknown ones."""
NUMPY = (*ARCHIVE, LookupError, SyntaxError, TypeError, TokenError, MemoryError, OverflowError)
"""What numpy raises for damaged files."""
MAX_DEPTH, MAX_NODES = 60, 200_000
"""Nesting, and values of a YAML file after its aliases are written out."""


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DataError: missing, unreadable, too large, too deep, or a key that is there twice.
    """
    text = _text(path, MAX_BYTES)
    try:
        content = DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        why = "nested too deep" if isinstance(error, RecursionError) else one_line(error)
        raise DataError(f"{path}: unreadable ({why})") from error
    if text.count("{") + text.count("[") > MAX_DEPTH:
        _check_depth(content, path)
    return content


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        DataError: missing, unreadable, too large, too deep, or a key that is there twice.
    """
    text = _text(path, MAX_CONFIG)
    try:
        return yaml.load(text, Loader=PlainLoader)
    except (ValueError, RecursionError, TypeError, yaml.YAMLError) as error:  # ValueError: no date, a huge integer
        why = "nested too deep" if isinstance(error, RecursionError) else one_line(error)
        raise DataError(f"{path}: unreadable ({why})") from error


def read_mapping(path: Path, remedy: str = "") -> dict[str, Any]:
    """The keys and values of a JSON or YAML file, by its suffix.

    Args:
        path: the file.
        remedy: what to do where it is damaged.

    Raises:
        DataError: as :func:`read_json`, or it holds something else.
    """
    end = f"; {remedy}" if remedy else ""
    try:
        content = read_json(path) if path.suffix == ".json" else read_yaml(path)
    except DataError as error:
        raise DataError(f"{error}{end}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected keys and values, found {type(content).__name__}{end}")
    return content


class PlainLoader(yaml.CSafeLoader):  # type: ignore[misc]
    """A safe loader that bounds what aliases and nesting make of a text, and refuses a key that is there twice."""

    def get_single_node(self) -> Any:
        """The tree of the text, before anything is made of it."""
        node = super().get_single_node()
        if node is not None:
            self._weigh(node, {})
        return node

    def _weigh(self, node: Any, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
        """Number and depth of the values from a node on, with its aliases written out."""
        if id(node) in known:
            return known[id(node)]
        known[id(node)] = MAX_NODES, 0  # for an alias of itself
        below = []
        if isinstance(node, yaml.SequenceNode):
            below = [self._weigh(value, known) for value in node.value]
        elif isinstance(node, yaml.MappingNode):
            names = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise yaml.YAMLError(f"line {node.start_mark.line + 1}: key {twice[1][:60]!r} is there twice")
            below = [self._weigh(part, known) for pair in node.value for part in pair]
        count, depth = 1 + sum(part[0] for part in below), 1 + max((part[1] for part in below), default=0)
        if count >= MAX_NODES or depth > MAX_DEPTH:
            what = f"more than {MAX_NODES:,} values" if count >= MAX_NODES else f"nested more than {MAX_DEPTH} deep"
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: {what}, its aliases written out")
        known[id(node)] = count, depth
        return count, depth


def read_array(path: Path, remedy: str, what: str = "", mapped: bool = False) -> NDArray[Any]:
    """The array of an npy file.

    Args:
        path: the file.
        remedy: what to do where it is damaged.
        what: its role, for the message.
        mapped: map it into memory instead of reading it.

    Raises:
        DataError: missing, unreadable, or of Python objects.
    """
    with _array_errors(path, remedy, what):
        content = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
        if not isinstance(content, np.ndarray):
            content.close()
            raise ValueError("several arrays; name the file .npz")
        return content


@contextmanager
def open_arrays(path: Path, remedy: str, what: str = "") -> Iterator[NpzFile]:
    """The arrays of an npz file by name, each read when it is asked for.

    Args:
        path: the file.
        remedy: what to do where it is damaged.
        what: its role, for the message.

    Raises:
        DataError: as :func:`read_array`, or an array is there twice or unpacks to much more than the file has.
    """
    with _array_errors(path, remedy, what):
        content = np.load(path, allow_pickle=False)
        if not isinstance(content, NpzFile):
            raise ValueError("one array without a name; name the file .npy")
        with content as arrays:
            assert arrays.zip is not None
            parts = arrays.zip.infolist()
            if len(set(arrays.files)) < len(arrays.files):
                raise ValueError("an array is there twice")
            if any(part.file_size > MAX_BYTES and part.file_size > MAX_RATIO * part.compress_size for part in parts):
                raise ValueError("an array unpacks to a hundred times its size")
            yield arrays


def check_letters(values: NDArray[Any]) -> None:
    """Refuses text of code points that no letter has; Python fails on such with errors of its own inside.

    Raises:
        ValueError: there are some.
    """
    if values.dtype.kind == "U" and values.dtype.itemsize and values.size:
        codes = values.ravel(order="K").view(np.dtype(np.uint32).newbyteorder(values.dtype.byteorder))
        if codes.max() > sys.maxunicode:
            raise ValueError("text with letters that do not exist")


@contextmanager
def _array_errors(path: Path, remedy: str, what: str) -> Iterator[None]:
    """Turns what numpy says of a damaged file into a line without numpy's advice to load it unsafely."""
    plain_file(path, what, remedy)
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{what} {path}: no such file; {remedy}".lstrip()) from error
    except NUMPY as error:
        why = one_line(error, 120)
        if "pickle" in why or "Python objects" in why:
            why = "it holds Python objects or is no numpy file; objects are not loaded, for that could run code"
        raise DataError(f"{what} {path}: cannot be read ({why}); {remedy}".lstrip()) from error


@contextmanager
def damaged(where: str, remedy: str) -> Iterator[None]:
    """Turns whatever goes wrong while files of somebody else are read into one line.

    Their content can be wrong in more ways than a reader can check, so any exception counts as damage.

    Args:
        where: the folder or file.
        remedy: what to do.

    Raises:
        DataError: something went wrong.
    """
    try:
        yield
    except (DataError, OSError):
        raise
    except Exception as error:
        raise DataError(f"{where}: damaged ({type(error).__name__}: {one_line(error, 120)}); {remedy}") from error


def _text(path: Path, most: int) -> str:
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # to open a pipe must not wait for its other end
        try:
            found = os.fstat(file)
            if not S_ISREG(found.st_mode):
                raise DataError(f"{path}: is no file")
            if found.st_size > most:
                raise DataError(f"{path}: larger than {most >> 20} MiB; no command writes such a file")
            with open(file, "rb", buffering=0, closefd=False) as opened:
                return opened.read().decode()
        finally:
            os.close(file)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({one_line(error)})") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)[:60]!r} is there twice")
    return content


DECODER = json.JSONDecoder(object_pairs_hook=_once)


def _check_depth(content: Any, path: Path) -> None:
    level = [content]
    for _ in range(MAX_DEPTH):
        level = [
            value
            for node in level
            if isinstance(node, dict | list)
            for value in (node.values() if isinstance(node, dict) else node)
            if isinstance(value, dict | list)
        ]
        if not level:
            return
    raise DataError(f"{path}: nested more than {MAX_DEPTH} deep")
