"""The report as one HTML file: a Jinja2 template with style, script and SVG inside. The page loads nothing else."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Sequence
from datetime import datetime, timezone
from importlib import resources
from typing import Any

import pandas as pd
import yaml
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from datamodules.io.text import counted
from datamodules.schema import DataError
from experiments.console.tables import percent
from experiments.figures.drawing import draw_elbow, draw_prototypes
from experiments.report.figures import PAGE_STYLE, cut, draw_bars, draw_changes, draw_curves, draw_mean_det, to_svg
from experiments.report.numbers import Spread, Verdict, conditions_of, counts_of, lead_lists, verdict
from experiments.report.runs import AXES, ReportRun, flatten
from experiments.report.sections import WIDEST, Answers, Part, lead_of
from experiments.report.tables import (
    Table,
    Value,
    cluster_table,
    people_table,
    refinement_table,
    sort_key,
    text_of,
    without_empty,
)

METRICS = ("train/loss", "val/eer")
DRAWN = 8
"""Methods, and test conditions, that figures show; tables have all. There are as many colours."""
EXAMPLES = 3
"""Methods whose elbow and prototypes are drawn."""
LISTED = 12
"""Methods of the first screen that need no click."""
SECTIONS = {
    "table2": "Languages",
    "conditions": "Conditions",
    "bars": "Bars",
    "controls": "Controls",
    "refinements": "Refinements",
    "det": "DET",
    "clusters": "Clusters",
    "people": "Identities",
    "curves": "Curves",
    "configs": "Configs",
    "runs": "Runs",
}


def render_page(parts: Sequence[Part], left_out: Sequence[str], damages: Sequence[DataError] = ()) -> str:
    """The HTML of a report: a part for each test set, one after the other.

    Args:
        parts: the test sets.
        left_out: folders of runs without EERs, and why.
        damages: errors of runs that cannot be read.
    """
    runs = [run for part in parts for run in part.test.runs]
    root = os.path.commonpath([run.folder.parent for run in runs])
    sets = [_context(part, f"-{i + 1}" if len(parts) > 1 else "", root) for i, part in enumerate(parts)]
    command = " ".join(sys.argv[1:])
    context = {
        "css": Markup(_resource("report.css")),
        "js": Markup(_resource("report.js")),
        "title": f"Face-voice association, {sets[0]['name']}: {counted(len(runs), 'run')}"
        if len(parts) == 1
        else f"Face-voice association: {counted(len(runs), 'run')} on {counted(len(parts), 'test set')}",
        "sets": sets,
        "overview": _overview(parts),
        "root": root,
        "left_out": left_out,
        "damages": [str(damage) for damage in damages],
        "environments": _environments(runs),
        "ticks": list(range(0, WIDEST + 1, 10)),
        "scale": 100 / WIDEST,
        "footer": f"Made {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC by python -m experiments.run {command}",
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"show": show, "sort_key": sort_key, "cut": cut, "counted": counted}
    return environment.from_string(_resource("report.html.j2")).render(context)


def _context(part: Part, key: str, root: str) -> dict[str, Any]:
    """What the template says of a test set; ``key`` ends the ids of its elements."""
    runs, main = part.test.runs, lead_lists(part.table)
    names = list(dict.fromkeys(run.method for run in runs))
    methods = [_method(name, i, runs, key) for i, name in enumerate(names)]
    drawn, shown = names[:DRAWN], conditions_of(part.table)[:DRAWN]
    refinements = refinement_table(part.table, part.everything)
    known = [run for run in runs if run.method in drawn]
    trained = sum(run.history is not None and len(run.history) > 1 for run in runs)
    curves = [draw_curves(runs, drawn, metric, key) for metric in METRICS] if trained else []
    lists = "" if (first := str(main["lists"].iloc[0])) == "main" else f"{first}/"
    det = [draw_mean_det(runs, drawn, lists + condition, key) for condition in shown]
    answers = Answers(part, methods)
    context = lead_of(part) | {
        "key": key,
        "name": part.test.name,
        "answers": answers.rows[:LISTED],
        "more_answers": answers.rows[LISTED:],
        "scopes": answers.scopes,
        "table2": part.tables[1],
        "conditions": part.tables[2],
        "controls": part.tables[3],
        "refinements": refinements,
        "changes": [("", svg) for svg in _changes(part.everything, {row[0] for row in refinements.rows}, key)],
        "bars": [("", draw_bars(main[main["method"].isin(drawn)], name, key)) for name in shown],
        "det": [("", svg) for svg in det if svg],
        "clusters": cluster_table(_stack(runs, lambda run: [*run.digest.clusters.values()])),
        "elbows": _examples(runs, drawn[:EXAMPLES], key),
        "people": people_table(_stack(known, lambda run: run.digest.people.to_dict("records"))),
        "curves": [("", svg) for svg in curves if svg],
        "curves_words": f"{trained} of {counted(len(runs), 'run')} {'has' if trained == 1 else 'have'} curves. "
        "Thin lines are runs; bold lines are means of a method, up to the epoch that half of its runs reach.",
        "methods": methods,
        "drawn": methods[:DRAWN],
        "left_out": f"Of {len(names)} methods, the figures show the {DRAWN} with the lowest EER."
        if len(names) > DRAWN
        else "",
        "differences": _differences(runs, drawn),
        "runs": _runs_table(runs, root),
        "anchor_of": {method["name"]: method["anchor"] for method in methods},
        "full_of": {method["name"]: method["full"] for method in methods},
    }
    rows = {name: bool(getattr(context.get(name), "rows", context.get(name))) for name in SECTIONS}
    rows["configs"] = True
    return context | {"sections": [(name, text) for name, text in SECTIONS.items() if rows[name]]}


def _overview(parts: Sequence[Part]) -> list[dict[str, str]]:
    """A row per test set: its size, and the lowest EER on it."""
    rows = []
    for part in parts:
        main = lead_lists(part.table)
        means = main.assign(final=main["refined"].fillna(main["raw"])).groupby("method", sort=False)["final"].mean()
        best = str(means.idxmin()) if means.notna().any() else ""
        units = int(counts_of(main).max())
        row = {"name": part.test.name, "runs": str(len(part.test.runs)), "methods": str(len(means))}
        row |= {"units": counted(units, part.test.unit), "conditions": ", ".join(conditions_of(part.table))}
        rows.append(row | {"best": best, "rate": percent(float(means[best])) if best else "-"})
    return rows


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


def _method(name: str, number: int, runs: Sequence[ReportRun], key: str) -> dict[str, Any]:
    numbers = [i for i, run in enumerate(runs) if run.method == name]
    first = runs[numbers[0]]
    config = {name: value for name, value in first.config.items() if name not in ("run_dir", "ckpt_path")}
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=110)
    method = {"name": name, "full": first.full_name, "anchor": f"method-{number}{key}"}
    method |= {"first_run": f"run-{numbers[0]}{key}", "runs": counted(len(numbers), "run")}
    return method | {"config": f"# {first.folder}\n{text}"}


def _stack(runs: Sequence[ReportRun], rows_of: Any) -> pd.DataFrame:
    rows = [{"run": i, "method": run.method, **row} for i, run in enumerate(runs) for row in rows_of(run)]
    return pd.DataFrame(rows, columns=None if rows else ["run", "method", "identity", "gender"])


def _examples(runs: Sequence[ReportRun], names: Sequence[str], key: str) -> list[tuple[str, str]]:
    """Caption and figure: elbow and prototypes of each method's first run (by folder name), first test condition."""
    drawn = []
    for name in names:
        candidates = [run for run in runs if run.method == name and run.digest.elbows]
        for run in sorted(candidates, key=lambda run: str(run.folder))[:1]:
            condition = next(iter(run.digest.elbows))
            caption = f"{name}: {condition}, run {'/'.join(run.folder.parts[-2:])}"
            elbow = draw_elbow(run.digest.elbows[condition], "elbow", PAGE_STYLE)
            drawn.append((caption, to_svg(elbow, f"elbow {caption}{key}")))
            if matrices := run.digest.prototypes.get(condition):
                drawn.append(
                    (caption, to_svg(draw_prototypes(matrices, "prototypes", PAGE_STYLE), f"prototypes {caption}{key}"))
                )
    return drawn


