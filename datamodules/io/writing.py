"""Writes files so that a killed command or a full disk leaves the old files or the new ones, never a part of one."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import DataError, one_line

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DRAFT = re.compile(r"\.(\d+)@([^@]*)@.*\.tmp")


class CannotWrite(DataError):
    """A file or folder that cannot be written. One line: its name, why, the way out."""


@dataclass
class _Set:
    """Files that wait for each other, each with its draft, or None where it is to go; and the folders made for them."""

    files: list[tuple[Path | None, Path]] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)


_open_set: ContextVar[_Set | None] = ContextVar("files that are written together", default=None)


@contextmanager
def draft_of(
    path: str | Path, errors: tuple[type[Exception], ...] = (), sync: bool = False, folder: bool = False
) -> Iterator[Path]:
    """A place beside ``path`` to write to, which takes the place of ``path`` when the block ends without an error.

    So a reader sees the old file or the new one, never a part. After an error the draft is removed; that of a killed
    process goes when the next file is written into its folder.

    Args:
        path: the file to write.
        errors: what the writer raises where the disk fails, besides OSError.
        sync: whether the file lasts through a power cut.
        folder: whether ``path`` is a folder, which does not exist yet; the draft is an empty one.

    Raises:
        CannotWrite: a full or read-only disk, a folder of this name.
    """
    path = Path(path)
    try:
        final = path.resolve()  # what a link leads to is written, the link stays
        if final.exists() and not final.is_file() and not final.is_dir():
            _check_reader(final)
            yield final  # a pipe or device has no place that another file could take
            return
    except RuntimeError as error:
        raise CannotWrite(f"{path}: is a link that leads to itself; name another place") from error
    name = final.name.encode()[-100:].decode(errors="ignore")
    draft = final.with_name(f".{os.getpid()}@{socket.gethostname()[-60:]}@{name}.tmp")
    _remove_abandoned(final.parent)
    together_with, waits = _open_set.get(), False
    try:
        if folder:
            draft.mkdir()
        yield draft
        draft.chmod((0o777 if folder else 0o666) & ~_umask())  # some writers make files for their owner alone
        for written in (*draft.rglob("*"), draft) if sync else ():
            _flush(written)
        if together_with is None:
            draft.replace(final)
            if sync:
                _flush(final.parent)
        else:
            together_with.files.append((draft, final))
            waits = True
    except Exception as error:
        if not isinstance(error, (OSError, *errors)) or not _is_inside(getattr(error, "filename", None), draft):
            raise
        raise _cannot_write(path, error, draft.parent) from error
    finally:
        if not waits:
            _remove(draft)


@contextmanager
def together(folder: Path) -> Iterator[None]:
    """Files that are written in this block take their places at its end: all of them, or after an error none.

    The last one that is written makes the others valid: of files that are there already it goes first, and it comes
    last. So however a command ends, old and new files never stand side by side.

    Args:
        folder: of the files; it is made, and after an error it goes again, if nothing else is in it.

    Raises:
        CannotWrite: the folder or a file cannot be written.
    """
    if _open_set.get() is not None:  # a part of a larger set
        make_folder(folder)
        yield
        return
    token = _open_set.set(_Set())
    files = _open_set.get()
    assert files is not None
    try:
        make_folder(folder)
        yield
        _place(files.files)
    except BaseException:
        for draft, _ in files.files:
            _remove(draft)
        for made in reversed(files.folders):
            with contextlib.suppress(OSError):  # holds what this block has not written
                made.rmdir()
        raise
    finally:
        _open_set.reset(token)


def refuse_other(path: Path, start: str) -> None:
    """Refuses to write over a file that begins in another way than what is to be written: it is somebody's work.

    Args:
        path: the place to write to.
        start: how files of this kind begin.

    Raises:
        CannotWrite: there is such a file.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        head = file.read(len(start.encode()))
    if head and head != start.encode():
        raise CannotWrite(f"{path}: is a file of another kind, which would be lost; name another place")


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it; a block of :func:`together` that fails takes them away again.

    Raises:
        CannotWrite: it cannot be made.
    """
    try:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(folder, error, folder) from error
    if (files := _open_set.get()) is not None:
        files.folders += reversed(missing)


def remove_file(path: Path) -> None:
    """Removes a file, if it is there; in a block of :func:`together` with the older ones of its files."""
    if (files := _open_set.get()) is not None:
        files.files.insert(0, (None, path))
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise CannotWrite(f"{path}: cannot be removed ({error.strerror}); name another place") from error


def write_text(path: Path, text: str) -> None:
    """Writes a text file as a whole, in UTF-8."""
    with draft_of(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file as a whole; NumPy's arrays and numbers as plain lists and numbers."""
    write_text(path, json.dumps(content, indent=1, default=_plain) + "\n")


