"""Printed tables of matching and retrieval, and of published figures on the same trial lists."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from experiments.console.tables import NameTable, percent, table_console

Record = dict[str, Any]
PUBLISHED = Path(__file__).with_name("published_voxceleb.yaml")
DIRECTIONS = {"voice": "voice → face", "face": "face → voice"}


def print_tasks(results: Mapping[str, Record], tasks: Mapping[str, Record]) -> None:
    """Prints the tables that have rows.

    Args:
        results: results of verification by test condition.
        tasks: results of matching and retrieval by name of the test.
    """
    tables = [table for table in (task_table(tasks), published_table(results, tasks)) if table.row_count]
    for table in tables:
        table_console().print(table)


def task_table(tasks: Mapping[str, Record]) -> NameTable:
    """A row per test: accuracy or mAP in percent, its 95 % interval, and the same for gender only and by chance."""
    table = NameTable(
        caption="Accuracy (matching) and mAP (retrieval) of raw distances in %, higher is better; 95 % over identities."
    )
    table.add_column("test", overflow="fold")
    for column in ("task", "direction", "score", "95 % interval", "gender only", "chance", "probes"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, record in tasks.items():
        size = record["candidates"]
        task = f"1:{size}" if record["task"] == "matching" else f"mAP of {size}"
        low, high = (percent(value) for value in record["score_ci95"])
        controls = [percent(record[key]) for key in ("score_gender_only", "score_chance")]
        score = percent(record["score"])
        table.add_row(
            name, task, DIRECTIONS[record["probe"]], score, f"[{low}, {high}]", *controls, str(record["probes"])
        )
    return table


def published_table(results: Mapping[str, Record], tasks: Mapping[str, Record]) -> NameTable:
    """Our figures and published ones on the same trial list; the name of a test includes its identity split."""
    table = NameTable(caption="Published figures on the same trial lists, in %. Encoders and training data differ.")
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
        table.add_row(name, what, percent(ours), str(entry["value"]), f"{entry['method']} ({entry['source']})")
    return table
