"""The report as one HTML file: a Jinja2 template with style, script and SVG inside. The page loads nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from experiments.figures.drawing import draw_elbow, draw_prototypes
from experiments.report.figures import PAGE_STYLE, draw_bars, draw_changes, draw_curves, draw_mean_det, to_svg
from experiments.report.numbers import Spread, Verdict, unit_of, verdict
from experiments.report.runs import AXES, ReportRun, flatten
from experiments.report.sections import Answers, lead_of
from experiments.report.tables import (
    Table,
    Value,
    cluster_table,
    control_table,
    people_table,
    refinement_table,
    sort_key,
    text_of,
)

METRICS = ("train/loss", "val/eer")
SECTIONS = {
    "table2": "Languages",
    "bars": "Bars",
    "controls": "Controls",
    "refinements": "Refinements",
    "det": "DET",
    "clusters": "Clusters",
    "people": "Identities",
    "curves": "Curves",
    "configs": "Configs",
    "runs": "Runs",
    "environment": "Environment",
}


def render_page(
    runs: Sequence[ReportRun],
    unfinished: Sequence[Path],
    table: pd.DataFrame,
    everything: pd.DataFrame,
    tables: Sequence[Table],
) -> str:
    """The HTML of a report.

    Args:
        runs: tested runs of one or more methods.
        unfinished: folders of runs without results.
        table: :func:`long_table` of the runs.
        everything: the same with refinements and fusions of the runs.
        tables: answer and language table, the same as in other formats.
    """
    names = list(dict.fromkeys(run.method for run in runs))
    methods = [_method(name, i, runs) for i, name in enumerate(names)]
    root = os.path.commonpath([run.folder.parent for run in runs])
    main = table[table["lists"] == "main"]
    conditions = list(dict.fromkeys(main["condition"]))
    curves = {metric: draw_curves(runs, names, metric) for metric in METRICS}
    refinements = refinement_table(table, everything)
    trained = sum(run.history is not None and len(run.history) > 1 for run in runs)
    context = lead_of(runs, table, everything) | {
        "css": Markup(_resource("report.css")),
        "js": Markup(_resource("report.js")),
        "sections": [(name, text) for name, text in SECTIONS.items() if name != refinements.name or refinements.rows],
        "answers": Answers(table, methods).rows,
        "table2": tables[1],
        "controls": control_table(table),
        "refinements": refinements,
        "changes": [("", svg) for svg in _changes(everything, {row[0] for row in refinements.rows})],
        "bars": [("", draw_bars(main, condition)) for condition in conditions],
        "det": [("", draw_mean_det(runs, names, condition)) for condition in conditions],
        "clusters": cluster_table(_stack(runs, lambda run: [*run.digest.clusters.values()])),
        "elbows": _examples(runs, names),
        "people": people_table(_stack(runs, lambda run: run.digest.people.to_dict("records"))),
        "curves": [("", svg) for svg in curves.values() if svg],
        "curves_words": f"{trained} of {len(runs)} runs have curves. Thin lines are runs; bold lines are means of a "
        "method, up to the epoch that half of its runs reach. Closed-form methods have no curves.",
        "methods": methods,
        "anchor_of": {method["name"]: method["anchor"] for method in methods},
        "differences": _differences(runs, names),
        "runs": _runs_table(runs, root),
        "root": root,
        "unfinished": [str(folder) for folder in unfinished],
        "environments": _environments(runs),
        "unit": unit_of(runs),
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"show": show, "sort_key": sort_key}
    return environment.from_string(_resource("report.html.j2")).render(context)


def show(cell: Value) -> str:
    """A value as HTML, with spread or interval in small print."""
    if isinstance(cell, Spread) and cell.sd is not None:
        return Markup(f"{100 * cell.mean:.1f} <small>±{100 * cell.sd:.1f}</small>")
    if isinstance(cell, Verdict):
        interval = "" if cell.low is None else f" <small>[{100 * cell.low:+.1f}, {100 * (cell.high or 0):+.1f}]</small>"
        return Markup(f"{100 * cell.mean:+.1f}{interval}")
    return escape(text_of(cell))


def _resource(name: str) -> str:
    return resources.files("experiments.report").joinpath(name).read_text(encoding="utf-8")


def _method(name: str, number: int, runs: Sequence[ReportRun]) -> dict[str, Any]:
    numbers = [i for i, run in enumerate(runs) if run.method == name]
    config = {key: value for key, value in runs[numbers[0]].config.items() if key not in ("run_dir", "ckpt_path")}
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=110)
    method = {"name": name, "number": number, "anchor": f"method-{number}", "first_run": f"run-{numbers[0]}"}
    return method | {"runs": len(numbers), "config": f"# {runs[numbers[0]].folder}\n{text}"}


def _stack(runs: Sequence[ReportRun], rows_of: Any) -> pd.DataFrame:
    rows = [{"run": i, "method": run.method, **row} for i, run in enumerate(runs) for row in rows_of(run)]
    return pd.DataFrame(rows, columns=None if rows else ["run", "method", "identity", "gender"])


def _examples(runs: Sequence[ReportRun], names: Sequence[str]) -> list[tuple[str, str]]:
    """Caption and figure: elbow and prototypes of each method's first run (by folder name), first test condition."""
    drawn = []
    for name in names:
        candidates = [run for run in runs if run.method == name and run.digest.elbows]
        for run in sorted(candidates, key=lambda run: str(run.folder))[:1]:
            condition = next(iter(run.digest.elbows))
            caption = f"{name}: {condition} language, run {'/'.join(run.folder.parts[-2:])}"
            elbow = draw_elbow(run.digest.elbows[condition], "elbow", PAGE_STYLE)
            drawn.append((caption, to_svg(elbow, f"elbow {caption}")))
            if matrices := run.digest.prototypes.get(condition):
                drawn.append(
                    (caption, to_svg(draw_prototypes(matrices, "prototypes", PAGE_STYLE), f"prototypes {caption}"))
                )
    return drawn


