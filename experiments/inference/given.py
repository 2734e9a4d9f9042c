"""Files and models that a command line names, looked for without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datamodules.endings import READ
from datamodules.io.text import nearest
from datamodules.schema import DataError, Modality
from experiments.inference.hub import CONFIG, WEIGHTS


def list_files(paths: Sequence[Path], modality: Modality) -> NDArray[np.str_]:
    """Files as given, and those of folders and their sub-folders, sorted, each once.

    Raises:
        DataError: there is no such file, or a folder holds none of this modality.
    """
    files: dict[str, None] = {}
    for path in paths:
        inside = [path]
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in READ[modality] and p.is_file())
            if not inside:
                raise DataError(
                    f"{path}: no {modality} file in this folder; looked for {' '.join(sorted(READ[modality]))}"
                )
        elif not path.is_file():
            neighbours = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
            raise DataError(f"{path}: no such {modality} file or folder{nearest(path.name, neighbours)}")
        files |= dict.fromkeys(map(str, inside))
    return np.array(list(files), dtype=np.str_)


def run_of(path: Path) -> Path | None:
    """The run folder of a run folder or of a checkpoint in one; None for an export.

    Raises:
        DataError: the path is none of these.
    """
    if (path / WEIGHTS).is_file():
        return None
    run = path if path.is_dir() else path.resolve().parent.parent
    if not (run / CONFIG).is_file():
        raise DataError(f"{path}: no export, run folder or checkpoint in one ({WEIGHTS} or {CONFIG} is missing)")
    return run


def check_given(model: Path, paths: Mapping[Modality, Sequence[Path]]) -> None:
    """Refuses a model or files that are not there.

    Raises:
        DataError: names the first.
    """
    for modality, of_modality in paths.items():
        for path in of_modality:
            if not path.is_dir():
                list_files([path], modality)
    run_of(model)
