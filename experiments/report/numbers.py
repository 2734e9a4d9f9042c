"""Numbers of the report: one long table of all results, means and spreads over folds, comparisons with controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd
import yaml

from experiments.report.runs import ReportRun
from experiments.runs.rates import RATES, paired

MOST_CONDITIONS = 4
"""Test conditions that get a column of their own; of more, only the mean does."""
BETTER, WORSE, OPEN, SINGLE = "better", "worse", "not significant", "one value, no interval"


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of a rate (0..1) over ``count`` folds or seeds; sd is None for one value."""

    mean: float
    sd: float | None
    count: int


@dataclass(frozen=True)
class Verdict:
    """Difference of a rate and a control: mean, 95 % t-interval over folds (None for one value), and a word for it."""

    mean: float
    low: float | None
    high: float | None
    words: str


def long_table(runs: Sequence[ReportRun]) -> pd.DataFrame:
    """A row per run, refinement and test condition.

    Columns: ``run`` (number of the run folder), ``folder``, ``method``, ``strategy`` (the refinement), ``train``,
    ``test`` (languages; ``all`` if unknown), ``test_set`` (number), ``lists``, ``condition``, ``unit`` (fold or seed),
    ``seed``, ``trials``, and the rates of :data:`experiments.runs.rates.RATES` as fractions, NaN if unknown.
    """
    rows = []
    numbers = {home: number for number, home in enumerate(dict.fromkeys(run.home for run in runs))}
    for run in runs:
        for cell, language in run.digest.languages.items():
            if cell not in run.results:
                continue
            record = run.results[cell]
            lists, _, condition = cell.rpartition("/")
            row = {"run": numbers[run.home], "folder": str(run.folder), "method": run.method, "strategy": run.strategy}
            row |= {"train": run.train, "test": language or "all", "test_set": run.test_set}
            row |= {"lists": lists or "main", "condition": condition}
            row |= {"unit": run.seed if run.fold is None else run.fold, "seed": run.seed}
            row |= {"trials": record["trials"]}
            rows.append(row | {rate: record.get(key) for rate, key in RATES.items()})
    table = pd.DataFrame(rows)
    table["unit"] = table["unit"].fillna(-1)
    return table.astype(dict.fromkeys(RATES, float))


def lead_lists(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the main trial lists; where all lists have names, those of the first."""
    lists = set(table["lists"])
    return table[table["lists"] == ("main" if "main" in lists else table["lists"].iloc[0])]


def by_rate(table: pd.DataFrame) -> list[str]:
    """Methods in the order of their overall EER on the main lists, refined if available."""
    main = lead_lists(table)
    final = main["refined"].fillna(main["raw"])
    names = list(final.groupby(main["method"]).mean().sort_values().index)
    return [*names, *(name for name in dict.fromkeys(table["method"]) if name not in names)]


def conditions_of(table: pd.DataFrame) -> list[str]:
    """Test conditions of the main trial lists; heard and unheard first."""
    names = list(dict.fromkeys(lead_lists(table)["condition"]))
    return sorted(names, key=lambda name: ("heard", "unheard", name).index(name))


def scopes_of(table: pd.DataFrame) -> list[str]:
    """What has a column of its own: test conditions and, where there are several, their mean, ``overall``."""
    conditions = conditions_of(table)
    if len(conditions) == 1:
        return conditions
    return ["overall"] if len(conditions) > MOST_CONDITIONS else [*conditions, "overall"]


def scope_of(table: pd.DataFrame, scope: str) -> pd.DataFrame:
    """Rows of a test condition; ``overall`` = all rows."""
    return table if scope == "overall" else table[table["condition"] == scope]


def stages_of(table: pd.DataFrame) -> tuple[str, ...]:
    """``raw`` and, if any score is refined, ``refined``."""
    return ("raw", "refined") if table["refined"].notna().any() else ("raw",)


def counts_of(table: pd.DataFrame) -> pd.Series:
    """Number of folds or seeds by method."""
    return table.groupby("method", sort=False)["unit"].nunique()


def by_unit(table: pd.DataFrame, rate: str) -> pd.Series:
    """Mean of a rate in each fold, over test conditions, languages and seeds; empty if a row has no such rate."""
    if table.empty or table[rate].isna().any():
        return pd.Series(dtype=float)
    return table.groupby("unit")[rate].mean()


def spread(table: pd.DataFrame, rate: str) -> Spread | None:
    """Mean and standard deviation of :func:`by_unit` over folds; None if the rate is unknown."""
    values = by_unit(table, rate)
    if values.empty:
        return None
    return Spread(float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else None, len(values))


def verdict(table: pd.DataFrame, rate: str, control: str | float) -> Verdict | None:
    """Compares a rate with a control, paired by fold: better or worse if the 95 % t-interval excludes 0.

    Equal values, as of the seeds of a method that draws nothing, are one value.
    """
    values = by_unit(table, rate)
    against = by_unit(table, control) if isinstance(control, str) else control
    if values.empty or (isinstance(against, pd.Series) and against.empty):
        return None
    differences = (values - against).to_numpy()
    interval = paired(differences if np.ptp(differences) else differences[:1])
    mean, low, high = interval["mean"], interval["low"], interval["high"]
    assert mean is not None
    if low is None or high is None:
        return Verdict(mean, None, None, SINGLE)
    return Verdict(mean, low, high, BETTER if high < 0 else WORSE if low > 0 else OPEN)


@dataclass(frozen=True)
class Published:
    """Published EERs (fractions) on the official test set: a record of ``published.yaml``.

    Attributes:
        version: version of MAV-Celeb.
        name: the method.
        source: the paper or challenge.
        overall: overall EER by stage: ``raw``, ``refined``, or ``final`` if the source does not say which.
        cells: EERs of E->E, E->X, X->E, X->X (train -> test language) by stage, if published.
    """

    version: str
    name: str
    source: str
    overall: dict[str, float]
    cells: dict[str, tuple[float, ...]]

    def scope(self, scope: str, stage: str) -> float | None:
        """EER of a scope: heard = mean of E->E and X->X, unheard = mean of the others, overall as printed."""
        if scope == "overall":
            return self.overall.get(stage)
        if stage not in self.cells or scope not in ("heard", "unheard"):
            return None
        return float(np.mean([self.cells[stage][i] for i in ((0, 3) if scope == "heard" else (1, 2))]))


def published() -> tuple[dict[str, list[str]], list[Published]]:
    """Languages by version of MAV-Celeb, and the published records."""
    content: dict[str, Any] = yaml.safe_load(
        resources.files("experiments.report").joinpath("published.yaml").read_text(encoding="utf-8")
    )
    records = []
    for record in content["records"]:
        stages: dict[str, Any] = {stage: record[stage] for stage in ("raw", "refined", "final") if stage in record}
        overall = {stage: rates["overall"] / 100 for stage, rates in stages.items()}
        cells = {s: tuple(x / 100 for x in rates["cells"]) for s, rates in stages.items() if "cells" in rates}
        records.append(Published(record["version"], record["name"], record["source"], overall, cells))
    return content["versions"], records


def languages_of(version: str) -> list[str]:
    """The two languages of a version of MAV-Celeb of which figures are published."""
    return published()[0].get(version, [])


def records_of(version: str | None) -> list[Published]:
    """Published records of a MAV-Celeb version."""
    return [record for record in published()[1] if record.version == version]
