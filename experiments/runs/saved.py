"""Reads back what a test left in a run folder: scores, items, embeddings. No model, no data config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from datamodules.io.documents import check_letters, open_arrays, read_array
from datamodules.io.identities import read_estimates
from datamodules.io.tables import read_parquet
from datamodules.io.text import plain_file
from datamodules.io.writing import make_folder, write_arrays
from datamodules.schema import MODALITIES, Cell, DataError, EvaluationSet, Items, Modality, Trials, one_line
from experiments.runs.records import TRUSTED, UNLABELLED, read_records
from postproc.cells import ESTIMATES
from postproc.reference import Reference

INDEX = ("identity", "language", "gender", "video")
REFERENCE_FILE = Path("embeddings", "reference.npz")
REFERENCE = ("identity", "language", "gender", "seen")
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
        unlabelled: data sets of training clips of which nothing says the language, where an unheard one was tested.
    """

    folder: Path
    evaluation: EvaluationSet
    scores: dict[str, NDArray[np.float64]]
    refined: dict[str, NDArray[np.float64]]
    embeddings: dict[Modality, NDArray[np.float32]]
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    trusted: list[str] = field(default_factory=list)
    unlabelled: list[str] = field(default_factory=list)

    @property
    def notes(self) -> dict[str, list[str]]:
        """What results.json states beside the records."""
        return {key: names for key, names in ((TRUSTED, self.trusted), (UNLABELLED, self.unlabelled)) if names}


def read_scores(folder: Path) -> pd.DataFrame:
    """The table of scores.parquet, trials in list order.

    Raises:
        DataError: no such folder or file, unreadable, or written without the columns needed here.
    """
    path = folder / "scores.parquet"
    if not path.is_file():
        what = "no such run folder" if not folder.is_dir() else "no scores.parquet in it; run test or predict"
        raise DataError(f"run {folder}: {what}")
    table = read_parquet(path)
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise DataError(f"{path}: has no column {missing[0]}; run test again")
    if wrong := _wrong_column(table):
        raise DataError(f"{path}: column {wrong} holds what no test writes; run test again")
    return table


def _wrong_column(table: pd.DataFrame) -> str | None:
    """The first column of scores.parquet with values of another kind."""
    for column in ("cell", "language", "key", "voice", "face") if len(table) else ():
        if not pd.api.types.is_string_dtype(table[column].dropna()) or table[column].isna().any():
            return column
    for column in ("label", "distance", "refined", "voice_row", "face_row") if len(table) else ():
        values = table[column]
        known = values.dropna()
        if column in ("label", "refined") and known.empty:
            continue
        whole = column in ("label", "voice_row", "face_row")
        if not (pd.api.types.is_integer_dtype if whole else pd.api.types.is_float_dtype)(values):
            return column
        if (column == "label" and not known.isin([0, 1]).all()) or (column.endswith("_row") and (known < 0).any()):
            return column
        if column in ("distance", "refined") and np.isinf(known.to_numpy(np.float64)).any():
            return column
    return None


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
    make_folder(folder / "embeddings")
    arrays = {f"voice_{space}": x for space, x in reference.voices.items()}
    arrays |= {f"face_{space}": x for space, x in reference.faces.items()}
    known = {name: getattr(reference, name) for name in REFERENCE}
    known[SEEN_TESTS] = np.array(seen_tests, dtype=np.str_)
    write_arrays(folder / REFERENCE_FILE, **arrays, **known)


