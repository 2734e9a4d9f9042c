"""Finds training data that a test uses again under another name: equal vectors, files and videos."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datamodules.evaluation.conditions import Condition, RankingCondition
from datamodules.io.text import shown
from datamodules.schema import DataError, ItemTable, Rows

_CHUNK = 1 << 14  # rows read at once
_BLOCK = 1 << 16  # bytes of a file that are compared first
# The id of a video at YouTube: 11 characters, of which some are capitals and some are not. Numbers and words are ids
# that data sets give, and are the same for many identities.
_GLOBAL_VIDEO = re.compile(r"(?=.*[A-Z])(?=.*[a-z])[A-Za-z0-9_-]{11}")


def check_copies(
    condition: Condition | RankingCondition,
    tables: tuple[ItemTable, ItemTable],
    training: tuple[Rows, Rows],
    shared_videos: bool = False,
) -> None:
    """Refuses a test whose items are in training under another name.

    Compared are the rows of feature files, the files of media (the same file by links, or equal content), and ids of
    videos that are unique in the world, as YouTube's are.

    Args:
        condition: the test.
        tables: voices and faces of the training clips.
        training: rows of ``tables`` that training and validation use.
        shared_videos: the data set has videos that show several identities.

    Raises:
        DataError: there are copies; names the first five with their names in training.
    """
    pairs = zip((condition.voices, condition.faces), condition.rows, tables, training, ("voices", "faces"), strict=True)
    for table, rows, known, used, side in pairs:
        tested, learnt = np.unique(rows), np.unique(used)
        if table is known:  # what is in both is found by its identity
            tested = np.setdiff1d(tested, learnt)
        _refuse(condition.name, side, "data", _prints(known, learnt), _prints(table, tested), table, known)
        if not shared_videos and not _seen(table, tested, known, learnt):
            _refuse(condition.name, side, "videos", _videos(known, learnt), _videos(table, tested), table, known)


def _seen(table: ItemTable, tested: Rows, known: ItemTable, learnt: Rows) -> bool:
    """Whether the tested identities are training identities, whose videos another check compares."""
    names = set(np.unique(table.items.identity[tested]).tolist()) - {""}
    return bool(names) and names <= set(np.unique(known.items.identity[learnt]).tolist())


def _refuse(
    name: str,
    side: str,
    what: str,
    learnt: Mapping[Hashable, int],
    tested: Mapping[Hashable, int],
    table: ItemTable,
    known: ItemTable,
) -> None:
    both = sorted({tested[key]: learnt[key] for key in tested if key in learnt}.items())
    if both:
        pairs = [f"{table.items.ids[row]} = {known.items.ids[other]} in training" for row, other in both]
        remedy = "take those clips out of one of them" + (
            "; set data.shared_videos: true if they show several identities" if what == "videos" else ""
        )
        raise DataError(
            f"data.test.{name}: {len(both)} {side} are those of training by their {what}: {shown(pairs)}; {remedy}"
        )


def _videos(table: ItemTable, rows: Rows) -> dict[Hashable, int]:
    videos = table.items.video[rows]
    first = dict(zip(videos[::-1].tolist(), rows[::-1].tolist(), strict=True))
    return {video: row for video, row in first.items() if _GLOBAL_VIDEO.fullmatch(video)}


def _prints(table: ItemTable, rows: Rows) -> dict[Hashable, int]:
    """The first row of each fingerprint: of a vector, or of a file.

    One of several identities is left out. It says nothing of any: a picture that stands for missing ones, or what an
    encoder gives where it finds nothing.
    """
    first: dict[Hashable, int] = {}
    several: set[Hashable] = set()
    identity = table.items.identity
    for row, key in _fingerprints(table, rows):
        if identity[first.setdefault(key, row)] != identity[row]:
            several.add(key)
    return {key: row for key, row in first.items() if key not in several}


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
        for row, vector in zip(part.tolist(), np.ascontiguousarray(features), strict=True):
            if vector.any():
                yield row, hashlib.blake2b(vector.tobytes(), digest_size=16).digest()


def _of_file(path: Path) -> list[Hashable]:
    """Which file it is on the disk, whatever its links, and its size with its first and last bytes."""
    try:
        status = path.stat()
        with path.open("rb") as file:
            head = file.read(_BLOCK)
            file.seek(max(0, status.st_size - _BLOCK))
            content = hashlib.blake2b(head + file.read(), digest_size=16).digest()
    except OSError:
        return []  # the reader names it
    file_of: list[Hashable] = [(status.st_dev, status.st_ino)]
    return [*file_of, (status.st_size, content)] if status.st_size else file_of
