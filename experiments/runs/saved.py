"""Reads back what a test left in a run folder: scores, items, embeddings. No model, no data config."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyarrow import ArrowException

from datamodules.schema import MODALITIES, Cell, DataError, EvaluationSet, Items, Modality, Trials, one_line
from postproc.reference import Reference

INDEX = ("identity", "language", "gender", "video")
REFERENCE = ("identity", "language", "gender", "seen")
TRUSTED = "trusted_weights"
NOT_CELLS = ("alignment", "tasks", TRUSTED)
"""Keys of results.json that are no test conditions."""

SEEN_TESTS = "seen_tests"
COLUMNS = ("cell", "language", "key", "voice", "face", "label", "distance", "refined", "voice_row", "face_row")


@dataclass(frozen=True, eq=False)
class SavedRun:
    """A tested run.

    Attributes:
        folder: the run folder.
        evaluation: its items and cells, as the data module made them.
        scores: (t,) raw distances by cell, lower = same person.
        refined: (t,) refined distances of the test conditions that have them.
        embeddings: (n, d) learnt embeddings of the items, by modality.
        tasks: records of its matching and retrieval tests, of which there are no scores here.
        trusted: weights files that the model started from without a record of whom they have learnt from.
    """

    folder: Path
    evaluation: EvaluationSet
    scores: dict[str, NDArray[np.float64]]
    refined: dict[str, NDArray[np.float64]]
    embeddings: dict[Modality, NDArray[np.float32]]
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    trusted: list[str] = field(default_factory=list)


def read_scores(folder: Path) -> pd.DataFrame:
    """The table of scores.parquet, trials in list order.

    Raises:
        DataError: no such folder or file, unreadable, or written without the columns needed here.
    """
    path = folder / "scores.parquet"
    if not path.is_file():
        what = "no such run folder" if not folder.is_dir() else "no scores.parquet in it; run test or predict"
        raise DataError(f"run {folder}: {what}")
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError, ArrowException) as error:
        raise DataError(f"{path}: not a readable parquet file ({one_line(error)})") from error
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise DataError(f"{path}: has no column {missing[0]}; run test again")
    return table


def read_run(folder: Path, home: Path | None = None) -> SavedRun:
    """All that a test left.

    Args:
        folder: with the scores.
        home: the run folder with the embeddings, where the scores were made of those of a run; None = ``folder``.

    Raises:
        DataError: as :func:`read_scores`; embeddings missing, or not those of the scores.
    """
    table = read_scores(folder)
    items: dict[Modality, Items] = {}
    embeddings: dict[Modality, NDArray[np.float32]] = {}
    for modality in MODALITIES:
        items[modality], embeddings[modality] = _read_items((home or folder) / "embeddings", modality)
        rows = table[f"{modality}_row"]
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(items[modality]):
            raise DataError(
                f"run {folder}: scores.parquet names {modality} {rows.max()}, embeddings has {len(items[modality])}"
            )
    cells, scores, refined = {}, {}, {}
    for name, part in table.groupby("cell", sort=False):
        cells[str(name)] = _cell(str(name), part, folder)
        scores[str(name)] = part["distance"].to_numpy(np.float64)
        if not part["refined"].isna().all():
            refined[str(name)] = part["refined"].to_numpy(np.float64)
    evaluation = EvaluationSet(items["voice"], items["face"], cells)
    return SavedRun(folder, evaluation, scores, refined, embeddings, *_read_more(folder / "results.json"))


def write_reference(folder: Path, reference: Reference, seen_tests: Sequence[str] = ()) -> None:
    """``embeddings/reference.npz`` of a run folder: the training identities that steps are calibrated on.

    Args:
        folder: the run folder.
        reference: their embedded clips.
        seen_tests: names of the test conditions that are made of training identities.
    """
    (folder / "embeddings").mkdir(exist_ok=True)
    arrays = {f"voice_{space}": x for space, x in reference.voices.items()}
    arrays |= {f"face_{space}": x for space, x in reference.faces.items()}
    known = {name: getattr(reference, name) for name in REFERENCE}
    known[SEEN_TESTS] = np.array(seen_tests, dtype=np.str_)
    np.savez(folder / "embeddings" / "reference.npz", **arrays, **known)  # type: ignore[arg-type]


def read_reference(folder: Path) -> Reference:
    """Reads back what :func:`write_reference` wrote.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    path = folder / "embeddings" / "reference.npz"
    try:
        with np.load(path, allow_pickle=False) as saved:
            arrays = dict(saved)
        if "met" in arrays:  # what runs of earlier versions call ``seen``
            arrays["seen"] = arrays.pop("met")
        known = [arrays.pop(name) for name in REFERENCE]
    except (OSError, ValueError, EOFError, KeyError, BadZipFile) as error:
        why = "no such file" if not path.is_file() else one_line(error)
        raise DataError(
            f"{path}: {why}; a step learns from training identities: "
            f"first run test --config {folder / 'config.yaml'} --ckpt_path best --postproc.keep_reference true "
            f"--run_dir {folder}"
        ) from error
    sides = ({k.removeprefix(f"{m}_"): x for k, x in arrays.items() if k.startswith(f"{m}_")} for m in MODALITIES)
    voices, faces = sides
    return Reference(voices, faces, *known)


