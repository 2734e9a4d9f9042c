"""From a media tree to a manifest: every file looked at once, by several processes, resumable; clips paired."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from pyarrow import ArrowException

from datamodules.io.workers import end_with_parent
from datamodules.prepare.paths import MediaFile
from datamodules.prepare.probe import Probe, probe_all
from datamodules.sampling.pairing import pairs_by_video
from datamodules.schema import DataError, Items, Modality

_BATCH = 200  # files a process looks at between reports
_PART = 5000  # files between saves
VOICE_COLUMNS = {"seconds": "voice_seconds", "rate": "voice_rate", "channels": "voice_channels", "bytes": "voice_bytes"}
FACE_COLUMNS = {"width": "face_width", "height": "face_height", "bytes": "face_bytes"}


def look_at(
    root: Path,
    files: Sequence[tuple[str, Modality]],
    parts: Path,
    workers: int,
    decode: bool = False,
    report: Callable[[int], None] = lambda count: None,
) -> pd.DataFrame:
    """Probes all files; what a run that was killed had saved in ``parts`` is not looked at again.

    Args:
        root: of the tree.
        files: path below ``root`` and modality of each.
        parts: folder of intermediate results; the caller removes it when all is written.
        workers: processes.
        decode: see :func:`datamodules.prepare.probe.probe`.
        report: told how many more are done.

    Returns:
        The fields of :class:`Probe` by file, in the order of ``files``.

    Raises:
        DataError: ``parts`` cannot be written.
    """
    done = _read_parts(parts)
    todo = [(path, modality) for path, modality in files if not _unchanged(root, path, done)]
    report(len(files) - len(todo))
    batches = [todo[i : i + _BATCH] for i in range(0, len(todo), _BATCH)]
    fresh: list[Probe] = []
    work = partial(probe_all, root, decode)
    # not forked: the progress bar is a thread
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=end_with_parent) as pool:
        for probes in pool.map(work, batches):
            fresh += probes
            report(len(probes))
            if len(fresh) >= _PART:
                done |= _save(parts, fresh)
                fresh = []
    done |= _save(parts, fresh)
    return pd.DataFrame([done[path] for path, _ in files], columns=list(Probe._fields))


def manifest_of(files: Sequence[MediaFile], probes: pd.DataFrame, genders: dict[str, str]) -> pd.DataFrame:
    """One row per clip: a voice and a face of the same person, language and video.

    Within these, voices and faces are paired in order, the shorter side starting over, so that each occurs. Whatever
    has no counterpart in its video gets one of the person's in that language, of any video or none (VoxCeleb1's frontal
    faces).

    Args:
        files: of both modalities, all readable.
        probes: of the same files, by row.
        genders: by identity.

    Returns:
        Columns ``voice, face, identity, language, video, gender`` and what is known of the files; a clip of two videos
        has no ``video``.
    """
    voices, faces = (_items([file for file in files if file.modality == side]) for side in ("voice", "face"))
    voice, face = pairs_by_video(voices, faces)
    lone_voice, its_face = _leftovers(voices, faces, np.setdiff1d(np.arange(len(voices)), voice))
    lone_face, its_voice = _leftovers(faces, voices, np.setdiff1d(np.arange(len(faces)), face))
    voice = np.concatenate([voice, lone_voice, its_voice])
    face = np.concatenate([face, its_face, lone_face])
    video = np.where(voices.video[voice] == faces.video[face], voices.video[voice], "")
    identity = voices.identity[voice]
    table = {"voice": voices.ids[voice], "face": faces.ids[face], "identity": identity}
    table |= {"language": voices.language[voice], "video": video}
    table["gender"] = np.array([genders.get(person, "") for person in identity.tolist()], dtype=np.str_)
    by_path = probes.set_index("path")
    for ids, columns in ((voices.ids[voice], VOICE_COLUMNS), (faces.ids[face], FACE_COLUMNS)):
        known = by_path.loc[ids, list(columns)]
        table |= {ours: known[name].to_numpy() for name, ours in columns.items()}
    return pd.DataFrame(table).drop_duplicates(["voice", "face"]).sort_values(["voice", "face"], ignore_index=True)


def write_parquet(table: pd.DataFrame, path: Path) -> None:
    """Writes a table whole or not at all.

    Raises:
        DataError: it cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(beside, index=False)
        beside.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); name another place with --out") from error
    finally:
        beside.unlink(missing_ok=True)


def remove_parts(parts: Path) -> None:
    """Forgets intermediate results."""
    shutil.rmtree(parts, ignore_errors=True)


def _unchanged(root: Path, path: str, done: dict[str, Probe]) -> bool:
    if path not in done:
        return False
    try:
        status = (root / path).stat()
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (done[path].bytes, done[path].modified)


def _save(parts: Path, probes: list[Probe]) -> dict[str, Probe]:
    if probes:
        number = len(list(parts.glob("*.parquet"))) if parts.is_dir() else 0
        write_parquet(pd.DataFrame(probes), parts / f"{number:06d}.parquet")
    return {found.path: found for found in probes}


def _read_parts(parts: Path) -> dict[str, Probe]:
    done: dict[str, Probe] = {}
    for path in sorted(parts.glob("*.parquet")) if parts.is_dir() else []:
        try:
            rows = pd.read_parquet(path, columns=list(Probe._fields))
        except (OSError, ValueError, ArrowException) as error:
            raise DataError(f"{path}: cannot be read back ({error}); remove {parts} to start afresh") from error
        done |= {row.path: Probe(*row) for row in rows.itertuples(index=False)}
    return done


def _items(files: Sequence[MediaFile]) -> Items:
    def column(name: str) -> np.ndarray:
        return np.array([getattr(file, name) for file in files], dtype=np.str_)

    unknown = np.full(len(files), "")
    return Items(column("path"), column("identity"), column("language"), unknown, column("video"))


def _leftovers(own: Items, other: Items, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Those of some rows of ``own`` that have a counterpart of their person and language, with one in ``other``."""
    first, second = pairs_by_video(_without_video(own, rows), _without_video(other, np.arange(len(other))))
    found, once = np.unique(first, return_index=True)
    return rows[found], second[once]


def _without_video(items: Items, rows: np.ndarray) -> Items:
    ids, identity, language, gender = (
        np.asarray(getattr(items, name))[rows] for name in ("ids", "identity", "language", "gender")
    )
    return Items(ids, identity, language, gender, np.full(len(rows), ""))
