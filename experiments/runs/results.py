"""What a test leaves in the run folder: results.json, scores.parquet, embeddings, refinement.json, and the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pandas as pd

from datamodules.evaluation.learnt import FILE, Learnt
from datamodules.io.feature_files import FIELDS
from datamodules.io.text import shown
from datamodules.io.writing import make_folder, remove_file, write_array, write_csv, write_json, write_parquet
from datamodules.schema import ATTRIBUTES, MODALITIES, DataError, visible
from experiments.console.tables import NameTable, percent, table_console
from experiments.runs.records import NOT_CELLS, TRUSTED, UNLABELLED, read_records
from experiments.runs.saved import COLUMNS, SavedRun
from postproc.metrics import evaluate_cell, summarise
from postproc.metrics.alignment import alignment

Record = dict[str, Any]


class CellResult(TypedDict):
    """The numbers of one test condition; rates are fractions, None where they cannot be computed.

    Attributes:
        eer: equal error rate of the raw scores, with ``eer_refined`` after the refinement.
        eer_same_gender: over the trials of two people of one gender, raw and refined.
        eer_gender_only: of a scorer that knows the genders and nothing else.
        eer_chance: of random scores.
        auc: area under the ROC curve, raw and refined.
        eer_ci95: 95 % interval of ``eer`` over resampled identities.
        trials: number of trials, ``positives`` of them with the same person.
    """

    eer: float
    eer_refined: float | None
    eer_same_gender: float | None
    eer_same_gender_refined: float | None
    eer_gender_only: float | None
    eer_chance: float | None
    auc: float
    auc_refined: float | None
    eer_ci95: list[float] | None
    trials: int
    positives: int


class Results(TypedDict):
    """The content of results.json.

    Attributes:
        cells: by test condition; ``overall`` is the mean over test languages.
        alignment: how close the modalities and languages are, before and after the model; empty for refined scores
            of several runs.
        tasks: records of matching and retrieval tests.
        trusted_weights: names of weights files that do not say whom they have learnt from and were trusted.
        languages_unknown: data sets of training clips of which nothing says the language, where an unheard one was
            tested.
    """

    cells: dict[str, CellResult]
    alignment: dict[str, Any]
    tasks: dict[str, Record]
    trusted_weights: list[str]
    languages_unknown: list[str]


def read_results(path: Path) -> Results:
    """Reads a results.json.

    Raises:
        DataError: missing or damaged.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file; run test on data with labels")
    content = read_records(path)
    cells = {name: record for name, record in content.items() if name not in NOT_CELLS}
    return {
        "cells": cells,
        "alignment": content.get("alignment", {}),
        "tasks": content.get("tasks", {}),
        "trusted_weights": content.get(TRUSTED, []),
        "languages_unknown": content.get(UNLABELLED, []),
    }


def write_results(
    run: SavedRun, traces: Mapping[str, Any], decisions: Mapping[str, Record], labelled: bool = True
) -> dict[str, Record]:
    """Writes scores.parquet, refinement.json, decisions.json and, for labelled tests and ranking tests, results.json.

    Args:
        run: the tested run, whose folder takes the files.
        traces: of the refinement, by test condition.
        decisions: what speaks for and against the refinement, by test condition; their ``doubts`` stand in the results,
            too.
        labelled: False does not look at labels. A results.json of earlier scores goes, where there is none of these.

    Returns:
        The records by test condition and their means over test languages; empty without labels. The file also holds
        ``alignment`` and, where there are any, ``tasks``, ``trusted_weights`` and ``languages_unknown``.
    """
    write_scores(run)
    write_json(run.folder / "refinement.json", traces)
    write_json(run.folder / "decisions.json", decisions)
    results = evaluate_run(run) if labelled else {}
    for name in results.keys() & decisions.keys():
        doubts = dict(decisions[name].get("doubts", {}))
        if "sizes_tell" in results[name]:  # known from the identities, need not be guessed
            doubts.pop("sizes", None)
        results[name]["doubts"] = doubts
    if results or run.tasks:
        more = {"alignment": alignment(run.evaluation, run.embeddings)} | ({"tasks": run.tasks} if run.tasks else {})
        write_json(run.folder / "results.json", results | more | run.notes)
    elif (stale := run.folder / "results.json").is_file():
        print(f"removed: {stale}, which was of the scores before; these have no labels")
        remove_file(stale)
    return results


def evaluate_run(run: SavedRun) -> dict[str, Record]:
    """The records of the labelled test conditions and their means over test languages."""
    cells = {name: cell for name, cell in run.evaluation.cells.items() if cell.trials.labels is not None}
    voices, faces = run.evaluation.voices, run.evaluation.faces
    records = {
        name: evaluate_cell(cell, voices, faces, run.scores[name], run.refined.get(name))
        for name, cell in cells.items()
    }
    return summarise(records, {name: cell.language for name, cell in cells.items()})


