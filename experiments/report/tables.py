"""The report's tables, and their text as Markdown, CSV and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from experiments.report.numbers import SCOPES, Published, Spread, Verdict, scope_of, spread, verdict
from experiments.runs.folder import OWN
from experiments.runs.rates import RATES

Cell = str | int | float | Spread | Verdict | None
LATEX = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "→": r"$\to$", "·": r"$\cdot$", "±": r"$\pm$"}


@dataclass(frozen=True)
class Table:
    """A table of the report.

    Attributes:
        name: its anchor.
        title: above it.
        columns: headings.
        rows: cells; floats are rates as fractions, printed in percent.
        words: how many columns from the left hold words.
    """

    name: str
    title: str
    columns: list[str]
    rows: list[list[Cell]]
    words: int = 1


def text_of(cell: Cell) -> str:
    """How a cell prints: rates in percent, ``mean (sd)``; a verdict with its interval; ``-`` for nothing."""
    if cell is None:
        return "-"
    if isinstance(cell, Spread):
        return _percent(cell.mean) + (f" ({_percent(cell.sd)})" if cell.sd is not None else "")
    if isinstance(cell, Verdict):
        interval = "" if cell.low is None else f" [{100 * cell.low:+.1f}, {100 * (cell.high or 0):+.1f}]"
        return f"{100 * cell.mean:+.1f}{interval} {cell.words}"
    return _percent(cell) if isinstance(cell, float) else str(cell)


def sort_key(cell: Cell) -> str:
    """What a browser sorts the cell by: a plain number where there is one; nothing sorts last."""
    if isinstance(cell, Spread | Verdict):
        return f"{cell.mean:.6f}"
    return "" if cell is None else str(cell)


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def answer_table(table: pd.DataFrame, records: Iterable[Published], lists: str = "main") -> Table:
    """Per method: heard, unheard and overall EER, raw and refined, same-gender EER, controls; then the papers."""
    columns = ["method"]
    columns += [f"{scope} {stage}" for scope in SCOPES for stage in ("raw", "refined")]
    columns += [
        "same-gender raw",
        "same-gender refined",
        "gender alone",
        "chance",
        "against gender alone",
        "same-gender against 50",
    ]
    rows: list[list[Cell]] = []
    table = table[table["lists"] == lists]
    for method in table["method"].unique():
        mine = table[table["method"] == method]
        row: list[Cell] = [method]
        row += [spread(scope_of(mine, scope), stage) for scope in SCOPES for stage in ("raw", "refined")]
        final = "raw" if spread(mine, "refined") is None else "refined"
        row += [spread(mine, rate) for rate in ("same_gender", "refined_same_gender", "gender_only", "chance")]
        row += [verdict(mine, final, "gender_only")]
        row += [verdict(mine, "same_gender" if final == "raw" else "refined_same_gender", 0.5)]
        rows.append(row)
    for record in records:
        stages = ("raw", "final" if "final" in record.overall else "refined")
        values = [record.scope(scope, stage) for scope in SCOPES for stage in stages]
        rows.append([f"{record.name}, {record.source}, official test", *values, *[None] * 6])
    return Table("answer", "Heard and unheard, raw and refined", columns, rows)


def language_table(table: pd.DataFrame, version: tuple[str, list[str]] | None, records: Iterable[Published]) -> Table:
    """The paper's Table 2: train language -> test language and overall, a row per method and stage; papers first."""
    trains, tests = list(table["train"].unique()), list(table["test"].unique())
    if version:
        trains = tests = version[1]
    pairs = [(a, b) for a in trains for b in tests if version or ((table["train"] == a) & (table["test"] == b)).any()]
    rows: list[list[Cell]] = []
    for record in records:
        for stage, overall in record.overall.items():
            values = record.cells.get(stage, (None,) * len(pairs))
            rows.append([f"{record.name}, {record.source}", "official test", stage, *values, overall])
    for method in table["method"].unique():
        for lists in table["lists"].unique():
            mine = table[(table["method"] == method) & (table["lists"] == lists)]
            for stage in ("raw", "refined"):
                if spread(mine, stage) is None:
                    continue
                cells = [spread(mine[(mine["train"] == a) & (mine["test"] == b)], stage) for a, b in pairs]
                rows.append([method, f"ours, {lists}", stage, *cells, spread(mine, stage)])
    columns = ["method", "lists", "scores", *(f"{a} → {b}" for a, b in pairs), "overall"]
    return Table("table2", "Train language → test language", columns, rows, words=3)


def control_table(table: pd.DataFrame) -> Table:
    """Every set of lists: overall EER, same-gender EER, both controls, the change by refinement."""
    columns = ["method", "lists", "raw", "refined", "refined - raw", "same-gender raw", "same-gender refined"]
    rows: list[list[Cell]] = []
    for (method, lists), mine in table.groupby(["method", "lists"], sort=False):
        change = verdict(mine, "refined", "raw")
        names = ("same_gender", "refined_same_gender", "gender_only", "chance")
        first = [str(method), str(lists), spread(mine, "raw"), spread(mine, "refined"), change]
        rows.append([*first, *(spread(mine, name) for name in names), int(mine["trials"].sum())])
    columns += ["gender alone", "chance", "trials"]
    return Table("controls", "All trial lists and the controls", columns, rows, words=2)


