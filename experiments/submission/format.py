"""Challenge submissions: score files, their archive, and the validator of both. Pure: text and bytes, no files.

A line is ``<key> <distance>``, lower = same person: the challenge page says the opposite, its evaluator negates.
"""

from __future__ import annotations

import io
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from datamodules.schema import DataError
from postproc.metrics.roc import auc

MAX_BYTES = 1 << 26  # of one score file, unpacked: a million trials take half of it
_KEY = re.compile(r"[^\s\x00-\x1f\x7f]{1,256}")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_SPECIAL = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_SIGMAS = 2.0  # how sure a direction must be
Verdict = Literal["right", "wrong", "undecided"]


class Direction(NamedTuple):
    """Which way scores point, and the figure that says so."""

    verdict: Verdict
    evidence: str


def render(keys: Sequence[str] | NDArray[np.str_], distances: NDArray[np.float64], where: str) -> str:
    """The text of a score file, in the order given; every distance reads back as the same float64.

    Args:
        keys: (t,) trial keys.
        distances: (t,) distances, lower = same person.
        where: the file, for messages.

    Raises:
        DataError: a key that could not stand in a line, twice the same key, or a non-finite distance.
    """
    for row, key in enumerate(keys, 1):
        if not safe_key(str(key)):
            raise DataError(
                f"{where}, line {row}: key {shown(str(key))} holds a blank or control character; fix the list"
            )
    values, counts = np.unique(np.asarray(keys), return_counts=True)
    if (counts > 1).any():
        raise DataError(
            f"{where}: key {shown(str(values[counts > 1][0]))} occurs {counts.max()} times; keys are unique"
        )
    bad = np.flatnonzero(~np.isfinite(distances))
    if len(bad):
        raise DataError(
            f"{where}, line {bad[0] + 1}: the distance of {keys[bad[0]]} is {distances[bad[0]]}, not finite"
        )
    return "".join(f"{key} {value!r}\n" for key, value in zip(keys, distances.tolist(), strict=True))


