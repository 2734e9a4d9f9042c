"""A cache on disk of what is made from other files. Entries are renamed into place when complete.

So no reader sees a part of an entry, even after a crash.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

from platformdirs import user_cache_dir

from datamodules.io.writing import CannotWrite, draft_of, make_folder
from datamodules.schema import one_line


def cache_folder() -> Path:
    """``$VOICEFACE_CACHE``, else the user's cache folder of this platform."""
    return Path(os.environ.get("VOICEFACE_CACHE") or user_cache_dir("voiceface"))


def cache_key(*parts: object, files: tuple[Path, ...] = ()) -> str:
    """Name of a cache entry: changes with any of ``parts`` and with path, size or time of any of ``files``."""
    stamps = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return hashlib.sha256(repr((parts, stamps)).encode("utf-8", "surrogateescape")).hexdigest()[:24]


def cached_folder(kind: str, key: str, fill: Callable[[Path], None]) -> Path | None:
    """The folder of a cache entry, filled on first use.

    Several processes may fill the same entry at once: each fills a temporary folder, the first rename wins, and the
    others use its result.

    Args:
        kind: sub-folder of the cache.
        key: from :func:`cache_key`.
        fill: writes the entry's files into an empty folder.

    Returns:
        The folder, or None with a warning where the cache cannot be written (read-only or full disk).
    """
    root = cache_folder()
    final = root / kind / key
    if final.is_dir():
        return final
    try:
        make_folder(final.parent)
        with draft_of(final, sync=True, folder=True) as draft:
            fill(draft)
    except CannotWrite as error:
        if not final.is_dir():  # otherwise another process was first
            _warn_unusable(root, error)
            return None
    return final


def cached_or_temporary(kind: str, key: str, fill: Callable[[Path], None]) -> tuple[Path, object]:
    """The folder of a cache entry, or a temporary folder where the cache cannot be written.

    Args:
        kind: see :func:`cached_folder`.
        key: see :func:`cached_folder`.
        fill: see :func:`cached_folder`.

    Returns:
        The folder, and an object: a temporary folder is removed when nothing refers to this object any more.

    Raises:
        CannotWrite: the temporary folder is full, too.
    """
    if (folder := cached_folder(kind, key, fill)) is not None:
        return folder, None
    temporary = tempfile.TemporaryDirectory(prefix="voiceface-")
    folder = Path(temporary.name) / key
    with draft_of(folder, folder=True) as draft:
        fill(draft)
    return folder, temporary


def discard(folder: Path) -> None:
    """Removes a damaged entry, so that the next call makes it again."""
    shutil.rmtree(folder, ignore_errors=True)


def _warn_unusable(root: Path, error: CannotWrite) -> None:
    cause = error.__cause__
    why = getattr(cause, "strerror", None) or one_line(cause or error, 120)
    warnings.warn(
        f"cache folder {root} cannot be written ({why}); work without it is slower; "
        "set VOICEFACE_CACHE to a folder with free space",
        stacklevel=3,
    )
