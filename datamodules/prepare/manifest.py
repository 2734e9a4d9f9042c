"""Makes a manifest of a folder of media: several processes check every file, and clips are paired. Resumable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from datamodules.io.parts import Parts
from datamodules.io.text import counted
from datamodules.io.writing import together, write_csv, write_parquet
from datamodules.prepare.paths import MediaFile
from datamodules.prepare.probe import Probe, probe_all
from datamodules.sampling.pairing import pairs_by_video
from datamodules.schema import Items, Modality, Rows
from datamodules.workers import process_pool

_BATCH = 200  # files that a process checks between two reports
_PART = 5000  # files between two saves
VOICE_COLUMNS = {"seconds": "voice_seconds", "rate": "voice_rate", "channels": "voice_channels", "bytes": "voice_bytes"}
FACE_COLUMNS = {"width": "face_width", "height": "face_height", "bytes": "face_bytes"}


def check_files(
    root: str | Path,
    files: Sequence[tuple[str, Modality]],
    parts: str | Path,
    workers: int,
    decode: bool = False,
    report: Callable[[int], None] = lambda count: None,
) -> pd.DataFrame:
    """Checks all files. Files that an interrupted run checked and saved in ``parts`` are not checked again.

    Args:
        root: folder of the media.
        files: path below ``root`` and modality of each file.
        parts: folder of intermediate results; the caller removes it after writing the manifest.
        workers: number of processes.
        decode: see :func:`datamodules.prepare.probe.probe`.
        report: is called with the number of further files that were checked.

    Returns:
        The fields of :class:`Probe` of each file, in the order of ``files``.

    Raises:
        DataError: ``parts`` cannot be written.
    """
    root, saved = Path(root), Parts(Path(parts))
    done = _read_parts(saved)
    todo = [(path, modality) for path, modality in files if not _unchanged(root, path, done)]
    report(len(files) - len(todo))
    batches = [todo[i : i + _BATCH] for i in range(0, len(todo), _BATCH)]
    fresh: list[Probe] = []
    work = partial(probe_all, root, decode)
    with process_pool(workers, preload=[probe_all.__module__]) as pool:
        for probes in pool.map(work, batches):
            fresh += probes
            report(len(probes))
            if len(fresh) >= _PART:
                done |= _save(saved, fresh)
                fresh = []
    done |= _save(saved, fresh)
    return pd.DataFrame([done[path] for path, _ in files], columns=list(Probe._fields))


def manifest_of(files: Sequence[MediaFile], probes: pd.DataFrame, genders: dict[str, str]) -> pd.DataFrame:
    """One row per clip: a voice and a face of the same identity, language and video.

    They are paired as :func:`pairs_by_video` does. A file without a counterpart in its video gets one of the same
    identity and language from any video, or without a video (VoxCeleb1's frontal faces).

    Args:
        files: readable files of both modalities.
        probes: the results of :func:`check_files`, a row for each file.
        genders: gender by identity.

    Returns:
        Columns ``voice, face, identity, language, video, gender`` and the properties of the files; ``video`` is ""
        where voice and face come from different videos.
    """
    voices, faces = (_items([file for file in files if file.modality == side]) for side in ("voice", "face"))
    voice, face = pairs_by_video(voices, faces)
    more_voices, their_faces = _leftovers(voices, faces, np.setdiff1d(np.arange(len(voices)), voice))
    more_faces, their_voices = _leftovers(faces, voices, np.setdiff1d(np.arange(len(faces)), face))
    voice = np.concatenate([voice, more_voices, their_voices])
    face = np.concatenate([face, their_faces, more_faces])
    video = np.where(voices.video[voice] == faces.video[face], voices.video[voice], "")
    identity = voices.identity[voice]
    table = {"voice": voices.ids[voice], "face": faces.ids[face], "identity": identity}
    table |= {"language": voices.language[voice], "video": video}
    table["gender"] = np.array([genders.get(name, "") for name in identity.tolist()], dtype=np.str_)
    by_path = probes.set_index("path")
    for ids, columns in ((voices.ids[voice], VOICE_COLUMNS), (faces.ids[face], FACE_COLUMNS)):
        properties = by_path.loc[ids, list(columns)]
        table |= {column: properties[name].to_numpy() for name, column in columns.items()}
    return pd.DataFrame(table).drop_duplicates(["voice", "face"]).sort_values(["voice", "face"], ignore_index=True)


def write_manifest(table: pd.DataFrame, path: str | Path) -> None:
    """Writes a table as CSV or parquet, as the name of the file says; a killed process leaves no partial file.

    Raises:
        CannotWrite: the file cannot be written.
    """
    path = Path(path)
    with together(path.parent):
        if path.suffix.lower() == ".parquet":
            write_parquet(path, table)
        else:
            write_csv(path, table)


def _unchanged(root: Path, path: str, done: dict[str, Probe]) -> bool:
    if path not in done:
        return False
    try:
        status = (root / path).stat()
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (done[path].bytes, done[path].modified)


def _save(parts: Parts, probes: list[Probe]) -> dict[str, Probe]:
    if probes:
        parts.save(pa.Table.from_pandas(pd.DataFrame(probes), preserve_index=False))
    return {probe.path: probe for probe in probes}


def _read_parts(parts: Parts) -> dict[str, Probe]:
    tables = [table.to_pandas()[list(Probe._fields)] for table in parts.read()]
    return {row[0]: Probe(*row) for table in tables for row in table.itertuples(index=False)}


def _items(files: Sequence[MediaFile]) -> Items:
    def column(name: str) -> NDArray[np.str_]:
        return np.array([getattr(file, name) for file in files], dtype=np.str_)

    unknown = np.full(len(files), "")
    return Items(column("path"), column("identity"), column("language"), unknown, column("video"))


def _leftovers(items: Items, other: Items, rows: Rows) -> tuple[Rows, Rows]:
    """Those of ``rows`` that have a counterpart of the same identity and language, and its row in ``other``."""
    first, second = pairs_by_video(_without_video(items, rows), _without_video(other, np.arange(len(other))))
    paired, once = np.unique(first, return_index=True)
    return rows[paired], second[once]


def _without_video(items: Items, rows: Rows) -> Items:
    ids, identity, language, gender = (
        np.asarray(getattr(items, name))[rows] for name in ("ids", "identity", "language", "gender")
    )
    return Items(ids, identity, language, gender, np.full(len(rows), ""))


def counted_in(table: pd.DataFrame) -> str:
    """What a manifest holds: clips, identities, voices with their hours, and faces."""
    hours = table.drop_duplicates("voice")["voice_seconds"].sum() / 3600
    return (
        f"{counted(len(table), 'clip')} of {counted(table['identity'].nunique(), 'identity', 'identities')}, "
        f"{counted(table['voice'].nunique(), 'voice')} ({hours:.1f} h), {counted(table['face'].nunique(), 'face')}"
    )