def _changes(everything: pd.DataFrame, methods: Collection[Value], key: str) -> list[str]:
    """A figure per method or fusion: changes of the EER by refinement on the main lists."""
    main = lead_lists(everything)
    changes: dict[str, dict[str, Verdict]] = {str(method): {} for method in everything["method"].unique()}
    for (method, strategy), part in main[main["method"].isin(methods)].groupby(["method", "strategy"]):
        if (change := verdict(part, "refined", "raw")) is not None:
            changes[str(method)][str(strategy)] = change
    ends = [abs(x) for by_name in changes.values() for v in by_name.values() for x in (v.mean, v.low, v.high) if x]
    widest = 1.05 * max(ends, default=0.01)
    drawn = [(method, by_name) for method, by_name in changes.items() if by_name][:DRAWN]
    return [draw_changes(by_name, method, i, widest, key) for i, (method, by_name) in enumerate(drawn)]


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
        overall = run.results.get("overall") or next(iter(run.results.values()), {})
        commit = ((run.environment or {}).get("git") or {}).get("commit")
        row: list[Value] = [str(i), run.method, run.train, run.fold, run.seed, *(overall.get(rate) for rate in rates)]
        rows.append([*row, str(commit)[:7] if commit else None, str(run.folder.relative_to(root))])
    columns = ["run", "method", "train", "fold", "seed", "raw", "refined", "same-gender raw", "same-gender refined"]
    return without_empty(Table("runs", "Runs", [*columns, "gender only", "chance", "commit", "folder"], rows, words=3))


def _environments(runs: Sequence[ReportRun]) -> list[dict[str, str]]:
    """Distinct environments without the entries of single runs (command, start), and the number of runs of each."""
    counts: dict[str, int] = {}
    for run in runs:
        if run.environment is not None:
            shared = {key: value for key, value in run.environment.items() if key not in ("command", "started")}
            text = json.dumps(shared, indent=1, ensure_ascii=False)
            counts[text] = counts.get(text, 0) + 1
    return [{"words": counted(count, "run"), "text": text} for text, count in counts.items()]
