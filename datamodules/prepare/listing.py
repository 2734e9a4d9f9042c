"""Finds the voices and faces in a folder of media."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

from datamodules.endings import COMPRESSED, READ, UNREAD
from datamodules.schema import DataError, Modality

LIST = re.compile(r"(?i:(?:v[1-4]_?)?(?:English|Urdu|Hindi|German|Bangla)?_(?:train|test)\.txt)")
"""Names of MAV-Celeb's lists."""


def list_files(root: str | Path, unread: dict[str, str]) -> Iterator[tuple[str, Modality]]:
    """Relative paths of all voices and faces below a folder, sorted within each folder, without hidden files.

    Args:
        root: the folder. Links out of it are followed.
        unread: gets recordings and pictures of kinds that are not read, MAV-Celeb's lists, and folders that have
            another name here.

    Raises:
        DataError: it is not a folder, or a folder in it cannot be read.
    """
    if not Path(root).is_dir():
        raise DataError(f"{root}: there is no such folder")

    top = os.path.realpath(root)
    to_come = [(top, ".", False)]  # folders: real place, name below the root, whether it is a link
    seen = dict[str, str]()
    while to_come:
        place, below, linked = to_come.pop()
        inside = linked and Path(place).is_relative_to(top)  # it is read where it is
        if inside or place in seen:
            if Path(place) not in Path(top, below).parents:  # one above is read where it is
                unread[below] = f"is the same folder as {Path(place).relative_to(top) if inside else seen[place]}"
            continue
        seen[place] = below
        prefix = "" if below == "." else f"{below}/"
        try:
            folders, files = _entries(place)
        except OSError as error:
            raise DataError(f"{Path(root, below)}: cannot be read ({error.strerror})") from error
        for entry in reversed(folders):
            link = entry.is_symlink()
            to_come.append((os.path.realpath(entry.path) if link else entry.path, f"{prefix}{entry.name}", link))
        for name in files:
            suffix, path = Path(name).suffix.lower(), f"{prefix}{name}"
            if LIST.fullmatch(name):
                unread[path] = "is a list of MAV-Celeb, which is not followed"
            elif suffix in UNREAD:
                unread[path] = "its kind is not read; convert it to wav or jpg"
            elif not name.startswith(".") and (suffix in COMPRESSED or any(suffix in of for of in READ.values())):
                modality: Modality = "face" if suffix in READ["face"] else "voice"
                yield path, modality


def _entries(place: str) -> tuple[list[os.DirEntry[str]], list[str]]:
    """The folders in a folder, without hidden ones, and the names of all else, both sorted."""
    folders, files = [], []
    with os.scandir(place) as entries:
        for entry in sorted(entries, key=attrgetter("name")):
            if not _is_folder(entry):
                files.append(entry.name)
            elif not entry.name.startswith("."):
                folders.append(entry)
    return folders, files


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: who opens it says so
        return False
