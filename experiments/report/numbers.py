"""The report's numbers: one long table of all cells, means with spread over folds, verdicts against the controls."""

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

SCOPES = ("heard", "unheard", "overall")
BETTER, WORSE, OPEN, ALONE = "better", "worse", "not told apart", "one value, no interval"


@dataclass(frozen=True)
class Spread:
    """A rate (0..1) as mean and standard deviation over ``count`` folds (or seeds); sd None for one."""

    mean: float
    sd: float | None
    count: int


@dataclass(frozen=True)
class Verdict:
    """A rate less a control: mean and 95 % t-interval over folds (None for one), and in words."""

    mean: float
    low: float | None
    high: float | None
    words: str


def unit_of(runs: Sequence[ReportRun]) -> str:
    """What a spread is over: ``fold`` where held-out people vary (fits of one fold share theirs), else ``seed``."""
    return "fold" if len({run.fold for run in runs}) > 1 else "seed"


def long_table(runs: Sequence[ReportRun]) -> pd.DataFrame:
    """A row per run, strategy and cell: ``run`` (number of the run folder), ``folder``, ``method``, ``strategy``,
    ``train``, ``test``, ``lists``, ``condition``, ``unit`` (fold or seed), ``seed``, ``trials`` and the rates of
    ``protocol_table.RATES``, NaN where unknown.
    """
    unit, rows = unit_of(runs), []
    numbers = {home: number for number, home in enumerate(dict.fromkeys(run.home for run in runs))}
    for run in runs:
        for cell, language in run.digest.languages.items():
            if cell not in run.results:
                continue
            record = run.results[cell]
            lists, _, condition = cell.rpartition("/")
            row = {"run": numbers[run.home], "folder": str(run.folder), "method": run.method, "strategy": run.strategy}
            row |= {"train": run.train, "test": language}
            row |= {"lists": lists or "main", "condition": condition, "unit": getattr(run, unit), "seed": run.seed}
            row |= {"trials": record["trials"]}
            rows.append(row | {rate: record.get(key) for rate, key in RATES.items()})
    table = pd.DataFrame(rows)
    table["unit"] = table["unit"].fillna(-1)
    return table.astype(dict.fromkeys(RATES, float))


def by_rate(table: pd.DataFrame) -> list[str]:
    """Methods by their overall EER on the main lists, refined where there is one: an order to read in, no choice."""
    main = table[table["lists"] == "main"]
    final = main["refined"].fillna(main["raw"])
    names = list(final.groupby(main["method"]).mean().sort_values().index)
    return [*names, *(name for name in dict.fromkeys(table["method"]) if name not in names)]


def scope_of(table: pd.DataFrame, scope: str) -> pd.DataFrame:
    """The cells of a condition; ``overall`` is all of them."""
    return table if scope == "overall" else table[table["condition"] == scope]


def by_unit(table: pd.DataFrame, rate: str) -> pd.Series:
    """Mean of a rate over all cells, languages and seeds of each fold; empty where some cell has none."""
    if table.empty or table[rate].isna().any():
        return pd.Series(dtype=float)
    return table.groupby("unit")[rate].mean()


def spread(table: pd.DataFrame, rate: str) -> Spread | None:
    """Mean and sd over folds of :func:`by_unit`."""
    values = by_unit(table, rate)
    if values.empty:
        return None
    return Spread(float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else None, len(values))


def verdict(table: pd.DataFrame, rate: str, control: str | float) -> Verdict | None:
    """Whether a rate is better than a control, paired by fold: the 95 % t-interval leaves out 0, or it does not."""
    values = by_unit(table, rate)
    against = by_unit(table, control) if isinstance(control, str) else control
    if values.empty or (isinstance(against, pd.Series) and against.empty):
        return None
    found = paired((values - against).to_numpy())
    mean, low, high = found["mean"], found["low"], found["high"]
    assert mean is not None
    if low is None or high is None:
        return Verdict(mean, None, None, ALONE)
    return Verdict(mean, low, high, BETTER if high < 0 else WORSE if low > 0 else OPEN)


@dataclass(frozen=True)
class Published:
    """A record of ``published.yaml``: by stage (``raw``, ``refined``; ``final`` where the source does not say) the
    overall EER as printed and the cells E->E, E->X, X->E, X->X where stated, as fractions.
    """

    version: str
    name: str
    source: str
    overall: dict[str, float]
    cells: dict[str, tuple[float, ...]]

    def scope(self, scope: str, stage: str) -> float | None:
        """Heard = mean of E->E and X->X, unheard = mean of the other two; ``overall`` as printed."""
        if scope == "overall":
            return self.overall.get(stage)
        if stage not in self.cells:
            return None
        return float(np.mean([self.cells[stage][i] for i in ((0, 3) if scope == "heard" else (1, 2))]))


def published() -> tuple[dict[str, list[str]], list[Published]]:
    """Languages by version, and the records."""
    content: dict[str, Any] = yaml.safe_load(
        resources.files("experiments.report").joinpath("published.yaml").read_text(encoding="utf-8")
    )
    records = []
    for record in content["records"]:
        stages = {stage: record[stage] for stage in ("raw", "refined", "final") if stage in record}
        overall = {stage: found["overall"] / 100 for stage, found in stages.items()}
        cells = {s: tuple(x / 100 for x in found["cells"]) for s, found in stages.items() if "cells" in found}
        records.append(Published(record["version"], record["name"], record["source"], overall, cells))
    return content["versions"], records


def version_of(table: pd.DataFrame) -> str | None:
    """The MAV-Celeb version whose two languages are those of the runs, else None."""
    spoken = set(table["test"]) | {language for train in set(table["train"]) for language in train.split("+")}
    return next((name for name, languages in published()[0].items() if set(languages) == spoken), None)