def read_seen_tests(folder: Path) -> list[str]:
    """Names of the test conditions that are made of training identities; none in runs of earlier versions."""
    with np.load(folder / "embeddings" / "reference.npz", allow_pickle=False) as saved:
        return list(saved[SEEN_TESTS].tolist()) if SEEN_TESTS in saved else []


def _cell(name: str, part: pd.DataFrame, folder: Path) -> Cell:
    labels = None if part["label"].isna().any() else part["label"].to_numpy(np.int8)
    keys, voices, faces = (part[column].to_numpy(dtype=np.str_) for column in ("key", "voice", "face"))
    trials = Trials(keys, voices, faces, labels, str(folder / "scores.parquet"))
    voice_rows, face_rows = (part[f"{modality}_row"].to_numpy(np.int64) for modality in MODALITIES)
    return Cell(name, str(part["language"].iloc[0]), trials, voice_rows, face_rows)


def _read_more(path: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Records of matching and retrieval, and names of trusted weights; none where nothing had labels."""
    if not path.is_file():
        return {}, []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return dict(content.get("tasks", {})), [str(name) for name in content.get(TRUSTED, [])]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{path}: {one_line(error)}; run test again") from error


def _read_items(folder: Path, modality: Modality) -> tuple[Items, NDArray[np.float32]]:
    path = folder / f"{modality}s.npy"
    try:
        index = pd.read_csv(folder / f"{modality}s.csv", dtype=str, keep_default_na=False)
        embeddings = np.load(path, allow_pickle=False)
        features = folder / f"{modality}s_input.npy"
        inputs = np.load(features, allow_pickle=False) if features.is_file() else None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: {one_line(error)}; run test again") from error
    for array in (embeddings, inputs):
        if array is not None and len(array) != len(index):
            raise DataError(f"{path}: {len(array)} rows, but {modality}s.csv names {len(index)}; run test again")
    columns = {column: index[column].to_numpy(dtype=np.str_) for column in ("item", *INDEX)}
    return Items(columns.pop("item"), **columns, features=inputs), embeddings


def trained_on(config: Mapping[str, Any], languages: Mapping[str, str]) -> str:
    """Training languages of a run; where its config names none, that of ``heard``, else ``all``.

    Args:
        config: its config.yaml.
        languages: test language by test condition.
    """
    named = (config["data"].get("init_args") or {}).get("train_languages") or languages.get("heard") or "all"
    return "+".join(named) if isinstance(named, list) else str(named)