def write_scores(run: SavedRun) -> None:
    """All trials of all test conditions, as :func:`experiments.runs.saved.read_run` reads them back.

    ``distance`` and ``refined``: lower = same person. ``voice_row`` and ``face_row`` are rows of the saved embeddings.
    """
    frames = [pd.DataFrame(columns=list(COLUMNS))] if not run.evaluation.cells else []
    for name, cell in run.evaluation.cells.items():
        trials = cell.trials
        columns: dict[str, Any] = {"cell": name, "language": cell.language}
        columns |= {"key": trials.keys, "voice": trials.voices, "face": trials.faces}
        columns["label"] = pd.array([pd.NA] * len(trials) if trials.labels is None else trials.labels, dtype="Int8")
        columns["distance"] = run.scores[name]
        columns["refined"] = run.refined.get(name, np.full(len(trials), np.nan))
        columns |= {"voice_row": cell.voice_index, "face_row": cell.face_index}
        frames.append(pd.DataFrame(columns))
    write_parquet(run.folder / "scores.parquet", pd.concat(frames, ignore_index=True))


def write_embeddings(run: SavedRun, learnt: Learnt | None = None) -> None:
    """``embeddings/voices.npy`` + ``voices.csv`` and the same for faces: feature files that any data config can read.

    ``voices_input.npy`` holds the encoder embeddings that the model took, where it took embeddings.

    Args:
        run: the tested run.
        learnt: what its weights have learnt from, written beside the embeddings.
    """
    folder = run.folder / "embeddings"
    make_folder(folder)
    if learnt is not None:
        write_json(folder / FILE, learnt.plain())
    for modality in MODALITIES:
        items = run.evaluation.items(modality)
        write_array(folder / f"{modality}s.npy", run.embeddings[modality])
        inputs = folder / f"{modality}s_input.npy"
        if items.features is None:
            remove_file(inputs)  # of an earlier test in this folder
        else:
            write_array(inputs, items.features)
        index = {"item": items.ids, **{name: getattr(items, name) for name in FIELDS}}
        if items.attributes is not None:
            index |= dict(zip(ATTRIBUTES, np.asarray(items.attributes).T, strict=True))
        write_csv(folder / f"{modality}s.csv", pd.DataFrame(index))


def note_of(notes: Mapping[str, Sequence[str]]) -> str:
    """Sentences that say which weights were trusted, and where the language of training clips is unknown.

    Args:
        notes: see :attr:`SavedRun.notes`.
    """
    sentences = {
        TRUSTED: "Nothing says whom these weights have learnt from, they were trusted: ",
        UNLABELLED: "Nothing says in which language some training clips are, so an unheard one may be among them: ",
    }
    return " ".join(f"{text}{shown(list(notes[key]))}." for key, text in sentences.items() if notes.get(key))


def sizes_note(results: Mapping[str, Record], refined: bool) -> str:
    """A sentence that names refined test conditions whose cluster sizes say who is who; empty where there are none."""
    if not refined:
        return ""
    return sizes_sentence(conditions_of_sizes(results))


def conditions_of_sizes(results: Mapping[str, Record]) -> list[str]:
    """Test conditions that have as many voices as faces of each identity."""
    return [name for name, record in results.items() if isinstance(record, dict) and record.get("sizes_tell")]


def sizes_sentence(names: Sequence[str]) -> str:
    """What refined test conditions gain by how they were made; empty where there are none."""
    why = "as many voices as faces of each identity, so cluster sizes alone help their refinement"
    return f"{shown(names)} {'has' if len(names) == 1 else 'have'} {why}." if names else ""


def doubts_note(results: Mapping[str, Record]) -> str:
    """Sentences that say why the refinement of test conditions is in doubt; empty where none is."""
    names: dict[str, list[str]] = {}
    for name, record in results.items():
        for doubt in record.get("doubts", {}).values():
            names.setdefault(doubt, []).append(visible(name))
    return " ".join(f"Refinement of {shown(of)} in doubt: {doubt}." for doubt, of in names.items())


def print_results(results: dict[str, Record], notes: Mapping[str, Sequence[str]] | None = None) -> None:
    """Prints the table at full width where the output is no terminal."""
    table_console().print(results_table(results, notes))


def results_table(results: dict[str, Record], notes: Mapping[str, Sequence[str]] | None = None) -> NameTable:
    """The printed table: a row per test condition; EERs in percent, with the gender-only floor and chance.

    Args:
        results: records by test condition.
        notes: see :attr:`SavedRun.notes`.
    """
    caption = "EER in %, lower is better. Refined scores are transductive: they see the whole test set."
    refined = any(record.get("eer_refined") is not None for record in results.values())
    table = NameTable(
        caption=" ".join(
            filter(None, [caption, sizes_note(results, refined), doubts_note(results), note_of(notes or {})])
        )
    )
    table.add_column("test condition")
    for column in ("raw", "refined", "same-gender", "refined s-g", "AUC", "gender only", "chance", "trials"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, record in results.items():
        row = [record.get(k) for k in ("eer", "eer_refined", "eer_same_gender", "eer_same_gender_refined")]
        controls = [record.get(k) for k in ("auc", "eer_gender_only", "eer_chance")]
        cells = [percent(value) for value in row + controls]
        last = name.endswith("overall")
        table.add_row(name, *cells, str(record["trials"]), end_section=last, style="bold" if last else None)
    return table