def parse_scores(data: bytes, where: str) -> tuple[list[str], NDArray[np.float64]]:
    """Keys and distances of a score file, as strictly as an evaluator would need them.

    CRLF is fine, and so is a last line without its end.

    Args:
        data: the file.
        where: its name, for messages.

    Raises:
        DataError: one line with file, line and what is wrong.
    """
    if data.startswith(b"\xef\xbb\xbf"):
        raise DataError(
            f"{where}, line 1: starts with a byte order mark, which becomes part of the first key; remove it"
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
        raise DataError(f"{where}: is empty; every trial needs a line '<key> <distance>'")
    keys: list[str] = []
    values = np.empty(len(lines))
    for row, content in enumerate(lines):
        key, values[row] = _parse_line(content, f"{where}, line {row + 1}")
        keys.append(key)
    return keys, values


def check_keys(keys: Sequence[str], expected: Sequence[str] | NDArray[np.str_], where: str, source: str) -> None:
    """All keys of the list, each once, in its order.

    Args:
        keys: (t,) keys of a score file, by line.
        expected: (t,) keys of the trial list.
        where: the score file, for messages.
        source: the trial list, for messages.

    Raises:
        DataError: the first key that is unknown, repeated, missing or out of place, with its line.
    """
    wanted = [str(key) for key in expected]
    known, seen = set(wanted), dict[str, int]()
    for row, key in enumerate(keys, 1):
        if key not in known:
            raise DataError(f"{where}, line {row}: key {shown(key)} is not in {source}")
        if key in seen:
            raise DataError(f"{where}, line {row}: key {shown(key)} occurs before, in line {seen[key]}")
        seen[key] = row
    if len(keys) < len(wanted):
        row, missing = next((i, key) for i, key in enumerate(wanted, 1) if key not in seen)
        raise DataError(
            f"{where}: {len(wanted) - len(keys)} of {len(wanted)} trials are missing, first {shown(missing)}, "
            f"trial {row} of {source}"
        )
    for row, (key, right) in enumerate(zip(keys, wanted, strict=True), 1):
        if key != right:
            raise DataError(
                f"{where}, line {row}: key {shown(key)} stands where {source} has {shown(right)}; keep its order"
            )


def direction_by_labels(distances: NDArray[np.float64], labels: NDArray[np.int8]) -> Direction:
    """Whether the scores of a file are distances, from labels: positives must be nearer than negatives.

    Wrong and right are said only beyond 2 standard errors of the AUC of a blind score (Hanley and McNeil 1982).

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
    """The same without labels, from the rank correlation with the raw cosine distances of the same trials."""
    if len(raw) < 3 or np.ptp(distances) == 0 or np.ptp(raw) == 0:
        return Direction("undecided", "no rank correlation with the raw distances: too few trials or constant scores")
    correlation = float(spearmanr(distances, raw).statistic)
    verdict = _verdict(correlation, 1 / np.sqrt(len(raw) - 1))
    return Direction(verdict, f"rank correlation {correlation:.2f} with the raw distances")


def pack(files: Mapping[str, str]) -> bytes:
    """A zip archive of texts by name; the same texts give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text.encode(), compress_type=zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def unpack(data: bytes, where: str, max_files: int = 4) -> dict[str, bytes]:
    """The files of an archive, in memory; nothing is written, whatever their names say.

    Args:
        data: the archive.
        where: its name, for messages.
        max_files: more are refused before any is read.

    Raises:
        DataError: not a zip, a name that leads out of the archive's folder, a link, a repeated name, an encrypted or
            broken file, too many files, or one that unpacks to more than 64 MiB.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            for entry in archive.infolist():
                _refuse_entry(entry, where)
            if len(entries) > max_files:
                raise DataError(
                    f"{where}: {len(entries)} files where {max_files} are expected, e.g. {shown(entries[-1].filename)}"
                )
            files: dict[str, bytes] = {}
            for entry in entries:
                if entry.filename in files:
                    raise DataError(f"{where}: holds {entry.filename} twice")
                with archive.open(entry) as member:
                    content = member.read(MAX_BYTES + 1)  # the size an entry declares may be a lie
                if len(content) > MAX_BYTES:
                    raise DataError(
                        f"{where}: {entry.filename} unpacks to more than {MAX_BYTES >> 20} MiB; no score file does"
                    )
                files[entry.filename] = content
            return files
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, ValueError, struct.error, zlib.error) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{where}: not a readable zip archive ({error})") from error


def safe_key(key: str) -> bool:
    """Whether a key can stand in a line: 1 to 256 printable characters without blanks."""
    return _KEY.fullmatch(key) is not None and key.isprintable()


def shown(text: str) -> str:
    """Foreign text for a message: on one line, unprintable characters escaped, at most 60 characters."""
    return ascii(text if len(text) <= 60 else f"{text[:57]}...")


def _parse_line(line: str, where: str) -> tuple[str, float]:
    fields = line.split(" ")
    if not line.strip():
        raise DataError(f"{where}: is blank; remove it")
    if len(fields) > 2 and _NUMBER.match(fields[1]) and (len(fields) > 3 or not _NUMBER.fullmatch(fields[1])):
        raise DataError(f"{where}: {len(fields)} columns; a line end is missing between two scores: {shown(line)}")
    if len(fields) != 2 or not all(fields):
        raise DataError(f"{where}: expected '<key> <distance>' with one blank between them, found {shown(line)}")
    key, value = fields
    if not safe_key(key):
        raise DataError(f"{where}: key {shown(key)} holds a blank or control character")
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


def _refuse_entry(entry: zipfile.ZipInfo, where: str) -> None:
    name = entry.orig_filename
    parts = re.split(r"[/\\]", name)
    if ".." in parts or parts[0] == "" or "\\" in name or re.match(r"[A-Za-z]:", name) or not name.isprintable():
        raise DataError(
            f"{where}: the file name {shown(name)} leads out of the archive; names are relative, without '..'"
        )
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise DataError(f"{where}: {shown(name)} is a link; score files are plain files")
    if entry.flag_bits & 1:
        raise DataError(f"{where}: {shown(name)} is encrypted")
    if entry.file_size > MAX_BYTES:
        raise DataError(f"{where}: {shown(name)} unpacks to more than {MAX_BYTES >> 20} MiB; no score file does")


def _verdict(excess: float, error: float) -> Verdict:
    if abs(excess) <= _SIGMAS * error:
        return "undecided"
    return "right" if excess > 0 else "wrong"
