"""The protocol's numbers: means over cells and seeds, spread over folds, paired differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table
from scipy import stats

RATES = {
    "raw": "eer",
    "refined": "eer_refined",
    "same_gender": "eer_same_gender",
    "refined_same_gender": "eer_same_gender_refined",
    "gender_only": "eer_gender_only",
    "chance": "eer_chance",
}


@dataclass(frozen=True)
class Outcome:
    """The results of one fit: ``results`` is its results.json."""

    method: str
    config: str
    fold: int
    seed: int
    results: dict[str, dict[str, Any]]


def summarise_protocol(outcomes: list[Outcome]) -> list[dict[str, Any]]:
    """One record per method and set of lists.

    The unit is the fold: the mean over train languages, cells and seeds. ``mean`` and ``sd`` are over folds, because
    fits of one fold share their test people; where there is one fold only, the seed is the unit. ``change`` is refined
    minus raw with its 95 % t-interval.

    Returns:
        Records with ``method``, ``lists``, ``folds``, ``fits``; for each rate {mean, sd}; ``heard`` and ``unheard``
        {raw, refined}; ``change`` {mean, low, high}; ``per_fold`` {raw, refined}.
    """
    records = []
    for method in dict.fromkeys(o.method for o in outcomes):
        mine = [o for o in outcomes if o.method == method]
        names = [name for name in mine[0].results if name.rpartition("/")[2] not in ("overall", "alignment", "tasks")]
        for lists in dict.fromkeys(name.rpartition("/")[0] for name in names):
            cells = [name for name in names if name.rpartition("/")[0] == lists]
            record: dict[str, Any] = {"method": method, "lists": lists or "main", "fits": len(mine)}
            record["folds"] = sorted({o.fold for o in mine})
            by_fold = {rate: _by_fold(mine, cells, key) for rate, key in RATES.items()}
            for rate, values in by_fold.items():
                record[rate] = None if values is None else {"mean": float(values.mean()), "sd": _sd(values)}
            for condition in ("heard", "unheard"):
                part = [c for c in cells if c.rpartition("/")[2] == condition]
                pair = {rate: _by_fold(mine, part, RATES[rate]) for rate in ("raw", "refined")}
                record[condition] = {r: None if v is None else float(v.mean()) for r, v in pair.items()}
            raw, refined = by_fold["raw"], by_fold["refined"]
            record["change"] = None if raw is None or refined is None else paired(refined - raw)
            kept = {"raw": raw, "refined": refined}
            record["per_fold"] = {rate: None if v is None else v.tolist() for rate, v in kept.items()}
            records.append(record)
    return records


def _by_fold(outcomes: list[Outcome], cells: list[str], key: str) -> np.ndarray | None:
    """Mean of a rate over everything within each fold, or within each seed where there is one fold: (units,)."""
    unit_of = {id(o): o.fold if len({o.fold for o in outcomes}) > 1 else o.seed for o in outcomes}
    units = sorted(set(unit_of.values()))
    values: dict[int, list[Any]] = {
        u: [o.results[c].get(key) for o in outcomes if unit_of[id(o)] == u for c in cells] for u in units
    }
    if not cells or any(v is None for column in values.values() for v in column):
        return None
    return np.array([np.mean(values[u]) for u in units])


def _sd(values: np.ndarray) -> float | None:
    return float(values.std(ddof=1)) if len(values) > 1 else None


def paired(differences: np.ndarray) -> dict[str, float | None]:
    """``mean``, ``low`` and ``high`` of the 95 % t-interval of paired differences (folds,); no interval for one."""
    mean, n = float(differences.mean()), len(differences)
    if n < 2:
        return {"mean": mean, "low": None, "high": None}
    half = float(stats.t.ppf(0.975, n - 1) * differences.std(ddof=1) / np.sqrt(n))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def protocol_table(summary: list[dict[str, Any]]) -> Table:
    """The printed table, EERs in percent: mean (sd over folds)."""
    table = Table(title="EER in %: mean over cells and seeds (sd over folds, or seeds of one); refined is transductive")
    table.add_column("method", no_wrap=True)
    table.add_column("lists")
    columns = ["raw", "refined", "same-gender", "refined s-g", "gender only", "chance", "refined - raw [95 %]"]
    for column in [*columns, "heard raw/ref", "unheard raw/ref", "fits"]:
        table.add_column(column, justify="right", no_wrap=True)
    for i, record in enumerate(summary):
        rates = [_mean_sd(record[rate]) for rate in RATES]
        parts = [_pair(record["heard"]), _pair(record["unheard"])]
        last = i + 1 == len(summary) or summary[i + 1]["method"] != record["method"]
        row = [record["method"], record["lists"], *rates, _interval(record["change"]), *parts, str(record["fits"])]
        table.add_row(*row, end_section=last)
    return table


def _mean_sd(value: dict[str, float] | None) -> str:
    if value is None:
        return "-"
    return f"{100 * value['mean']:.1f}" + ("" if value["sd"] is None else f" ({100 * value['sd']:.1f})")


def _interval(change: dict[str, float] | None) -> str:
    if change is None:
        return "-"
    text = f"{100 * change['mean']:+.1f}"
    return text if change["low"] is None else f"{text} [{100 * change['low']:+.1f}, {100 * change['high']:+.1f}]"


def _pair(values: dict[str, float | None]) -> str:
    return "/".join("-" if v is None else f"{100 * v:.1f}" for v in values.values())
