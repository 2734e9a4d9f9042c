"""The printed tables of matching and retrieval, and of what papers state on the same test."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from rich.table import Table

from experiments.console.tables import table_console

Record = dict[str, Any]
PUBLISHED = Path(__file__).with_name("published_voxceleb.yaml")
WAYS = {"voice": "voice → face", "face": "face → voice"}


def print_tasks(results: Mapping[str, Record], tasks: Mapping[str, Record]) -> None:
    """Prints the tables that have rows, at full width where the output is no terminal.

    Args:
        results: records of the verification cells by name.
        tasks: records of the matching and retrieval tests by name.
    """
    tables = [table for table in (task_table(tasks), published_table(results, tasks)) if table.row_count]
    for table in tables:
        table_console().print(table)


def task_table(tasks: Mapping[str, Record]) -> Table:
    """A row per test: accuracy or mAP in percent, its interval, and what gender alone and chance give."""
    table = Table(caption="Matching accuracy, retrieval mAP in %, higher is better; raw distances, [95 %] over people.")
    table.add_column("test", overflow="fold")
    for column in ("task", "way", "score", "[95 %]", "gender only", "chance", "probes"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, record in tasks.items():
        size = record["candidates"]
        task = f"1:{size}" if record["task"] == "matching" else f"mAP of {size}"
        low, high = (_percent(value) for value in record["score_ci95"])
        controls = [_percent(record[key]) for key in ("score_gender_only", "score_chance")]
        score = _percent(record["score"])
        table.add_row(name, task, WAYS[record["probe"]], score, f"[{low}, {high}]", *controls, str(record["probes"]))
    return table


def published_table(results: Mapping[str, Record], tasks: Mapping[str, Record]) -> Table:
    """Ours beside what papers state on the same list, which the name of the test says with its identity split."""
    table = Table(caption="Beside what papers state on the same lists, in %. Their encoders and training differ.")
    for column in ("test", "metric", "ours", "published", "by"):
        table.add_column(column, justify="left" if column in ("test", "by") else "right")
    for entry in yaml.safe_load(PUBLISHED.read_text(encoding="utf-8"))["records"]:
        name, metric = entry["test"], entry["metric"]
        if name in results and metric in ("auc", "eer"):
            ours = results[name].get(metric)
        elif name in tasks and tasks[name]["task"] == metric:
            ours = tasks[name]["score"]
        else:
            continue
        what = {"matching": "accuracy", "retrieval": "mAP"}.get(metric, metric.upper())
        table.add_row(name, what, _percent(ours), str(entry["value"]), f"{entry['method']} ({entry['source']})")
    return table


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
