"""What a test leaves in the run folder: results.json, scores.parquet, embeddings, refinement traces, and the table."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.table import Table

from datamodules.schema import MODALITIES, EvaluationSet, Modality
from experiments.console.tables import table_console
from experiments.runs.files import write_json
from experiments.runs.saved import COLUMNS
from postproc.metrics.alignment import alignment
from postproc.metrics.evaluate import evaluate_cell, summarise

Record = dict[str, Any]
Scores = Mapping[str, NDArray[np.float64]]


def write_results(
    folder: Path,
    evaluation: EvaluationSet,
    scores: Scores,
    refined: Scores,
    embeddings: Mapping[Modality, NDArray[np.float32]],
    traces: Mapping[str, Any],
    labelled: bool = True,
    tasks: Mapping[str, Record] | None = None,
) -> dict[str, Record]:
    """scores.parquet and refinement.json and, for the labelled cells and the ranking tests, results.json.

    Args:
        folder: to write into.
        evaluation: items and cells.
        scores: (t,) distances by cell, lower = same person.
        refined: the same, refined; empty where nothing was.
        embeddings: (n, d) learnt embeddings by modality.
        traces: of the refinement by cell.
        labelled: False leaves labels alone.
        tasks: records of the matching and retrieval tests.

    Returns:
        The records by cell and their means over test languages; empty without labels. The file holds ``alignment``
        and, where there are any, ``tasks`` beside them.
    """
    write_scores(folder / "scores.parquet", evaluation, scores, refined)
    write_json(folder / "refinement.json", traces)
    cells = {n: c for n, c in evaluation.cells.items() if labelled and c.trials.labels is not None}
    if not cells and not tasks:
        return {}
    voices, faces = evaluation.voices, evaluation.faces
    records = {n: evaluate_cell(c, voices, faces, scores[n], refined.get(n)) for n, c in cells.items()}
    results = summarise(records, {name: cell.language for name, cell in cells.items()})
    beside = {"alignment": alignment(evaluation, embeddings)} | ({"tasks": tasks} if tasks else {})
    write_json(folder / "results.json", results | beside)
    return results


def write_scores(
    path: Path,
    evaluation: EvaluationSet,
    scores: Scores,
    refined: Scores,
) -> None:
    """All trials of all cells, as ``experiments.runs.saved`` reads them back; distance and refined: lower = same person.

    ``voice_row`` and ``face_row`` are rows of the saved embeddings.
    """
    frames = [pd.DataFrame(columns=list(COLUMNS))] if not evaluation.cells else []
    for name, cell in evaluation.cells.items():
        trials = cell.trials
        columns: dict[str, Any] = {"cell": name, "language": cell.language}
        columns |= {"key": trials.keys, "voice": trials.voices, "face": trials.faces}
        columns["label"] = pd.array([pd.NA] * len(trials) if trials.labels is None else trials.labels, dtype="Int8")
        columns["distance"] = scores[name]
        columns["refined"] = refined.get(name, np.full(len(trials), np.nan))
        columns |= {"voice_row": cell.voice_index, "face_row": cell.face_index}
        frames.append(pd.DataFrame(columns))
    beside = path.with_suffix(".tmp")
    pd.concat(frames, ignore_index=True).to_parquet(beside, index=False)
    os.replace(beside, path)


def write_embeddings(folder: Path, evaluation: EvaluationSet, embeddings: dict[Any, NDArray[np.float32]]) -> None:
    """``voices.npy`` + ``voices.csv`` and the same for faces: packs that any data config can read.

    ``voices_input.npy`` holds the encoder embeddings the model was fed, where there are any.
    """
    folder.mkdir(exist_ok=True)
    for modality in MODALITIES:
        items = evaluation.items(modality)
        np.save(folder / f"{modality}s.npy", embeddings[modality])
        given = folder / f"{modality}s_input.npy"
        given.unlink(missing_ok=True)  # of an earlier test in this folder
        if items.features is not None:
            np.save(given, items.features)
        index = {"item": items.ids, "identity": items.identity, "language": items.language, "video": items.video}
        pd.DataFrame({**index, "gender": items.gender}).to_csv(folder / f"{modality}s.csv", index=False)


def print_results(results: dict[str, Record]) -> None:
    """Prints the table at full width where the output is no terminal."""
    table_console().print(results_table(results))


def results_table(results: dict[str, Record]) -> Table:
    """The printed table: a row per cell, EERs in percent, the gender-only floor and the chance control beside them."""
    table = Table(caption="EER in %, lower is better. Refined scores are transductive: they see the whole test set.")
    table.add_column("cell")
    for column in ("raw", "refined", "same-gender", "refined s-g", "AUC", "gender only", "chance", "trials"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, record in results.items():
        row = [record.get(k) for k in ("eer", "eer_refined", "eer_same_gender", "eer_same_gender_refined")]
        controls = [record.get(k) for k in ("auc", "eer_gender_only", "eer_chance")]
        cells = [_percent(value) for value in row + controls]
        last = name.endswith("overall")
        table.add_row(name, *cells, str(record["trials"]), end_section=last, style="bold" if last else None)
    return table


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
