"""Things made once from other files: written beside, flushed, renamed, so that no reader ever sees half of one."""

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

    Processes that fill the same entry at once do not disturb each other: each fills a folder of its own, the first
    rename wins, and the others use its result.

    Args:
        kind: sub-folder of the cache.
        key: from :func:`cache_key`.
        fill: writes the entry's files into an empty folder.

    Returns:
        The folder, or None if the cache cannot be written (read-only or full disk), which is said in a warning.
    """
    root = cache_folder()
    final = root / kind / key
    if final.is_dir():
        return final
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{key}-", dir=final.parent))
    except OSError as error:
        _say_unusable(root, error)
        return None
    try:
        fill(draft)
        for path in (*draft.rglob("*"), draft):
            _flush(path)
        draft.chmod(0o755)  # mkdtemp's 0700 would shut colleagues out of a shared cache
        draft.rename(final)
    except OSError as error:
        if not final.is_dir():  # otherwise another process was first
            _say_unusable(root, error)
            return None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return final


def discard(folder: Path) -> None:
    """Removes a damaged entry, so that it is made anew."""
    shutil.rmtree(folder, ignore_errors=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _say_unusable(root: Path, error: OSError) -> None:
    warnings.warn(
        f"cache folder {root} cannot be written ({error.strerror}); working without it is slower. "
        "Set VOICEFACE_CACHE to a folder with space",
        stacklevel=3,
    )
