"""Finds run folders and reads them for the report."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datamodules.io.documents import damaged, read_json, read_mapping
from datamodules.io.text import counted, plain_file
from datamodules.schema import DataError, one_line
from experiments.report.digest import Digest, digest
from experiments.runs.folder import OWN, REFINED
from experiments.runs.records import read_records
from experiments.runs.saved import read_run, trained_on

# settings in which runs of one method may differ: identities, languages and seeds
AXES = re.compile(
    r"data\.(init_args\.)?(sets\.[^.]+\.(init_args\.)?)?(train_languages|val_languages|test|.*_identities|.*seed)(\.|$)"
)


@dataclass(frozen=True, eq=False)
class ReportRun:
    """A tested run.

    Attributes:
        folder: the run folder.
        config: its config.yaml.
        results: its results.json.
        method: short name of the method; runs of one method differ only in identities, languages and seed.
        train: train languages; where the config names none, that of the test condition ``heard``, else ``all``.
        fold: ``vars.fold`` of the config, if it has one; of a grouped run the fold that was tested.
        seed: ``seed_everything``.
        digest: summary of its scores, items and traces.
        history: a row per epoch (``epoch``, ``train/loss``, ``val/eer`` ...); None if there is no history.csv.
        environment: environment.json; None if there is none.
        strategy: refinement of the scores: ``own`` = by the run's config, others were applied to the saved scores.
        test_set: number of the test set in the report.
        full_name: the method with network, refinement and settings that tell it from others.
    """

    folder: Path
    config: dict[str, Any]
    results: dict[str, dict[str, Any]]
    method: str
    train: str
    fold: Any
    seed: int | None
    digest: Digest
    history: pd.DataFrame | None
    environment: dict[str, Any] | None
    strategy: str = OWN
    test_set: int = 0
    full_name: str = ""

    @property
    def home(self) -> Path:
        """The run folder."""
        return home_of(self.folder)


def home_of(folder: Path) -> Path:
    """The run folder of a folder with results, which is the run folder or ``refined/NAME`` in it."""
    return folder.parents[1] if folder.parent.name == REFINED else folder


def find_runs(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Run folders at or below the paths: tested ones, and those without results.

    Raises:
        DataError: a path does not exist, or there is no tested run.
    """
    tested: dict[Path, None] = {}
    unfinished: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            raise DataError(f"run {path}: no such folder")
        below = sorted({file.parent for name in ("config.yaml", "command.json") for file in path.rglob(name)})
        # W&B writes another config.yaml inside the run folder
        for folder in (folder for folder in below if "wandb" not in folder.relative_to(path).parts):
            done = (folder / "results.json").is_file() and (folder / "config.yaml").is_file()
            (tested if done else unfinished)[folder.resolve()] = None
    if not tested:
        what = f"{counted(len(unfinished), 'run')}, none tested" if unfinished else "no run folders"
        raise DataError(f"run {paths[0]}: {what}; a run folder has config.yaml and results.json (fit, test)")
    return list(tested), list(unfinished)


def read_runs(folders: Sequence[Path]) -> Iterator[ReportRun | DataError]:
    """Reads tested runs, one at a time; their methods have no names yet.

    One damaged run of many must not cost the report of the others: its error takes its place.
    """
    for folder in folders:
        try:
            yield _read_run(folder)
        except (DataError, OSError) as error:
            yield _as_error(folder, error)


def _as_error(folder: Path, error: DataError | OSError) -> DataError:
    return error if isinstance(error, DataError) else DataError(f"run {folder}: {one_line(error)}; run test again")


def _read_run(folder: Path) -> ReportRun:
    with damaged(f"run {folder}", "run test again"):
        config, results = read_run_config(folder / "config.yaml"), _read(read_records, folder / "results.json")
        summary = digest(read_run(folder), _read_traces(folder / "refinement.json"))
        environment = _read(read_json, folder / "environment.json", {})
        return ReportRun(
            folder=folder,
            config=config,
            results=results,
            method="",
            train=trained_on(config, summary.languages),
            fold=(config.get("vars") or {}).get("fold"),
            seed=config.get("seed_everything"),
            digest=summary,
            history=_read_history(folder / "history.csv"),
            environment=environment if isinstance(environment, dict) and environment else None,
        )


def main_conditions(run: ReportRun) -> list[str]:
    """Labelled test conditions of the main trial lists; if all have the name of a list, all of them."""
    labelled = [name for name in run.digest.trials if name in run.results]
    return [name for name in labelled if "/" not in name] or labelled