def _changes(everything: pd.DataFrame, methods: Collection[Value]) -> list[str]:
    """A figure per method or fusion: changes of the EER by refinement on the main lists."""
    main = everything[everything["lists"] == "main"]
    changes: dict[str, dict[str, Verdict]] = {str(method): {} for method in everything["method"].unique()}
    for (method, strategy), part in main[main["method"].isin(methods)].groupby(["method", "strategy"]):
        if (change := verdict(part, "refined", "raw")) is not None:
            changes[str(method)][str(strategy)] = change
    ends = [abs(x) for by_name in changes.values() for v in by_name.values() for x in (v.mean, v.low, v.high) if x]
    widest = 1.05 * max(ends, default=0.01)
    return [draw_changes(by_name, method, i, widest) for i, (method, by_name) in enumerate(changes.items()) if by_name]


def _differences(runs: Sequence[ReportRun], names: Sequence[str]) -> Table:
    """Settings of model, data and refinement that all methods have with different values."""
    first = {name: next(run for run in runs if run.method == name) for name in names}
    keys = ("model", "data", "postproc")
    flat = {name: flatten({key: run.config.get(key) for key in keys}) for name, run in first.items()}
    settings = list(dict.fromkeys(key for values in flat.values() for key in values if not AXES.match(key)))
    rows: list[list[Value]] = []
    for key in settings:
        values = [str(flat[name].get(key, "·")) for name in names]
        if len(set(values)) > 1 and "·" not in values:
            rows.append([key.replace(".init_args", ""), *values])
    return Table("differences", "Different settings", ["setting", *names], rows, words=1 + len(names))


def _runs_table(runs: Sequence[ReportRun], root: str) -> Table:
    rates = ("eer", "eer_refined", "eer_same_gender", "eer_same_gender_refined", "eer_gender_only", "eer_chance")
    rows: list[list[Value]] = []
    for i, run in enumerate(runs):
        overall = run.results.get("overall", {})
        commit = ((run.environment or {}).get("git") or {}).get("commit")
        row: list[Value] = [str(i), run.method, run.train, run.fold, run.seed, *(overall.get(rate) for rate in rates)]
        rows.append([*row, str(commit)[:7] if commit else None, str(run.folder.relative_to(root))])
    columns = ["run", "method", "train", "fold", "seed", "raw", "refined", "same-gender raw", "same-gender refined"]
    return Table("runs", "Runs", [*columns, "gender only", "chance", "commit", "folder"], rows, words=3)


def _environments(runs: Sequence[ReportRun]) -> list[dict[str, str]]:
    """Distinct environments without the entries of single runs (command, start), and the number of runs of each."""
    counts: dict[str, int] = {}
    for run in runs:
        if run.environment is not None:
            shared = {key: value for key, value in run.environment.items() if key not in ("command", "started")}
            text = json.dumps(shared, indent=1, ensure_ascii=False)
            counts[text] = counts.get(text, 0) + 1
    return [{"words": f"{count} runs", "text": text} for text, count in counts.items()]
