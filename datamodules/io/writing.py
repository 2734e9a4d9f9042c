"""Writes files so that a killed command or a full disk leaves the old file or the new one, never a part of one."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.schema import DataError


@contextmanager
def draft_of(path: str | Path, suffix: str = "") -> Iterator[Path]:
    """A temporary file in the folder of ``path`` that takes its place when the block ends without an error.

    So a reader sees the old file or the new one, never a part. After an error the temporary file is removed.

    Args:
        path: the file to write.
        suffix: of the temporary file, where the writer goes by it.

    Raises:
        DataError: the file cannot be written: a full or read-only disk, a folder of this name.
    """
    path = Path(path)
    final = path.resolve()  # what a link leads to is written, the link stays
    if final.exists() and not final.is_file() and not final.is_dir():
        yield final  # a pipe or device has no place that another file could take
        return
    draft = final.with_name(f".{os.getpid()}.{final.name.encode()[-100:].decode(errors='ignore')}{suffix}")
    try:
        yield draft
        draft.chmod(0o666 & ~_umask())  # some writers make files that only their owner may read
        draft.replace(final)
    except OSError as error:
        if error.filename not in (None, str(draft), draft):
            raise
        kept = "; the file that was there is as before" if path.is_file() else ""
        why = error.strerror or " ".join(str(error).split())[:120]
        remedy = "free space there or name another place" if final.parent.is_dir() else "there is no such folder"
        raise DataError(f"{path}: cannot be written ({why}){kept}; {remedy}") from error
    finally:
        with contextlib.suppress(OSError):  # a read-only folder: what stopped the writer is the error to say
            draft.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file as a whole, in UTF-8."""
    with draft_of(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file as a whole; NumPy's arrays and numbers as plain lists and numbers."""
    write_text(path, json.dumps(content, indent=1, default=_plain) + "\n")


def write_csv(path: Path, table: Any) -> None:
    """Writes a table of pandas as a whole, with column names and without row numbers."""
    with draft_of(path) as draft:
        table.to_csv(draft, index=False)


def write_array(path: Path, array: Any) -> None:
    """Writes a ``.npy`` file as a whole."""
    with draft_of(path, ".npy") as draft:
        np.save(draft, array)


def write_arrays(path: Path, **arrays: Any) -> None:
    """Writes a compressed ``.npz`` file as a whole."""
    with draft_of(path, ".npz") as draft:
        np.savez_compressed(draft, **arrays)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


def _umask() -> int:
    """The permissions that the user withholds from new files; there is no way to read without setting them."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