def write_csv(path: Path, table: Any) -> None:
    """Writes a table of pandas as a whole, with column names and without row numbers."""
    with draft_of(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        table.to_csv(file, index=False)


def write_parquet(path: Path, table: Any) -> None:
    """Writes a table of pandas as a whole, without row numbers."""
    with draft_of(path) as draft, draft.open("wb") as file:
        table.to_parquet(file, index=False)


def write_array(path: Path, array: Any) -> None:
    """Writes a ``.npy`` file as a whole."""
    with draft_of(path) as draft, draft.open("wb") as file:
        np.save(file, array)


def write_arrays(path: Path, **arrays: Any) -> None:
    """Writes a compressed ``.npz`` file as a whole."""
    with draft_of(path) as draft, draft.open("wb") as file:
        np.savez_compressed(file, **arrays)


def map_array(path: Path, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A new ``.npy`` file of float32 zeros, mapped into memory to be filled in any order.

    Raises:
        OSError: there is no room for it.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    if hasattr(os, "posix_fallocate"):  # a page without room on the disk would kill the process
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _place(files: list[tuple[Path | None, Path]]) -> None:
    """Removes the older files, the last one first, and gives the new ones their places, the last one last."""
    if folder := next((final for _, final in files if final.is_dir()), None):
        raise CannotWrite(f"{folder}: cannot be written (Is a directory); name another place")
    try:
        if len(files) > 1:
            for _, final in reversed(files):
                final.unlink(missing_ok=True)
        for draft, final in files:
            if draft is not None:
                draft.replace(final)
    except OSError as error:
        raise CannotWrite(f"{final}: cannot be written ({one_line(error.strerror or error)})") from error


def _check_reader(path: Path) -> None:
    """Refuses a pipe that nobody reads, and a socket: whoever opens it waits."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    except OSError as error:
        raise CannotWrite(
            f"{path}: cannot be written ({error.strerror}: a pipe or device); name another place"
        ) from error


def _cannot_write(path: Path, error: Exception, folder: Path) -> CannotWrite:
    number, why = getattr(error, "errno", None), getattr(error, "strerror", None) or one_line(error, 120)
    if number is None and _is_full(folder):  # numpy, torch and others say only how much they have written
        number, why = errno.ENOSPC, os.strerror(errno.ENOSPC)
    kept = "; the file that was there is as before" if path.is_file() else ""
    remedy = "name another place" if folder.is_dir() or path == folder else "there is no such folder"
    space = "free space there or " if number in FULL else ""
    return CannotWrite(f"{path}: cannot be written ({why}){kept}; {space}{remedy}")


def _is_full(folder: Path) -> bool:
    try:
        disk = os.statvfs(folder)
    except (OSError, AttributeError):
        return False
    return disk.f_bavail * disk.f_frsize < 1 << 16


def _is_inside(name: Any, draft: Path) -> bool:
    """Whether an error is of the draft: it names it or a file in it, or no file at all."""
    return name is None or (isinstance(name, str | os.PathLike) and Path(name).is_relative_to(draft))


def _remove_abandoned(folder: Path) -> None:
    """Removes the drafts of processes of this machine that have been killed."""
    try:
        found = [match for path in folder.iterdir() if (match := _DRAFT.fullmatch(path.name))]
    except OSError:
        return
    for match in found:
        if match[2] == socket.gethostname()[-60:] and not _lives(int(match[1])):
            _remove(folder / match[0])


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _remove(draft: Path | None) -> None:
    if draft is None:
        return
    if draft.is_dir():
        shutil.rmtree(draft, ignore_errors=True)
        return
    with contextlib.suppress(OSError):  # a read-only folder: what stopped the writer is the error to say
        draft.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Makes a file, or the renames in a folder, last through a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


def _umask() -> int:
    """The permissions that the user withholds from new files; there is no way to read without setting them."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
