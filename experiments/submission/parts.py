"""Parts of a submission: the test conditions of tested runs, and the four files that a challenge expects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datamodules.schema import DataError
from experiments.runs.saved import read_scores

PATTERNS = {
    "fame": "sub_score_{language}_{condition}.txt",
    "flag": "{track}/sub_score_v4_{language}_{condition}.txt",
}
"""Names of the files in the archive. FAME has also used ``sub_scores_...`` and ``sub_score_{version}_...``."""

FLAG_FILES = {
    (track, *file) for track in ("no_gender", "gender") for file in (("English", "heard"), ("Bangla", "unheard"))
}
GROUPS = {"track": "no_gender|gender", "language": "[^_/]+", "condition": "heard|unheard", "version": "[^_/]+"}
Slot = tuple[str, str, str]  # track ("" in FAME), language, condition


@dataclass(frozen=True, eq=False)
class Part:
    """The trials of one file of a submission, from a test condition of a run.

    Attributes:
        slot: track, language and condition of the file.
        keys: (t,) trial keys in list order.
        distances: (t,) submitted distances, lower = same person.
        raw: (t,) distances before refinement.
        labels: (t,) 1 = same person, or None.
        source: run and test condition, for messages.
    """

    slot: Slot
    keys: NDArray[np.str_]
    distances: NDArray[np.float64]
    raw: NDArray[np.float64]
    labels: NDArray[np.int8] | None
    source: str


def read_cells(runs: Sequence[Path], scores: Literal["refined", "raw"]) -> list[Part]:
    """Test conditions of some runs. Their names are ``[<track or set of lists>/]<condition>``.

    Raises:
        DataError: a run cannot be read, or has no such scores.
    """
    tables = [(run, read_scores(run)) for run in runs]
    return [
        _part(run, str(name), cell, scores) for run, table in tables for name, cell in table.groupby("cell", sort=False)
    ]


def choose(cells: Sequence[Part], style: str, lists: str = "") -> list[Part]:
    """The parts that make a submission.

    Args:
        cells: all parts of the runs.
        style: ``fame`` takes test conditions ``[<lists>/]heard`` and ``unheard``, ``flag`` takes ``<track>/heard`` and
            ``unheard``.
        lists: the set of trial lists to take, for ``fame`` and runs that are tested on several.

    Raises:
        DataError: there are no such test conditions, or the language of one is unknown.
    """
    chosen = [c for c in cells if c.slot[2] in ("heard", "unheard") and (style == "flag" or c.slot[0] == lists)]
    if not chosen:
        names = sorted({f"{track}/{condition}".lstrip("/") for track, _, condition in (c.slot for c in cells)})
        raise DataError(
            f"the runs have test conditions {', '.join(names)}; choose a set of trial lists with --lists NAME"
        )
    for part in chosen:
        if not part.slot[1]:
            raise DataError(
                f"{part.source}: the language of its voices is unknown; set it in the data config and test again"
            )
    return [replace(part, slot=("" if style == "fame" else part.slot[0], *part.slot[1:])) for part in chosen]


def check_slots(slots: set[Slot], style: str, where: str) -> None:
    """Checks that a submission has its four files.

    Raises:
        DataError: files are missing, or there are others.
    """
    expected = FLAG_FILES
    if style == "fame":
        languages = sorted({language for _, language, _ in slots})
        if len(languages) != 2:
            raise DataError(
                f"{where}: test languages {', '.join(languages) or 'none'}; FAME expects four files of two languages"
            )
        expected = {("", language, condition) for language in languages for condition in ("heard", "unheard")}
    for wrong, what in ((expected - slots, "missing"), (slots - expected, "not expected")):
        if wrong:
            names = ", ".join(slot_text(slot) for slot in sorted(wrong))
            hint = "; give the runs of both train languages" if style == "fame" and what == "missing" else ""
            raise DataError(f"{where}: {names} {what}; four files are expected{hint}")


def _part(run: Path, name: str, cell: pd.DataFrame, scores: str) -> Part:
    track, _, condition = name.rpartition("/")
    raw = cell["distance"].to_numpy(np.float64)
    distances = raw if scores == "raw" else cell["refined"].to_numpy(np.float64)
    if np.isnan(distances).all() and not np.isnan(raw).all():
        raise DataError(
            f"run {run}, test condition {name}: has no refined scores; use --scores raw, or a folder written by refine"
        )
    labels = None if cell["label"].isna().any() else cell["label"].to_numpy(np.int8)
    slot = (track, str(cell["language"].iloc[0]), condition)
    return Part(slot, cell["key"].to_numpy(dtype=np.str_), distances, raw, labels, f"run {run}, test condition {name}")


def slot_text(slot: Slot) -> str:
    """Text of a slot for messages: ``gender/English_heard``."""
    return f"{slot[0]}/{slot[1]}_{slot[2]}".lstrip("/")
