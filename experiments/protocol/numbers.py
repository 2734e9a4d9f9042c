"""The protocol's numbers: means over cells and seeds, spread over folds, paired differences, other people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.runs.people import COLUMNS, Replicates
from experiments.runs.rates import RATES, paired

Record = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Outcome:
    """The results of one fit, refined by one strategy, or of a fusion of fits.

    Attributes:
        method: name in the protocol.
        config: one per train language.
        fold: of held-out people.
        seed: of the fit.
        results: results.json.
        strategy: name of the refinement.
        languages: train and test language by cell: ``English→Urdu``.
        people: rows of people.csv.
        replicates: EERs had other people been drawn, by cell and stage.
    """

    method: str
    config: str
    fold: int
    seed: int
    results: dict[str, dict[str, Any]]
    strategy: str = "own"
    languages: dict[str, str] = field(default_factory=dict)
    people: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(COLUMNS)))
    replicates: Replicates = field(default_factory=dict)

    def cells(self, lists: str) -> list[str]:
        """Names of the cells of a set of lists."""
        return [name for name in self.results if _is_cell(name) and lists_of(name) == lists]


def lists_of(cell: str) -> str:
    """``balanced`` of ``balanced/heard``, ``main`` of ``heard``."""
    return cell.rpartition("/")[0] or "main"


def _is_cell(name: str) -> bool:
    return name.rpartition("/")[2] not in ("overall", "alignment", "tasks")


def summarise_protocol(outcomes: Sequence[Outcome]) -> list[Record]:
    """One record per method, strategy and set of lists.

    The unit is the fold: the mean over train languages, cells and seeds. ``mean`` and ``sd`` are over folds, because
    fits of one fold share their test people; where there is one fold only, the seed is the unit. ``change`` is refined
    minus raw with its 95 % t-interval over units.

    Returns:
        Records with ``method``, ``strategy``, ``lists``, ``folds``, ``fits``; for each rate {mean, sd}; ``heard`` and
        ``unheard`` {raw, refined}; ``cells``: raw and refined {mean, sd} by ``train→test`` language; ``change``
        {mean, low, high}; ``people``: :func:`people_intervals`; ``per_fold`` {raw, refined}.
    """
    records = []
    for method, strategy in dict.fromkeys((o.method, o.strategy) for o in outcomes):
        mine = [o for o in outcomes if (o.method, o.strategy) == (method, strategy)]
        for lists in dict.fromkeys(lists_of(name) for name in mine[0].results if _is_cell(name)):
            by_fold = {rate: _by_fold(mine, lists, key) for rate, key in RATES.items()}
            raw, refined = by_fold["raw"], by_fold["refined"]
            record: Record = {"method": method, "strategy": strategy, "lists": lists, "fits": len(mine)}
            record |= {"folds": sorted({o.fold for o in mine})}
            record |= {rate: _mean_sd(values) for rate, values in by_fold.items()}
            for condition in ("heard", "unheard"):
                pair = _pair(mine, lists, lambda o, cell: cell.rpartition("/")[2], condition)
                record[condition] = {stage: None if v is None else v["mean"] for stage, v in pair.items()}
            spoken = dict.fromkeys(o.languages[cell] for o in mine for cell in o.cells(lists) if cell in o.languages)
            record["cells"] = {
                label: _pair(mine, lists, lambda o, cell: o.languages.get(cell), label) for label in spoken
            }
            record["change"] = None if raw is None or refined is None else paired(refined - raw)
            record["people"] = people_intervals(mine, lists)
            kept = {"raw": raw, "refined": refined}
            record["per_fold"] = {rate: None if v is None else v.tolist() for rate, v in kept.items()}
            records.append(record)
    return records


def _pair(outcomes: Sequence[Outcome], lists: str, kind: Callable[[Outcome, str], str | None], wanted: str) -> Record:
    """Raw and refined {mean, sd} of the cells of the wanted kind."""

    def keep(o: Outcome, cell: str) -> bool:
        return kind(o, cell) == wanted

    return {stage: _mean_sd(_by_fold(outcomes, lists, RATES[stage], keep)) for stage in ("raw", "refined")}


def _by_fold(
    outcomes: Sequence[Outcome], lists: str, key: str, keep: Callable[[Outcome, str], bool] = lambda o, cell: True
) -> NDArray[np.float64] | None:
    """Mean of a rate over everything within each fold, or within each seed where there is one fold: (units,)."""
    one_fold = len({o.fold for o in outcomes}) == 1
    values: dict[int, list[Any]] = {}
    for o in outcomes:
        found = [o.results[cell].get(key) for cell in o.cells(lists) if keep(o, cell)]
        values.setdefault(o.seed if one_fold else o.fold, []).extend(found)
    if any(not column or None in column for column in values.values()):
        return None
    return np.array([np.mean(values[unit]) for unit in sorted(values)])


def _mean_sd(values: NDArray[np.float64] | None) -> dict[str, float | None] | None:
    if values is None:
        return None
    return {"mean": float(values.mean()), "sd": float(values.std(ddof=1)) if len(values) > 1 else None}


def people_intervals(outcomes: Sequence[Outcome], lists: str) -> dict[str, list[float] | None]:
    """95 % percentile intervals of the overall EERs when other people had been drawn: raw, refined, change.

    People are drawn within each fold, alike for all its cells and fits (:func:`replicates_of`); a replicate is averaged
    as the EERs are: over cells and seeds, then over folds. Replicates that leave a cell with one class do not count.

    Returns:
        [low, high] as fractions; None where people are not known.
    """
    overall: dict[str, NDArray[np.float64]] = {}
    for stage in ("raw", "refined"):
        folds = []
        for fold in sorted({o.fold for o in outcomes}):
            here = [o for o in outcomes if o.fold == fold]
            rates = [o.replicates.get((cell, stage)) for o in here for cell in o.cells(lists)]
            if rates and all(r is not None for r in rates):
                folds.append(np.mean(rates, axis=0))  # type: ignore[arg-type]
        if len(folds) == len({o.fold for o in outcomes}):
            overall[stage] = np.mean(folds, axis=0)
    if len(overall) == 2:
        overall["change"] = overall["refined"] - overall["raw"]
    return {stage: _interval(overall.get(stage)) for stage in ("raw", "refined", "change")}


def _interval(rates: NDArray[np.float64] | None) -> list[float] | None:
    if rates is None or not np.isfinite(rates).any():
        return None
    return [float(x) for x in np.nanquantile(rates, [0.025, 0.975])]


def per_identity(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """A row per method, strategy, lists and person: EER over the trials of their voices, raw and refined.

    ``raw`` and ``refined`` are means over cells, train languages and seeds; ``cells`` says over how many.
    """
    frames = []
    for o in outcomes:
        frame = o.people.assign(method=o.method, strategy=o.strategy, lists=o.people["cell"].map(lists_of))
        frames.append(frame)
    keys = ["method", "strategy", "lists", "identity", "gender"]
    grouped = pd.concat(frames, ignore_index=True).groupby(keys, sort=False)
    return grouped.agg(cells=("raw", "size"), raw=("raw", "mean"), refined=("refined", "mean")).reset_index()
