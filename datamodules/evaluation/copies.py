"""Finds one recording under two names: equal vectors, files and videos, within training and in a test."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lightning_utilities.core.rank_zero import rank_zero_warn
from numpy.typing import NDArray

from datamodules.evaluation.conditions import Condition, RankingCondition
from datamodules.io.shards import ends_of, opened
from datamodules.io.text import name_key, numbered, shown
from datamodules.schema import DataError, ItemTable, Rows

_CHUNK = 1 << 14  # rows read at once
_BLOCK = 1 << 12  # bytes at both ends of a file that are compared first
_WHOLE = 1 << 20  # bytes that are compared at once where these are equal
# Directions of vectors are compared in cells of a few projections, then by their distance. So a copy is found that was
# scaled, or rounded to 16 bits: that moves a unit vector by 3e-4 (float16) or 2e-3 (bfloat16). Vectors of few numbers
# lie closer together: of fewer than 32 those rounded to float16 are found, of fewer than 8 only equal ones.
_PROJECTIONS, _CELL, _NEAR, _MANY, _NEARER, _FEW = 6, 0.02, 4e-3, 32, 1e-3, 8
# The id of a video at YouTube: 11 characters, of which some are capitals and some are not. Numbers and words are ids
# that data sets give, and are the same for many identities. It may stand in an address.
GLOBAL_VIDEO = re.compile(
    r"(?:.*(?:youtu\.be/|[?&]v=|/embed/|/shorts/))?((?=[^?&#.]*[A-Z])(?=[^?&#.]*[a-z])[A-Za-z0-9_-]{11})"
    r"(?:[?&#].*|\.(?:mp4|mkv|webm|avi|mov|m4a|wav))?"
)
# Other names of videos count as unique where there are so many, of which so large a part is of one identity each.
_NAMES, _OWN = 10, 0.95


@dataclass(frozen=True)
class _Prints:
    """Fingerprints of rows.

    Attributes:
        first: the first row of each fingerprint that belongs to one identity.
        shared: two rows of each fingerprint that belongs to several. It says nothing of any of them: a picture that
            stands for missing ones, or what an encoder gives where it finds nothing.
    """

    first: dict[Hashable, int]
    shared: dict[Hashable, tuple[int, int]]


class Copies:
    """The recordings of training and validation clips, to be found in tests and under other names.

    Compared are the rows of feature files, the files of media (the same file by links, or equal content), and names of
    videos that are unique: in the world, as YouTube's ids, or by and large among the training identities. Items without
    identity are compared as well.

    Args:
        tables: voices and faces.
        rows: those that training and validation use.
        shared_videos: the data set has videos that show several identities.
    """

    def __init__(self, tables: tuple[ItemTable, ItemTable], rows: tuple[Rows, Rows], shared_videos: bool) -> None:
        self.tables, self.rows, self.shared_videos = tables, (np.unique(rows[0]), np.unique(rows[1])), shared_videos
        self._data = [_data(table, used) for table, used in zip(tables, self.rows, strict=True)]
        self._named = [_are_own(table, used) for table, used in zip(tables, self.rows, strict=True)]
        self._videos = [_videos(*part) for part in zip(tables, self.rows, self._named, strict=True)]

    def warn(self) -> None:
        """Warns of recordings that training or validation clips of two identities share; names the first five."""
        for i, (table, side) in enumerate(zip(self.tables, ("voices", "faces"), strict=True)):
            names, identity = table.items.ids, table.items.identity
            for what, prints in (("data", self._data[i]), ("videos", self._videos[i])):
                if what == "videos" and self.shared_videos:
                    continue
                pairs = [(a, b) for a, b in prints.shared.values() if what == "videos" or _equal(table, a, table, b)]
                texts = [f"{names[a]} ({identity[a]}) = {names[b]} ({identity[b]})" for a, b in sorted(pairs)]
                if texts:
                    of = "recordings" if what == "data" else "videos"
                    remedy = "; set data.shared_videos: true if they show several" if what == "videos" else ""
                    rank_zero_warn(
                        f"training: {len(texts)} {of} of {side} belong to several identities: {shown(texts)}; correct "
                        f"their identity, or leave them out{remedy}"
                    )

    def refuse(self, condition: Condition | RankingCondition) -> None:
        """Refuses a test whose items are in training under another name.

        Raises:
            DataError: there are copies; names the first five with their names in training.
        """
        sides = zip((condition.voices, condition.faces), condition.rows, ("voices", "faces"), strict=True)
        for i, (table, rows, side) in enumerate(sides):
            tested, known, learnt = np.unique(rows), self.tables[i], self.rows[i]
            if table is known:  # what is in both is found by its identity
                tested = np.setdiff1d(tested, learnt)
            both = _both(self._data[i], _data(table, tested))
            pairs = [(row, other) for row, other in both if _equal(table, row, known, other)]
            _refuse(condition.name, side, "data", pairs, table, known)
            if not self.shared_videos and not _seen(table, tested, known, learnt):
                pairs = _both(self._videos[i], _videos(table, tested, self._named[i]))
                _refuse(condition.name, side, "videos", pairs, table, known)


def _seen(table: ItemTable, tested: Rows, known: ItemTable, learnt: Rows) -> bool:
    """Whether the tested identities are training identities, whose videos another check compares."""
    names = set(np.unique(table.items.identity[tested]).tolist()) - {""}
    return bool(names) and names <= set(np.unique(known.items.identity[learnt]).tolist())


def _both(learnt: _Prints, tested: _Prints) -> list[tuple[int, int]]:
    """Tested rows with the training row of the same fingerprint."""
    return sorted({row: learnt.first[key] for key, row in tested.first.items() if key in learnt.first}.items())


def _refuse(name: str, side: str, what: str, both: list[tuple[int, int]], table: ItemTable, known: ItemTable) -> None:
    if both:
        pairs = [f"{table.items.ids[row]} = {known.items.ids[other]} in training" for row, other in both]
        remedy = "take those clips out of one of them" + (
            "; set data.shared_videos: true if they show several identities" if what == "videos" else ""
        )
        raise DataError(
            f"data.test.{name}: {len(both)} {side} are those of training by their {what}: {shown(pairs)}; {remedy}"
        )


def _data(table: ItemTable, rows: Rows) -> _Prints:
    return _grouped(table, _fingerprints(table, rows))


def _are_own(table: ItemTable, rows: Rows) -> bool:
    """Whether names of videos are unique, and not numbers that start again with each identity."""
    identities: dict[Hashable, set[str]] = {}
    items = table.items
    for identity, video in set(zip(items.identity[rows].tolist(), items.video[rows].tolist(), strict=True)):
        if video and identity:
            identities.setdefault(numbered(name_key(video)), set()).add(identity)
    own = sum(len(names) == 1 for names in identities.values())
    people = len(set().union(*identities.values()))
    return people > 1 and len(identities) >= _NAMES and own >= _OWN * len(identities)


def _videos(table: ItemTable, rows: Rows, named: bool) -> _Prints:
    """A video of several tested identities is still a video of training, so the first of its rows stands for it.

    Args:
        table: of the items.
        rows: those that are used.
        named: whether all names of videos are unique, and not only ids of YouTube.
    """
    videos = table.items.video[rows].tolist()
    key: dict[str, Hashable] = {}
    for video in set(videos):
        if match := GLOBAL_VIDEO.fullmatch(video):
            key[video] = match[1]
        elif named and video:
            key[video] = numbered(name_key(video))
    prints = _grouped(
        table, ((row, key[video]) for row, video in zip(rows.tolist(), videos, strict=True) if video in key)
    )
    return _Prints({**prints.first, **{key: pair[0] for key, pair in prints.shared.items()}}, prints.shared)


def _grouped(table: ItemTable, keys: Iterable[tuple[int, Hashable]]) -> _Prints:
    first: dict[Hashable, int] = {}
    shared: dict[Hashable, tuple[int, int]] = {}
    identity = table.items.identity
    for row, key in keys:
        if identity[before := first.setdefault(key, row)] != identity[row]:
            shared.setdefault(key, (before, row))
    return _Prints({key: row for key, row in first.items() if key not in shared}, shared)


def _fingerprints(table: ItemTable, rows: Rows) -> Iterator[tuple[int, Hashable]]:
    """Rows with their fingerprints; a file has two, a vector of zeros none."""
    paths: NDArray[np.str_] | None = getattr(table, "paths", None)
    if paths is not None:
        yield from ((row, key) for row in rows.tolist() for key in _of_file(Path(str(paths[row]))))
        return
    for start in range(0, len(rows), _CHUNK):
        part = rows[start : start + _CHUNK]
        features = table.array(part)
        if features is None:
            return
        some = features.any(axis=1)
        yield from zip(part[some].tolist(), _of_vectors(features[some]), strict=True)


def _of_vectors(x: NDArray[np.float32]) -> Iterator[bytes]:
    if (width := x.shape[1]) >= _FEW:
        directions = np.random.default_rng(0).standard_normal((width, _PROJECTIONS))
        x = np.rint(_unit(x) @ directions / _CELL).astype(np.int16)
    return (row.tobytes() for row in np.ascontiguousarray(x))


def _unit(x: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = x.astype(np.float64)
    unit: NDArray[np.float64] = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return unit


def _equal(table: ItemTable, row: int, other_table: ItemTable, other: int) -> bool:
    """Whether two rows of one fingerprint are the same vector or file."""
    paths = [getattr(t, "paths", None) for t in (table, other_table)]
    if all(part is not None for part in paths):
        return _are_equal(Path(str(paths[0][row])), Path(str(paths[1][other])))  # type: ignore[index]
    x, y = table.array(np.array([row])), other_table.array(np.array([other]))
    if x is None or y is None or x.shape != y.shape:
        return False
    near = _NEAR if x.shape[1] >= _MANY else _NEARER
    return x.shape[1] < _FEW or bool(np.linalg.norm(_unit(x) - _unit(y)) < near)


def _of_file(path: Path) -> list[Hashable]:
    """Which file it is on the disk, whatever its links, and its size with its first and last bytes."""
    try:
        file, size, ends = ends_of(path, _BLOCK)
    except OSError:
        return []  # the reader names it
    return [file, (size, hashlib.blake2b(ends, digest_size=16).digest())] if size else [file]


def _are_equal(first: Path, second: Path) -> bool:
    with opened(first) as one, opened(second) as other:
        while (block := one.read(_WHOLE)) == other.read(_WHOLE):
            if not block:
                return True
    return False
