"""Writes and checks score files of challenges and their archives, as text and bytes in memory.

A line is ``<key> <distance>``, lower = same person. The challenge page says the opposite, but its evaluator negates.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from datamodules.io.documents import ARCHIVE
from datamodules.schema import DataError
from postproc.metrics.roc import auc

MAX_BYTES = 1 << 26  # limit of one unpacked score file, enough for two million trials
MAX_NAME = 256
_NO_NAME = re.compile(r'[\\:*?"<>|]|(^|/)(\.{0,2}|[ =+@~-][^/]*)(/|$)|[. ](/|$)')
"""No part is empty, begins as an option or formula, or has what some system does not take."""
_KEY = re.compile(r"[^\s\x00-\x1f\x7f]{1,256}")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_SPECIAL = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_SIGMAS = 2.0  # a direction is certain beyond so many standard errors
Verdict = Literal["right", "wrong", "undecided"]


class Direction(NamedTuple):
    """The direction of scores, and the number that shows it."""

    verdict: Verdict
    evidence: str


def render(keys: Sequence[str] | NDArray[np.str_], distances: NDArray[np.float64], where: str) -> str:
    """Text of a score file in the order of the keys; every distance reads back as the same float64.

    Args:
        keys: (t,) trial keys.
        distances: (t,) distances, lower = same person.
        where: name of the file, for messages.

    Raises:
        DataError: a key with a blank or control character, the same key twice, or a non-finite distance.
    """
    for row, key in enumerate(keys, 1):
        if not safe_key(str(key)):
            raise DataError(
                f"{where}, line {row}: key {shown(str(key))} contains a blank or control character; correct the list"
            )
    values, counts = np.unique(np.asarray(keys), return_counts=True)
    if (counts > 1).any():
        raise DataError(
            f"{where}: key {shown(str(values[counts > 1][0]))} occurs {counts.max()} times; keys must be unique"
        )
    bad = np.flatnonzero(~np.isfinite(distances))
    if len(bad):
        raise DataError(
            f"{where}, line {bad[0] + 1}: the distance of {keys[bad[0]]} is {distances[bad[0]]}, not finite"
        )
    return "".join(f"{key} {value!r}\n" for key, value in zip(keys, distances.tolist(), strict=True))


def parse_scores(data: bytes, where: str) -> tuple[list[str], NDArray[np.float64]]:
    """Keys and distances of a score file. Line ends may be CRLF, and the last one may be missing.

    Args:
        data: the file.
        where: name of the file, for messages.

    Raises:
        DataError: the file is malformed; the message has file and line.
    """
    if data.startswith(b"\xef\xbb\xbf"):
        raise DataError(
            f"{where}, line 1: starts with a byte order mark, which would become part of the first key; remove it"
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{where}, line {line}: not UTF-8 text") from error
    lines = text.replace("\r\n", "\n").split("\n")
    if lines[-1] == "":
        lines.pop()
    if not lines:
        raise DataError(f"{where}: is empty; each trial needs a line '<key> <distance>'")
    keys: list[str] = []
    values = np.empty(len(lines))
    for row, content in enumerate(lines):
        key, values[row] = _parse_line(content, f"{where}, line {row + 1}")
        keys.append(key)
    return keys, values


def check_keys(keys: Sequence[str], expected: Sequence[str] | NDArray[np.str_], where: str, source: str) -> None:
    """Checks that a score file has all keys of the trial list, each once, in its order.

    Args:
        keys: (t,) keys of a score file, by line.
        expected: (t,) keys of the trial list.
        where: name of the score file, for messages.
        source: name of the trial list, for messages.

    Raises:
        DataError: a key is unknown, repeated, missing or out of order; the message names the first one.
    """
    listed = [str(key) for key in expected]
    known, seen = set(listed), dict[str, int]()
    for row, key in enumerate(keys, 1):
        if key not in known:
            raise DataError(f"{where}, line {row}: key {shown(key)} is not in {source}")
        if key in seen:
            raise DataError(f"{where}, line {row}: key {shown(key)} is already in line {seen[key]}")
        seen[key] = row
    if len(keys) < len(listed):
        row, missing = next((i, key) for i, key in enumerate(listed, 1) if key not in seen)
        raise DataError(
            f"{where}: {len(listed) - len(keys)} of {len(listed)} trials are missing, first {shown(missing)}, "
            f"trial {row} of {source}"
        )
    for row, (key, right) in enumerate(zip(keys, listed, strict=True), 1):
        if key != right:
            raise DataError(
                f"{where}, line {row}: key {shown(key)} instead of {shown(right)}; keep the order of {source}"
            )


def direction_by_labels(distances: NDArray[np.float64], labels: NDArray[np.int8]) -> Direction:
    """Checks with labels that scores are distances: positives must have lower scores than negatives.

    The verdict is right or wrong if the AUC differs from 0.5 by more than 2 standard errors of the AUC of random scores
    (Hanley and McNeil 1982), else undecided.

    Args:
        distances: (t,) scores taken as distances.
        labels: (t,) 1 = same person.

    Raises:
        ValueError: as :func:`postproc.metrics.roc.auc`.
    """
    area = auc(distances, labels, direction="distance")
    positives = int(np.count_nonzero(labels))
    error = np.sqrt((len(labels) + 1) / (12 * positives * (len(labels) - positives)))
    return Direction(_verdict(area - 0.5, float(error)), f"AUC {area:.3f} against the labels")


def direction_by_raw(distances: NDArray[np.float64], raw: NDArray[np.float64]) -> Direction:
    """Checks without labels that scores are distances, by rank correlation with raw distances of the same trials."""
    if len(raw) < 3 or np.ptp(distances) == 0 or np.ptp(raw) == 0:
        return Direction("undecided", "no rank correlation with the raw distances: too few trials or constant scores")
    correlation = float(spearmanr(distances, raw).statistic)
    verdict = _verdict(correlation, 1 / np.sqrt(len(raw) - 1))
    return Direction(verdict, f"rank correlation {correlation:.2f} with the raw distances")


def pack(files: Mapping[str, str]) -> bytes:
    """Zip archive of texts by name; the same texts give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text.encode(), compress_type=zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def unpack(data: bytes, where: str, max_files: int = 4) -> dict[str, bytes]:
    """Reads the files of an archive into memory; nothing is written to disk.

    Args:
        data: the archive.
        where: name of the archive, for messages.
        max_files: an archive with more files is rejected before any is read.

    Raises:
        DataError: not a readable zip archive, too many files, a name that is not a printable relative path, the same
            name twice, or a file that unpacks to more than 64 MiB.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if len(entries) > max_files:
                example = shown(entries[-1].filename)
                raise DataError(f"{where}: {len(entries)} files where {max_files} are expected, e.g. {example}")
            files: dict[str, bytes] = {}
            for entry in entries:
                name = entry.orig_filename
                if not is_relative(name):
                    raise DataError(f"{where}: the file name {shown(name)} is not a printable relative path")
                if name in files:
                    raise DataError(f"{where}: contains {name} twice")
                with archive.open(entry) as member:
                    files[name] = member.read(MAX_BYTES + 1)  # the declared size may be wrong
                if len(files[name]) > MAX_BYTES:
                    raise DataError(
                        f"{where}: {name} unpacks to more than {MAX_BYTES >> 20} MiB; score files are smaller"
                    )
            return files
    except DataError:
        raise
    except ARCHIVE as error:
        raise DataError(f"{where}: not a readable zip archive ({error})") from error


def is_relative(name: str) -> bool:
    """Whether a file name is a printable relative path that stays in its folder, on any system."""
    return name.isprintable() and len(name) < MAX_NAME and not _NO_NAME.search(name)


def safe_key(key: str) -> bool:
    """Whether a key can be written to a line: 1 to 256 printable characters without blanks."""
    return _KEY.fullmatch(key) is not None and key.isprintable()


def shown(text: str) -> str:
    """Untrusted text for a message: one line, unprintable characters escaped, at most 60 characters."""
    return ascii(text if len(text) <= 60 else f"{text[:57]}...")


def _parse_line(line: str, where: str) -> tuple[str, float]:
    fields = line.split(" ")
    if not line.strip():
        raise DataError(f"{where}: is blank; remove it")
    if len(fields) > 2 and _NUMBER.match(fields[1]) and (len(fields) > 3 or not _NUMBER.fullmatch(fields[1])):
        raise DataError(f"{where}: {len(fields)} columns; a line end is missing between two scores: {shown(line)}")
    if len(fields) != 2 or not all(fields):
        raise DataError(f"{where}: expected '<key> <distance>' with one blank between them, got {shown(line)}")
    key, value = fields
    if not safe_key(key):
        raise DataError(f"{where}: key {shown(key)} contains a blank or control character")
    if not _NUMBER.fullmatch(value):
        raise DataError(f"{where}: {_why_no_number(value)}")
    number = float(value)
    if not np.isfinite(number):
        raise DataError(f"{where}: the distance {shown(value)} is not finite")
    return key, number


def _why_no_number(value: str) -> str:
    inner = value.strip("[](){}'\",;")
    if _SPECIAL.fullmatch(value):
        return f"the distance {shown(value)} is not finite"
    if inner != value and _NUMBER.fullmatch(inner):
        return f"the distance {shown(value)} has brackets, quotes or commas; write {inner}"
    started = _NUMBER.match(value)
    if started and safe_key(value[started.end() :]):
        return f"{shown(value)} is not a number; if a key follows the number, a line end is missing"
    return f"the distance {shown(value)} is not a number"


def _verdict(excess: float, error: float) -> Verdict:
    if abs(excess) <= _SIGMAS * error:
        return "undecided"
    return "right" if excess > 0 else "wrong"
