"""Numbers of a protocol: means, spread over folds, paired differences, bootstrap over identities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.runs.people import COLUMNS, Replicates
from experiments.runs.rates import RATES, paired
from experiments.runs.records import NOT_CELLS
from experiments.runs.results import conditions_of_sizes

Record = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Outcome:
    """Results of one fit or fusion, with one refinement.

    Attributes:
        method: name in the protocol.
        config: the config of the train language.
        fold: number of the fold of held-out identities.
        seed: seed of the fit.
        results: content of results.json.
        strategy: name of the refinement.
        languages: train and test language by test condition: ``English→Urdu``.
        people: rows of people.csv.
        replicates: bootstrap EERs over identities by test condition and stage.
        selection: what cross-validation on training identities found of alternatives (:class:`postproc.Selected`);
            None without.
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
    selection: Record | None = None

    def cells(self, lists: str) -> list[str]:
        """Names of the test conditions of a set of trial lists."""
        return [name for name in self.results if _is_cell(name) and lists_of(name) == lists]


def lists_of(cell: str) -> str:
    """The set of trial lists of a test condition: ``balanced`` of ``balanced/heard``, ``main`` of ``heard``."""
    return cell.rpartition("/")[0] or "main"


def _condition(cell: str) -> str:
    """The test condition without its trial lists: ``heard`` of ``balanced/heard``."""
    return cell.rpartition("/")[2]


def _is_cell(name: str) -> bool:
    return name.rpartition("/")[2] not in ("overall", *NOT_CELLS)


def summarise_protocol(outcomes: Sequence[Outcome]) -> list[Record]:
    """One record per method, refinement and set of trial lists.

    A fold gives one value: the mean over train languages, test conditions and seeds. ``mean`` and ``sd`` are over
    folds, because fits of one fold share test identities. If there is only one fold, each seed gives one
    value. ``change`` is refined minus raw with its 95 % t-interval.

    Returns:
        Records with ``method``, ``strategy``, ``lists``, ``folds``, ``fits``; for each rate {mean, sd}; ``heard`` and
        ``unheard`` {raw, refined}; ``conditions`` and ``cells``: raw and refined {mean, sd} by test condition and by
        ``train→test`` language; ``change`` {mean, low, high}; ``people``: :func:`people_intervals`; ``per_fold``
        {raw, refined}; ``selection``: :func:`selection_of`; ``sizes_tell``: test conditions that have as many voices
        as faces of each identity.
    """
    records = []
    for method, strategy in dict.fromkeys((o.method, o.strategy) for o in outcomes):
        group = [o for o in outcomes if (o.method, o.strategy) == (method, strategy)]
        for lists in dict.fromkeys(lists_of(name) for name in group[0].results if _is_cell(name)):
            by_fold = {rate: _by_fold(group, lists, key) for rate, key in RATES.items()}
            raw, refined = by_fold["raw"], by_fold["refined"]
            record: Record = {"method": method, "strategy": strategy, "lists": lists, "fits": len(group)}
            record |= {"folds": sorted({o.fold for o in group})}
            record |= {rate: _mean_sd(values) for rate, values in by_fold.items()}
            for condition in ("heard", "unheard"):
                pair = _pair(group, lists, lambda o, cell: _condition(cell), condition)
                record[condition] = {stage: None if v is None else v["mean"] for stage, v in pair.items()}
            names = dict.fromkeys(_condition(cell) for o in group for cell in o.cells(lists))
            record["conditions"] = {name: _pair(group, lists, lambda o, cell: _condition(cell), name) for name in names}
            pairs = dict.fromkeys(o.languages[cell] for o in group for cell in o.cells(lists) if cell in o.languages)
            record["cells"] = {
                label: _pair(group, lists, lambda o, cell: o.languages.get(cell), label) for label in pairs
            }
            record["change"] = None if raw is None or refined is None else paired(refined - raw)
            record["people"] = people_intervals(group, lists)
            record["selection"] = selection_of(group)
            told = dict.fromkeys(name for o in group for name in conditions_of_sizes(o.results))
            record["sizes_tell"] = [name for name in told if _is_cell(name) and lists_of(name) == lists]
            kept = {"raw": raw, "refined": refined}
            record["per_fold"] = {rate: None if v is None else v.tolist() for rate, v in kept.items()}
            records.append(record)
    return records


