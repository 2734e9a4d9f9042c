"""Tables of the report, and their text as Markdown, CSV and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from experiments.console.tables import defused, percent
from experiments.report.numbers import (
    Published,
    Spread,
    Verdict,
    counts_of,
    lead_lists,
    scope_of,
    scopes_of,
    spread,
    stages_of,
    verdict,
)
from experiments.runs.folder import OWN
from experiments.runs.rates import RATES

Value = str | int | float | Spread | Verdict | None
MARKDOWN = re.compile(r"[\\`*_\[\]<>|&~]")
"""Characters that Markdown reads as markup."""

SIGNS = str.maketrans({"→": r"$\to$", "·": r"$\cdot$", "±": r"$\pm$", "≈": r"$\approx$"})
"""Signs of the tables that LaTeX knows in math mode only."""

LATEX = str.maketrans({c: rf"\{c}" for c in "&%$#_{}"} | {"~": r"\textasciitilde ", "^": r"\textasciicircum "})
LATEX |= {ord("\\"): r"\textbackslash "}


@dataclass(frozen=True)
class Table:
    """A table of the report.

    Attributes:
        name: anchor in the page.
        title: text above the table.
        columns: headings.
        rows: values; floats are rates as fractions, printed in percent.
        words: number of columns at the left that hold text.
    """

    name: str
    title: str
    columns: list[str]
    rows: list[list[Value]]
    words: int = 1


def text_of(cell: Value) -> str:
    """Text of a value: rates in percent as ``mean (sd)``, a verdict with its interval, ``-`` for None."""
    if cell is None:
        return "-"
    if isinstance(cell, Spread):
        return percent(cell.mean) + (f" ({percent(cell.sd)})" if cell.sd is not None else "")
    if isinstance(cell, Verdict):
        interval = "" if cell.low is None else f" [{100 * cell.low:+.1f}, {100 * (cell.high or 0):+.1f}]"
        return f"{100 * cell.mean:+.1f}{interval} {cell.words}"
    return percent(cell) if isinstance(cell, float) else str(cell)


def sort_key(cell: Value) -> str:
    """What a browser sorts a value by: a plain number if it is one. Empty text sorts last."""
    if isinstance(cell, Spread | Verdict):
        return f"{cell.mean:.6f}"
    return "" if cell is None else str(cell)


def answer_table(table: pd.DataFrame, unit: str, records: Iterable[Published]) -> Table:
    """A row per method with EERs and controls by test condition, overall, same gender; then rows of the papers.

    Args:
        table: :func:`experiments.report.numbers.long_table` of one test set.
        unit: ``fold`` or ``seed``.
        records: published figures of the same test.
    """
    main, scopes, stages = lead_lists(table), scopes_of(table), stages_of(table)
    columns = ["method", *(f"{scope} {stage}" for scope in scopes for stage in stages)]
    columns += ["same-gender raw", "same-gender refined", "gender only", "chance"]
    columns += ["minus gender only", "same-gender minus 50", f"{unit}s"]
    counts = counts_of(main)
    rows: list[list[Value]] = []
    for method in main["method"].unique():
        part = main[main["method"] == method]
        row: list[Value] = [method]
        row += [spread(scope_of(part, scope), stage) for scope in scopes for stage in stages]
        final = "raw" if spread(part, "refined") is None else "refined"
        row += [spread(part, rate) for rate in ("same_gender", "refined_same_gender", "gender_only", "chance")]
        row += [verdict(part, final, "gender_only")]
        row += [verdict(part, "same_gender" if final == "raw" else "refined_same_gender", 0.5)]
        rows.append([*row, int(counts[method])])
    for record in records:
        final = "final" if "final" in record.overall else "refined"
        shown = ("raw", final)[: len(stages)]
        values = [record.scope(scope, stage) for scope in scopes for stage in shown]
        rows.append([f"{record.name}, {record.source}, official test", *values, *[None] * 7])
    return without_empty(Table("answer", "EER and controls by method", columns, rows))


def language_table(table: pd.DataFrame, languages: list[str], records: Iterable[Published]) -> Table:
    """EER by train and test language and overall, a row per method and stage as in [SCC] Table 2; papers first.

    Args:
        table: :func:`experiments.report.numbers.long_table` of one test set.
        languages: the two languages of the papers; none without records.
        records: published figures of the same test. Without them, a single pair of languages leaves no rows.
    """
    pairs = [(a, b) for a in languages for b in languages]
    pairs += list(table[["train", "test"]].drop_duplicates().itertuples(index=False, name=None))
    pairs = list(dict.fromkeys(pairs))
    rows: list[list[Value]] = []
    for record in records:
        for stage, overall in record.overall.items():
            values = record.cells.get(stage, (None,) * 4)
            rows.append([*_by(record), stage, *values, *[None] * (len(pairs) - 4), overall])
    for method in table["method"].unique() if len(pairs) > 1 else ():
        for lists in table["lists"].unique():
            part = table[(table["method"] == method) & (table["lists"] == lists)]
            for stage in ("raw", "refined"):
                if spread(part, stage) is None:
                    continue
                cells = [spread(part[(part["train"] == a) & (part["test"] == b)], stage) for a, b in pairs]
                rows.append([method, f"ours, {lists}", stage, *cells, spread(part, stage)])
    columns = ["method", "lists", "scores", *(f"{a} → {b}" for a, b in pairs), "overall"]
    return Table("table2", "Train language → test language", columns, rows, words=3)


def _by(record: Published) -> list[Value]:
    return [f"{record.name}, {record.source}", "official test"]


def condition_table(table: pd.DataFrame) -> Table:
    """A row per method, set of trial lists and test condition, if some condition has no column of its own."""
    columns = ["method", "lists", "test condition", "raw", "refined", "same-gender raw", "same-gender refined"]
    columns += ["gender only", "chance", "trials per run"]
    rows: list[list[Value]] = []
    if set(table["condition"]) - set(scopes_of(table)):
        for (method, lists, condition), part in table.groupby(["method", "lists", "condition"], sort=False):
            rates = [spread(part, rate) for rate in RATES]
            rows.append([str(method), str(lists), str(condition), *rates, _trials(part)])
    return without_empty(Table("conditions", "EER by test condition", columns, rows, words=3))


def _trials(table: pd.DataFrame) -> int:
    """Trials of a run, mean over runs."""
    return int(table.groupby("run")["trials"].sum().mean().round())


def without_empty(table: Table) -> Table:
    """The table without columns that hold nothing."""
    kept = [i for i in range(len(table.columns)) if i < table.words or any(row[i] is not None for row in table.rows)]
    columns, rows = [table.columns[i] for i in kept], [[row[i] for i in kept] for row in table.rows]
    return replace(table, columns=columns, rows=rows)


def control_table(table: pd.DataFrame) -> Table:
    """A row per method and set of trial lists: overall and same-gender EER, change by refinement, both controls."""
    columns = ["method", "lists", "raw", "refined", "refined - raw", "same-gender raw", "same-gender refined"]
    rows: list[list[Value]] = []
    for (method, lists), part in table.groupby(["method", "lists"], sort=False):
        change = verdict(part, "refined", "raw")
        names = ("same_gender", "refined_same_gender", "gender_only", "chance")
        first = [str(method), str(lists), spread(part, "raw"), spread(part, "refined"), change]
        rows.append([*first, *(spread(part, name) for name in names), _trials(part)])
    columns += ["gender only", "chance", "trials per run"]
    return without_empty(Table("controls", "All trial lists and controls", columns, rows, words=2))


def refinement_table(table: pd.DataFrame, everything: pd.DataFrame) -> Table:
    """Raw scores and every refinement, by method or fusion and set of trial lists; changes are paired by fold.

    Args:
        table: :func:`long_table` of the runs.
        everything: the same with refinements and fusions of the runs. Methods without any are left out.
    """
    rows: list[list[Value]] = []
    scopes = scopes_of(table)
    fitted = set(table["method"])
    for (method, lists), group in everything.groupby(["method", "lists"], sort=False):
        if method in fitted and set(group["strategy"]) == {OWN}:
            continue
        raw = group.drop_duplicates(["run", "condition"])  # every strategy has the same raw scores
        for strategy, part in (("raw", raw), *group.groupby("strategy")):
            stage, same = ("raw", "same_gender") if strategy == "raw" else ("refined", "refined_same_gender")
            if spread(part, stage) is None:
                continue
            rates = [spread(scope_of(part, scope), stage) for scope in scopes]
            change = None if strategy == "raw" else verdict(part, "refined", "raw")
            others = [spread(part, same), change, verdict(part, stage, "gender_only"), int(part["run"].nunique())]
            rows.append([str(method), str(lists), str(strategy), *rates, *others])
    columns = ["method", "lists", "scores", *scopes, "same-gender", "refined - raw", "minus gender only", "fits"]
    return Table("refinements", "Refinements", columns, rows, words=3)


def people_table(people: pd.DataFrame) -> Table:
    """A row per identity: raw and refined EER of the trials of its voices by method, mean over runs and languages."""
    methods = list(people["method"].unique())
    columns = [
        "identity",
        "gender",
        "runs",
        *(f"{method}, {stage}" for method in methods for stage in ("raw", "refined")),
    ]
    rows: list[list[Value]] = []
    for (identity, gender), part in people.groupby(["identity", "gender"]):
        means = part.groupby("method")[["raw", "refined"]].mean()
        row: list[Value] = [str(identity), str(gender), int(part["run"].nunique())]
        for method in methods:
            for stage in ("raw", "refined"):
                value = means[stage].get(method)
                row.append(None if value is None or pd.isna(value) else float(value))
        rows.append(row)
    return without_empty(Table("people", "EER by identity", columns, rows, words=2))


def cluster_table(clusters: pd.DataFrame) -> Table:
    """Means of ``cluster_quality`` over runs and languages (main trial lists), a row per method and modality."""
    kinds = ["clusters", "gender_purity", "identity_purity", "identity_ari"]
    rows: list[list[Value]] = []
    for method, part in clusters.groupby("method", sort=False):
        for modality in ("voice", "face"):
            values = [part.get(f"{modality}_{kind}", pd.Series(dtype=float)).mean() for kind in kinds]
            shown = [f"{values[0]:.1f}", *(f"{value:.2f}" for value in values[1:])]
            rows.append([str(method), modality, *("-" if text == "nan" else text for text in shown)])
    columns = ["method", "modality", "identity clusters", "gender purity", "identity purity", "adjusted Rand index"]
    return Table("clusters", "Agreement of clusters with genders and identities", columns, rows, words=2)


def to_markdown(parts: Mapping[str, Sequence[Table]], caveats: Mapping[str, str]) -> str:
    """Tables under headings, by test set, after what is to be known of them."""
    text = []
    for name, tables in parts.items():
        text += [f"# {_markdown(name)}", *filter(None, [_markdown(caveats[name])])]
        for table in tables:
            align = ["left"] * table.words + ["right"] * (len(table.columns) - table.words)
            body = _frame(table, _markdown).to_markdown(index=False, disable_numparse=True, colalign=align)
            text.append(f"## {_markdown(table.title)}\n\n{body}")
    return "\n\n".join(text) + "\n"


def _markdown(text: str) -> str:
    return MARKDOWN.sub(r"\\\g<0>", " ".join(text.split()))


def to_latex(parts: Mapping[str, Sequence[Table]], caveats: Mapping[str, str]) -> str:
    """Tables for the packages booktabs and amssymb; captions name the test set, a comment says what is to be known."""
    text = []
    for number, (name, tables) in enumerate(parts.items()):
        text += [f"% {name}: {caveats[name]}".translate(SIGNS)] if caveats[name] else []
        for table in tables:
            style = _frame(table).style.hide(axis="index")
            style = style.format(escape="latex").format_index(escape="latex", axis="columns")
            made = style.to_latex(
                column_format="l" * table.words + "r" * (len(table.columns) - table.words),
                caption=rf"{f'{table.title}, {name}'.translate(LATEX)}. EER in \%, mean (standard deviation).",
                label=f"tab:{table.name}{f'-{number + 1}' if len(parts) > 1 else ''}",
                position_float="centering",
                hrules=True,
            )
            text.append(made.translate(SIGNS))
    return "\n".join(text)


def _frame(table: Table, escape: Callable[[str], str] = str) -> pd.DataFrame:
    rows = [[escape(" ".join(text_of(cell).split())) for cell in row] for row in table.rows]
    return pd.DataFrame(rows, columns=[escape(column) for column in table.columns])


def to_csv(table: pd.DataFrame) -> str:
    """The long table: a row per run, refinement and test condition; rates are fractions.

    Text that a spreadsheet would read as a formula gets an apostrophe in front.
    """
    columns: list[Any] = ["run", "folder", "method", "strategy", "train", "test", "lists", "condition", "unit", "seed"]
    table = table.assign(run=table.groupby(["test_set", "run"], sort=False).ngroup())
    chosen = table[[*columns, "test_set", "trials", *RATES]]
    return str(chosen.map(defused).to_csv(index=False))