def options(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a ``class_path`` + ``init_args`` entry."""
    arguments: dict[str, Any] = spec.get("init_args") or {}
    return arguments


def flatten(value: Any, name: str = "") -> dict[str, Any]:
    """Values of nested mappings and lists by dotted name."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if not parts:
        return {name: value}
    return {k: v for key, part in parts for k, v in flatten(part, f"{name}.{key}" if name else str(key)).items()}


def read_run_config(path: Path) -> dict[str, Any]:
    """The config.yaml of a run, of which the report reads these keys.

    Raises:
        DataError: missing, unreadable, or a key of another type than a run writes; names the key.
    """
    config = read_mapping(path, "run test again")
    model, data = config.get("model"), config.get("data")
    network = options(model).get("network") if _is_spec(model) else None  # type: ignore[arg-type]
    strategy, variables = config.get("postproc"), config.get("vars")
    steps = strategy.get("steps") if isinstance(strategy, dict) else None
    tested = options(data) if _is_spec(data) else {}  # type: ignore[arg-type]
    languages = tested.get("train_languages")
    checks = {
        "model": _is_spec(model),
        "model.network": not isinstance(network, dict) or _is_spec(network),
        "data": _is_spec(data),
        "data.train_languages": all(isinstance(x, str) for x in (languages if isinstance(languages, list) else [""])),
        "data.test": _is_mapping(tested.get("test")),
        "trainer": _is_mapping(config.get("trainer")),
        "vars": _is_mapping(variables),
        "vars.fold": not isinstance(variables, dict) or _is_plain(variables.get("fold")),
        "seed_everything": _is_plain(config.get("seed_everything")),
        "postproc": _is_mapping(strategy),
        "postproc.steps": steps is None or (isinstance(steps, list) and all(map(_is_spec, steps))),
    }
    if wrong := [key for key, right in checks.items() if not right]:
        raise DataError(f"{path}: {wrong[0]} is missing or not what a run writes; run test again")
    return config


def _is_spec(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("class_path"), str) and _is_mapping(value.get("init_args"))


def _is_mapping(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and all(isinstance(key, str) for key in value))


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str) or (isinstance(value, int) and abs(value) < 2**63)


def _read(reader: Callable[[Path], Any], path: Path, default: Any = None) -> Any:
    """What a reader gives for a file, and for a missing one the default if there is one."""
    if default is not None and not path.exists():
        return default
    try:
        return reader(path)
    except DataError as error:
        raise DataError(str(error) if str(error).endswith("run test again") else f"{error}; run test again") from error


def _read_traces(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The traces of refinement.json by test condition.

    Raises:
        DataError: missing, unreadable, or what is drawn of them is not what a step writes.
    """
    traces = _read(read_json, path)
    named = isinstance(traces, dict) and all(isinstance(steps, list) for steps in traces.values())
    steps: list[Any] = [step for steps in traces.values() for step in steps] if named else [None]
    try:
        for step in steps:
            for curve in (step.get("elbow") or {}).values():
                numbers = [int(number) for number in curve["total_distance"]]
                totals = np.array(list(curve["total_distance"].values()), dtype=np.float64)
                if not isinstance(curve["chosen"], int) or totals.shape != (len(numbers),):
                    raise ValueError("elbow")
            for matrix in step.get("similarity") or ():
                if np.asarray(matrix, dtype=np.float64).ndim != 2:
                    raise ValueError("similarity")
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise DataError(f"{path}: holds no traces of refinement steps by test condition; run test again") from error
    return dict(traces)


def _read_history(path: Path) -> pd.DataFrame | None:
    remedy = "delete it for a report without curves"
    if not plain_file(path, remedy=remedy).exists():
        return None
    with damaged(str(path), remedy):
        table = pd.read_csv(path)
    numeric = table.empty or all(kind.kind in "iufb" for kind in table.dtypes)
    if "epoch" not in table or not numeric or not np.isfinite(table["epoch"].astype(float)).all():
        raise DataError(f"{path}: unreadable (expected numbers by epoch); {remedy}")
    return table


def read_refined(paths: Sequence[Path], runs: Sequence[ReportRun]) -> Iterator[ReportRun | DataError]:
    """Refinements of the saved scores of runs, and fusions of runs, as further runs.

    The results of a refinement are in ``refined/NAME`` of the run. A fusion has a folder like the runs of a method
    (``FUSION/CONFIG/foldF-seedS``), and the same trials as the runs of the same config, fold and seed. Everything but
    ``folder``, ``method``, ``strategy`` and ``results`` is copied from the run.

    Args:
        paths: paths of :func:`find_runs`.
        runs: the runs in them, with complete method names.

    Yields:
        Each of them, or the error of its results.json.
    """
    by_folder = {run.folder: run for run in runs}
    by_plan = {_plan(run.folder): run for run in runs}
    for file in sorted({file.resolve() for path in paths for file in path.rglob("results.json")}):
        folder = file.parent
        home = home_of(folder)
        strategy = OWN if folder == home else folder.name
        run, similar = by_folder.get(home), by_plan.get(_plan(home))
        try:
            if run is not None and strategy != OWN:
                yield replace(run, folder=folder, strategy=strategy, results=_read(read_records, file))
            elif run is None and similar is not None:
                fusion, results = home.parents[1].name, _read(read_records, file)
                yield replace(similar, folder=folder, method=fusion, strategy=strategy, results=results)
        except DataError as error:
            yield error


def _plan(run: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the paths of a protocol's runs share if they have the same config, fold and seed but different methods."""
    return run.parts[:-3], run.parts[-2:]
