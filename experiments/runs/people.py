"""EERs of each identity, and EERs of resampled identities (bootstrap); files in the folder of the scores."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datamodules.io.writing import write_arrays, write_csv
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
    write_csv(folder / "people.csv", pd.DataFrame(rows, columns=list(COLUMNS)))
    rates_by_key = {f"{stage}|{cell}": rates for (cell, stage), rates in replicates_of(run).items()}
    write_arrays(folder / "people.npz", **rates_by_key)


def read_people(folder: Path) -> tuple[pd.DataFrame, Replicates]:
    """Reads both back."""
    text, unknown = {"cell": str, "identity": str, "gender": str}, {"raw": [""], "refined": [""]}
    rows = pd.read_csv(folder / "people.csv", dtype=text, keep_default_na=False, na_values=unknown)
    with np.load(folder / "people.npz", allow_pickle=False) as saved:
        parts = {tuple(name.split("|", 1)): saved[name] for name in saved.files}
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
