"""EERs of each identity, and EERs of resampled identities (bootstrap); files in the folder of the scores."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datamodules.io.documents import open_arrays
from datamodules.io.text import plain_file
from datamodules.io.writing import together, write_arrays, write_csv
from datamodules.schema import DataError, one_line
from experiments.runs.saved import SavedRun
from postproc.metrics import eer
from postproc.metrics.bootstrap import draw_identities, resampled_eers

REPLICATES = 1000
COLUMNS = ("cell", "identity", "gender", "voices", "raw", "refined")
Replicates = dict[tuple[str, str], NDArray[np.float64]]
"""EERs (n,) by test condition and ``raw`` or ``refined``."""


def write_people(folder: Path, run: SavedRun) -> None:
    """``people.csv``: EER over the trials of each identity's voices; ``people.npz``: :func:`replicates_of`."""
    rows = [row for name in run.evaluation.cells for row in people_rows(run, name)]
    rates_by_key = {f"{stage}|{cell}": rates for (cell, stage), rates in replicates_of(run).items()}
    with together(folder):
        write_csv(folder / "people.csv", pd.DataFrame(rows, columns=list(COLUMNS)))
        write_arrays(folder / "people.npz", **rates_by_key)


def read_people(folder: Path) -> tuple[pd.DataFrame, Replicates]:
    """Reads both back.

    Raises:
        DataError: one of them is missing or damaged.
    """
    remedy = "remove the folder and run the protocol again"
    text, unknown = {"cell": str, "identity": str, "gender": str}, {"raw": [""], "refined": [""]}
    path = folder / "people.csv"
    plain_file(path, remedy=remedy)
    try:
        rows = pd.read_csv(path, dtype=text, keep_default_na=False, na_values=unknown)
        numbers = rows[list(COLUMNS[3:])].astype(float)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: cannot be read ({one_line(error, 120)}); {remedy}") from error
    if list(rows.columns) != list(COLUMNS) or numbers["voices"].isna().any():
        raise DataError(f"{path}: holds what no protocol writes; {remedy}")
    path = folder / "people.npz"
    with open_arrays(path, remedy) as saved:
        rates_by_key = {name: saved[name] for name in saved.files}
    for name, rates in rates_by_key.items():
        if "|" not in name or rates.ndim != 1 or rates.dtype.kind != "f":
            raise DataError(f"{path}: holds what no protocol writes; {remedy}")
    parts = {name.partition("|")[::2]: rates for name, rates in rates_by_key.items()}
    return rows, {(cell, stage): rates for (stage, cell), rates in parts.items()}


def replicates_of(run: SavedRun) -> Replicates:
    """Bootstrap over identities: EERs of every labelled test condition; NaN where a draw leaves one class.

    The draws depend on the set of identities alone. They are the same in every test condition and run over this set, so
    replicate i of different conditions and runs may be averaged and subtracted. Draws of other sets are independent.
    Empty if an identity is unknown.
    """
    voices, faces = run.evaluation.voices.identity, run.evaluation.faces.identity
    people = np.unique(np.concatenate([voices, faces]))
    if len(people) < 2 or "" in people:
        return {}
    draws = draw_identities(len(people), REPLICATES, zlib.crc32("\n".join(people.tolist()).encode()))
    voice_of, face_of = np.searchsorted(people, voices), np.searchsorted(people, faces)
    replicates: Replicates = {}
    for name, cell in run.evaluation.cells.items():
        labels = cell.trials.labels
        if labels is None:
            continue
        columns = voice_of[cell.voice_index], face_of[cell.face_index]
        for stage, scores in (("raw", run.scores), ("refined", run.refined)):
            if name in scores:
                replicates[name, stage] = resampled_eers(scores[name], labels, *columns, draws, direction="distance")
    return replicates


def people_rows(run: SavedRun, name: str) -> list[tuple[Any, ...]]:
    """A row of :attr:`Digest.people` for each identity of a test condition that has trials of both kinds."""
    cell, voices = run.evaluation.cells[name], run.evaluation.voices
    labels = cell.trials.labels
    if labels is None:
        return []
    person = voices.identity[cell.voice_index]
    rows = []
    for who in np.unique(person[person != ""]):
        trials = person == who
        if not 0 < np.count_nonzero(labels[trials]) < np.count_nonzero(trials):
            continue
        rates = [
            eer(scores[name][trials], labels[trials], direction="distance").eer if name in scores else np.nan
            for scores in (run.scores, run.refined)
        ]
        first = cell.voice_index[trials]
        rows.append((name, str(who), str(voices.gender[first[0]]), len(np.unique(first)), *rates))
    return rows