def refinement_table(table: pd.DataFrame, everything: pd.DataFrame) -> Table:
    """Raw scores and every strategy per method or fusion and set of lists; the change is paired by fold.

    Args:
        table: of the runs.
        everything: of the runs and of what was made of them; methods that nothing was made of are left out.
    """
    rows: list[list[Cell]] = []
    fitted = set(table["method"])
    for (method, lists), mine in everything.groupby(["method", "lists"], sort=False):
        if method in fitted and set(mine["strategy"]) == {OWN}:
            continue
        raw = mine.drop_duplicates(["run", "condition"])  # the same beside every strategy
        for strategy, part in (("raw", raw), *mine.groupby("strategy")):
            stage, same = ("raw", "same_gender") if strategy == "raw" else ("refined", "refined_same_gender")
            if spread(part, stage) is None:
                continue
            rates = [spread(scope_of(part, scope), stage) for scope in SCOPES]
            change = None if strategy == "raw" else verdict(part, "refined", "raw")
            beside = [spread(part, same), change, verdict(part, stage, "gender_only"), int(part["run"].nunique())]
            rows.append([str(method), str(lists), str(strategy), *rates, *beside])
    columns = ["method", "lists", "scores", *SCOPES, "same-gender", "refined - raw", "against gender alone", "fits"]
    return Table("refinements", "Refinements", columns, rows, words=3)


def people_table(people: pd.DataFrame) -> Table:
    """A row per person: raw and refined EER of their voice's trials by method, mean over runs and main cells."""
    methods = list(people["method"].unique())
    columns = [
        "person",
        "gender",
        "runs",
        *(f"{method}, {stage}" for method in methods for stage in ("raw", "refined")),
    ]
    rows: list[list[Cell]] = []
    for (identity, gender), mine in people.groupby(["identity", "gender"]):
        means = mine.groupby("method")[["raw", "refined"]].mean()
        row: list[Cell] = [str(identity), str(gender), int(mine["run"].nunique())]
        for method in methods:
            for stage in ("raw", "refined"):
                value = means[stage].get(method)
                row.append(None if value is None or pd.isna(value) else float(value))
        rows.append(row)
    return Table("people", "Person by person", columns, rows, words=2)


def cluster_table(clusters: pd.DataFrame) -> Table:
    """Means over runs and main cells of what ``cluster_quality`` found, a row per method and modality."""
    kinds = ["clusters", "gender_purity", "identity_purity", "identity_ari"]
    rows: list[list[Cell]] = []
    for method, mine in clusters.groupby("method", sort=False):
        for modality in ("voice", "face"):
            values = [mine.get(f"{modality}_{kind}", pd.Series(dtype=float)).mean() for kind in kinds]
            shown = [f"{values[0]:.1f}", *(f"{value:.2f}" for value in values[1:])]
            rows.append([str(method), modality, *("-" if text == "nan" else text for text in shown)])
    columns = ["method", "modality", "identity clusters", "gender purity", "identity purity", "adjusted Rand"]
    return Table("clusters", "How well clusters are genders and people", columns, rows, words=2)


def to_markdown(tables: Iterable[Table]) -> str:
    """Tables under headings."""
    parts = []
    for table in tables:
        rule = ["---", *["---:"] * (len(table.columns) - 1)]
        lines = [table.columns, rule, *([text_of(cell).replace("|", r"\|") for cell in row] for row in table.rows)]
        body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        parts.append(f"## {table.title}\n\n{body}")
    return "\n\n".join(parts) + "\n"


def to_latex(tables: Iterable[Table]) -> str:
    """``booktabs`` tables."""
    parts = []
    for table in tables:
        lines = [" & ".join(_latex(text_of(cell)) for cell in row) + r" \\" for row in table.rows]
        head = " & ".join(map(_latex, table.columns)) + r" \\"
        opening = [r"\begin{table}\centering", rf"\caption{{{_latex(table.title)}. EER in \%, mean (sd).}}"]
        opening += [
            rf"\label{{tab:{table.name}}}",
            rf"\begin{{tabular}}{{{'l' * table.words}{'r' * (len(table.columns) - table.words)}}}",
        ]
        closing = [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
        parts.append("\n".join([*opening, r"\toprule", head, r"\midrule", *lines, *closing]))
    return "\n\n".join(parts) + "\n"


def _latex(text: str) -> str:
    return re.sub("|".join(map(re.escape, LATEX)), lambda found: LATEX[found.group()], text.replace("\\", ""))


def to_csv(table: pd.DataFrame) -> str:
    """The long table: a row per run, strategy and cell, rates as fractions."""
    columns: list[Any] = ["run", "folder", "method", "strategy", "train", "test", "lists", "condition", "unit", "seed"]
    columns.append("trials")
    return str(table[[*columns, *RATES]].to_csv(index=False))
