"""Tables of a protocol for the terminal and as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from experiments.console.tables import NameTable, percent
from experiments.protocol.numbers import Record
from experiments.runs.rates import RATES
from experiments.runs.results import sizes_sentence

HARDEST = 8  # identities in the printed table


def protocol_tables(records: Sequence[Record], people: pd.DataFrame) -> list[NameTable]:
    """Tables in percent: overall, by train and test language, and the identities with the highest EER.

    Test conditions of other names than heard and unheard have a table, too; a single pair of languages has none. So has
    each refinement that cross-validation on training identities chose among several.
    """
    tables = [_overall(records)]
    if len(_labels(records, "cells")) > 1:
        tables.append(_by(records, "cells", "train→test language"))
    if set(_labels(records, "conditions")) - {"heard", "unheard"}:
        tables.append(_by(records, "conditions", "test condition"))
    tables += [_selection(record) for record in records if record.get("selection") and record["lists"] == "main"]
    if len(people):
        tables.append(_people(people))
    return tables


def _table(title: str, words: Sequence[str], numbers: Sequence[str]) -> NameTable:
    table = NameTable(title=title, title_justify="left")
    for column in words:
        table.add_column(column, no_wrap=True)
    for column in numbers:
        table.add_column(column, justify="right", no_wrap=len(column) < 24)
    return table


def _overall(records: Sequence[Record]) -> NameTable:
    title = "EER in %, mean over languages and seeds (standard deviation over folds; of one fold, over seeds). Refined "
    title += (
        "scores are transductive. 95 % intervals: t over folds (of one fold, over seeds), or bootstrap over identities"
    )
    numbers = ["raw", "refined", "same-gender", "refined s-g", "gender only", "chance"]
    numbers += ["refined - raw (folds)", "(identities)", "refined (identities)", "fits"]
    table = _table(title, ["method", "strategy", "lists"], numbers)
    for i, record in enumerate(records):
        rates = [_mean_sd(record[rate]) for rate in RATES]
        intervals = [_bounds(record["people"][stage], sign) for stage, sign in (("change", "+"), ("refined", ""))]
        row = [*_names(record), *rates, _interval(record["change"]), *intervals, str(record["fits"])]
        table.add_row(*row, end_section=_ends(records, i))
    told = dict.fromkeys(name for record in records if record["refined"] for name in record["sizes_tell"])
    table.caption = sizes_sentence([*told])
    return table


def _labels(records: Sequence[Record], key: str) -> list[str]:
    return list(dict.fromkeys(label for record in records for label in record[key]))


def _by(records: Sequence[Record], key: str, words: str) -> NameTable:
    """Raw and refined EERs of each language pair or test condition."""
    labels = _labels(records, key)
    numbers = [f"{label}, {stage}" for label in labels for stage in ("raw", "ref.")]
    title = f"EER in % by {words} (standard deviation over folds; of one fold, over seeds)"
    table = _table(title, ["method", "strategy", "lists"], numbers)
    for i, record in enumerate(records):
        pairs = [record[key].get(label, {"raw": None, "refined": None}) for label in labels]
        table.add_row(
            *_names(record), *(_mean_sd(v) for pair in pairs for v in pair.values()), end_section=_ends(records, i)
        )
    return table


def _selection(record: Record) -> NameTable:
    """EERs of alternatives in cross-validation on training identities."""
    title = f"{record['method']}, {record['strategy']}: EER in % in cross-validation on training identities, mean over "
    title += "fits (standard deviation over fits, which share training identities)"
    table = _table(title, ["alternative"], ["EER", "chosen by fits"])
    for name, value in record["selection"].items():
        table.add_row(name, _mean_sd(value), str(value["chosen"]))
    return table


def _people(people: pd.DataFrame) -> NameTable:
    """The identities with the highest EER on the main lists, means over methods; a column per refinement."""
    main = people[people["lists"] == people["lists"].iloc[0]]
    strategies = list(dict.fromkeys(main["strategy"]))
    means = main.groupby(["identity", "gender"])["raw"].mean().sort_values(ascending=False)
    refined = main.groupby(["identity", "gender", "strategy"])["refined"].mean()
    shown = min(HARDEST, len(means))
    title = f"EER in % of the trials of an identity's voices, mean over methods: the highest {shown} of {len(means)}"
    table = _table(title, ["identity", "gender"], ["raw", *strategies])
    for (name, gender), raw in means.head(HARDEST).items():
        values = [raw, *(refined.get((name, gender, strategy)) for strategy in strategies)]
        table.add_row(name, gender, *map(percent, values))
    return table


def protocol_csv(records: Sequence[Record]) -> pd.DataFrame:
    """A row per record, as fractions.

    Columns: names; mean and standard deviation of every rate, language pair and test condition; change and its interval
    over folds, or over the seeds of one fold; intervals over identities.
    """
    rows = []
    for record in records:
        row: dict[str, Any] = {name: record[name] for name in ("method", "strategy", "lists", "fits")}
        spreads = {rate: record[rate] for rate in RATES}
        spreads |= {
            f"{label} {stage}": v
            for key in ("cells", "conditions")
            for label, pair in record[key].items()
            for stage, v in pair.items()
        }
        for name, spread in spreads.items():
            row |= {name: spread and spread["mean"], f"{name}_sd": spread and spread["sd"]}
        change = record["change"] or dict.fromkeys(("mean", "low", "high"))
        row |= {"change": change["mean"], "change_low": change["low"], "change_high": change["high"]}
        for stage, bounds in record["people"].items():
            low, high = bounds or (None, None)
            row |= {f"{stage}_people_low": low, f"{stage}_people_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def _names(record: Record) -> list[str]:
    return [record["method"], record["strategy"], record["lists"]]


def _ends(records: Sequence[Record], i: int) -> bool:
    return i + 1 == len(records) or records[i + 1]["method"] != records[i]["method"]


def _mean_sd(value: dict[str, float | None] | None) -> str:
    if value is None:
        return "-"
    return percent(value["mean"]) + ("" if value["sd"] is None else f" ({percent(value['sd'])})")


def _interval(change: dict[str, float | None] | None) -> str:
    if change is None or change["mean"] is None:
        return "-"
    text = f"{100 * change['mean']:+.1f}"
    return text if change["low"] is None else f"{text} {_bounds([change['low'], change['high'] or 0], '+')}"


def _bounds(bounds: Sequence[float] | None, sign: str) -> str:
    return "-" if bounds is None else f"[{100 * bounds[0]:{sign}.1f}, {100 * bounds[1]:{sign}.1f}]"