def read_reference(folder: Path) -> Reference:
    """Reads back what :func:`write_reference` wrote.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    path = folder / REFERENCE_FILE
    remedy = (
        "a step learns from training identities: "
        f"first run test {folder} --postproc.keep_reference true --run_dir {folder}"
    )
    with open_arrays(path, remedy) as saved:
        arrays = dict(saved)
        for array in arrays.values():
            check_letters(array)
    if "met" in arrays:  # what runs of earlier versions call ``seen``
        arrays["seen"] = arrays.pop("met")
    voices, faces = (
        {k.removeprefix(f"{m}_"): x for k, x in arrays.items() if k.startswith(f"{m}_")} for m in MODALITIES
    )
    known = {name: arrays[name] for name in REFERENCE if name in arrays}
    rows = len(known["identity"]) if known.get("identity", np.empty(())).ndim else -1
    kinds = {"seen": "b"} | dict.fromkeys(REFERENCE[:3], "U")
    right = (
        set(voices) - {ESTIMATES} == set(faces) - {ESTIMATES} >= {"model"}
        and len(known) == len(REFERENCE)
        and all(x.shape == (rows,) and x.dtype.kind == kinds[name] for name, x in known.items())
        and all(x.ndim == 2 and x.dtype.kind == "f" and len(x) == rows for x in (*voices.values(), *faces.values()))
    )
    if not right:
        raise DataError(f"{path}: holds what no test writes; {remedy}")
    return Reference(voices, faces, *known.values())


def read_seen_tests(folder: Path) -> list[str]:
    """Names of the test conditions that are made of training identities; none in runs of earlier versions."""
    with open_arrays(folder / REFERENCE_FILE, "run test again") as saved:
        names = saved[SEEN_TESTS] if SEEN_TESTS in saved else np.empty(0, np.str_)
        check_letters(names)
        return list(names.tolist())


def _cell(name: str, part: pd.DataFrame, folder: Path) -> Cell:
    labels = None if part["label"].isna().any() else part["label"].to_numpy(np.int8)
    keys, voices, faces = (part[column].to_numpy(dtype=np.str_) for column in ("key", "voice", "face"))
    trials = Trials(keys, voices, faces, labels, str(folder / "scores.parquet"))
    voice_rows, face_rows = (part[f"{modality}_row"].to_numpy(np.int64) for modality in MODALITIES)
    return Cell(name, str(part["language"].iloc[0]), trials, voice_rows, face_rows)


def _read_more(path: Path) -> tuple[dict[str, dict[str, Any]], list[str], list[str]]:
    """Records of matching and retrieval, trusted weights, unlabelled data sets; none where nothing had labels."""
    if not path.is_file():
        return {}, [], []
    content = read_records(path)
    return content.get("tasks", {}), content.get(TRUSTED, []), content.get(UNLABELLED, [])


def _read_items(folder: Path, modality: Modality) -> tuple[Items, NDArray[np.float32]]:
    path = folder / f"{modality}s.csv"
    plain_file(path, remedy="run test again")
    try:
        index = pd.read_csv(path, dtype=str, keep_default_na=False)
        columns = {column: index[column].to_numpy(dtype=np.str_) for column in ("item", *INDEX)}
        attributes = read_estimates(index, str(path))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: {one_line(error, 120)}; run test again") from error
    inputs = folder / f"{modality}s_input.npy"
    embeddings = _read_array(folder / f"{modality}s.npy", len(index))
    features = _read_array(inputs, len(index)) if inputs.is_file() else None
    return Items(columns.pop("item"), **columns, features=features, attributes=attributes), embeddings


def _read_array(path: Path, rows: int) -> NDArray[np.float32]:
    """Embeddings (n, d), one of each row of the CSV beside them."""
    array = read_array(path, "run test again")
    if array.ndim != 2 or array.dtype.kind != "f" or not array.shape[1]:
        raise DataError(f"{path}: expected numbers (n, d), found {array.dtype} {array.shape}; run test again")
    if len(array) != rows:
        raise DataError(f"{path}: {len(array)} rows, but its CSV names {rows}; run test again")
    if not np.isfinite(array).all():
        raise DataError(f"{path}: holds NaN or inf; run test again")
    return array


def trained_on(config: Mapping[str, Any], languages: Mapping[str, str]) -> str:
    """Training languages of a run; where its config names none, that of ``heard``, else ``all``.

    Args:
        config: its config.yaml.
        languages: test language by test condition.
    """
    options = tested_set(config["data"]).get("init_args") or {}
    named = options.get("train_languages") or languages.get("heard") or "all"
    return "+".join(named) if isinstance(named, list) else str(named)


def tested_set(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of a joint data module that tests one of its sets the data config of that set; other configs stay.

    Args:
        data: the key ``data`` of a config.yaml.
    """
    options = data.get("init_args") or {}
    sets, tests = options.get("sets"), options.get("test")
    if not isinstance(sets, dict) or not isinstance(tests, dict):
        return data
    places = {name: _place(name, test) for name, test in tests.items()}
    if len({of for of, _ in places.values()} & set(sets)) != 1 or len({of for of, _ in places.values()}) != 1:
        return data
    chosen = sets[next(iter(places.values()))[0]]
    its = (chosen.get("init_args") or {}) if isinstance(chosen, dict) else {}
    own = its.get("test") or {}
    named = {
        name: own.get(at, tests[name]) if isinstance(own, dict) else tests[name] for name, (_, at) in places.items()
    }
    return {**chosen, "init_args": {**its, "test": named}} if isinstance(chosen, dict) else data


def _place(name: str, test: Any) -> tuple[str, str]:
    """Set and name in it of a test condition of a joint data module."""
    if isinstance(test, dict):
        return str(test.get("set")), name
    of, _, own = str(test).partition("/")
    return of, own
