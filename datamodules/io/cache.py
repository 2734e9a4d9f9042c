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
        final.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{key}-", dir=final.parent))
    except OSError as error:
        _warn_unusable(root, error)
        return None
    try:
        fill(draft)
        for path in (*draft.rglob("*"), draft):
            _flush(path)
        draft.chmod(0o755)  # mkdtemp's 0700 would lock other users out of a shared cache
        draft.rename(final)
    except OSError as error:
        if not final.is_dir():  # otherwise another process was first
            _warn_unusable(root, error)
            return None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return final


def cached_or_temporary(kind: str, key: str, fill: Callable[[Path], None]) -> tuple[Path, object]:
    """The folder of a cache entry, or a temporary folder where the cache cannot be written.

    Args:
        kind: see :func:`cached_folder`.
        key: see :func:`cached_folder`.
        fill: see :func:`cached_folder`.

    Returns:
        The folder, and an object: a temporary folder is removed when nothing refers to this object any more.
    """
    if (folder := cached_folder(kind, key, fill)) is not None:
        return folder, None
    temporary = tempfile.TemporaryDirectory(prefix="voiceface-")
    fill(Path(temporary.name))
    return Path(temporary.name), temporary


def discard(folder: Path) -> None:
    """Removes a damaged entry, so that the next call makes it again."""
    shutil.rmtree(folder, ignore_errors=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _warn_unusable(root: Path, error: OSError) -> None:
    warnings.warn(
        f"cache folder {root} cannot be written ({error.strerror}); work without it is slower; "
        "set VOICEFACE_CACHE to a folder with free space",
        stacklevel=3,
    )
