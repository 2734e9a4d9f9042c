"""Small file systems that are full or read-only, for the time of a test."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest

Fault = Literal["full", "read-only"]
FILLER = "filler"
"""File that fills the disk; no test counts it."""


@contextmanager
def mounted(folder: Path, *arguments: str) -> Iterator[Path]:
    """A mount for the time of a test; skips where this process may not mount."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *arguments, str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def disk(folder: Path, megabytes: int = 8) -> Iterator[Path]:
    """A disk of its own."""
    with mounted(folder, "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs") as place:
        yield place


def fill(folder: Path) -> None:
    """Takes all the room that is left."""
    with (folder / FILLER).open("ab", buffering=0) as file:
        while os.statvfs(folder).f_bavail:
            file.write(bytes(4096))


@contextmanager
def failing(folder: Path, fault: Fault) -> Iterator[None]:
    """Makes a disk full or read-only for the time of a block."""
    if fault == "full":
        fill(folder)
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    try:
        yield
    finally:
        if fault == "full":
            (folder / FILLER).unlink()
        else:
            subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too, and every folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
        if path.name != FILLER
    }