def selection_of(outcomes: Sequence[Outcome]) -> dict[str, Record]:
    """What cross-validation on training identities found, by alternative; empty where no step chose among several.

    Returns:
        ``mean`` and ``sd`` over fits of the EER on test sets of training identities; ``chosen``, by how many fits.
    """
    found = [o.selection for o in outcomes if o.selection]
    names = dict.fromkeys(name for each in found for name in each["eer"])
    return {
        name: {
            **(_mean_sd(np.array([each["eer"][name] for each in found if name in each["eer"]])) or {}),
            "chosen": sum(each["chosen"] == name for each in found),
        }
        for name in names
    }


def _pair(outcomes: Sequence[Outcome], lists: str, kind_of: Callable[[Outcome, str], str | None], kind: str) -> Record:
    """Raw and refined {mean, sd} of the test conditions of a kind."""

    def keep(o: Outcome, cell: str) -> bool:
        return kind_of(o, cell) == kind

    return {stage: _mean_sd(_by_fold(outcomes, lists, RATES[stage], keep)) for stage in ("raw", "refined")}


def _by_fold(
    outcomes: Sequence[Outcome], lists: str, key: str, keep: Callable[[Outcome, str], bool] = lambda o, cell: True
) -> NDArray[np.float64] | None:
    """Mean of a rate within each fold, or within each seed if there is only one fold: (folds or seeds,)."""
    one_fold = len({o.fold for o in outcomes}) == 1
    values: dict[int, list[Any]] = {}
    for o in outcomes:
        rates = [o.results[cell].get(key) for cell in o.cells(lists) if keep(o, cell)]
        values.setdefault(o.seed if one_fold else o.fold, []).extend(rates)
    if any(not column or None in column for column in values.values()):
        return None
    return np.array([np.mean(values[unit]) for unit in sorted(values)])


def _mean_sd(values: NDArray[np.float64] | None) -> dict[str, float | None] | None:
    if values is None:
        return None
    return {"mean": float(values.mean()), "sd": float(values.std(ddof=1)) if len(values) > 1 else None}


def people_intervals(outcomes: Sequence[Outcome], lists: str) -> dict[str, list[float] | None]:
    """95 % percentile intervals of the overall EERs from a bootstrap over identities: raw, refined, change.

    Identities are drawn within each fold, the same ones for all its test conditions and fits (:func:`replicates_of`).
    Replicates are averaged like EERs: over test conditions and seeds, then over folds. Replicates in which a test
    condition has only one label are ignored.

    Returns:
        [low, high] as fractions; None if identities are unknown.
    """
    overall: dict[str, NDArray[np.float64]] = {}
    for stage in ("raw", "refined"):
        folds = []
        for fold in sorted({o.fold for o in outcomes}):
            fits = [o for o in outcomes if o.fold == fold]
            rates = [o.replicates.get((cell, stage)) for o in fits for cell in o.cells(lists)]
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
    """A row per method, refinement, set of trial lists and identity: EER of the trials of the identity's voices.

    ``raw`` and ``refined`` are means over test conditions, train languages and seeds; ``cells`` counts the values.
    """
    frames = []
    for o in outcomes:
        frame = o.people.assign(method=o.method, strategy=o.strategy, lists=o.people["cell"].map(lists_of))
        frames.append(frame)
    keys = ["method", "strategy", "lists", "identity", "gender"]
    grouped = pd.concat(frames, ignore_index=True).groupby(keys, sort=False)
    return grouped.agg(cells=("raw", "size"), raw=("raw", "mean"), refined=("refined", "mean")).reset_index()
