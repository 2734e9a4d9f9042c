"""Printed tables of tasks: percent, names with their split, published figures beside the same test only."""

from __future__ import annotations

import io

import yaml
from rich.console import Console

from datamodules.datasets.voxceleb.lists import public_tests
from experiments.report.tasks import PUBLISHED, published_table, task_table


def record(task: str, score: float) -> dict[str, object]:
    return {"task": task, "probe": "voice", "probes": 20, "candidates": 2, "people": 5, "score": score,
            "score_ci95": [score - 0.1, score + 0.1], "score_gender_only": None, "score_chance": 0.5}  # fmt: skip


def text(table: object) -> str:
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_tasks_in_percent_under_their_names() -> None:
    shown = text(task_table({"pins/matching/v2f/U": record("matching", 0.8)}))
    assert "pins/matching/v2f/U" in shown
    for part in ("1:2", "80.0", "[70.0, 90.0]", "50.0", "voice → face"):
        assert part in shown


def test_published_figures_stand_beside_the_same_test_only() -> None:
    tasks = {"wen/retrieval/v2f": record("retrieval", 0.031), "pins/retrieval/v2f": record("retrieval", 0.02)}
    results = {"wen/unseen/v2f": {"auc": 0.75}, "pins/unseen/G": {"auc": 0.6}, "heard": {"auc": 0.9}}
    table = published_table(results, tasks)
    assert table.row_count == 2
    shown = text(table)
    assert "87.2" in shown
    assert "75.0" in shown
    assert "5.5" in shown
    assert "pins" not in shown


def test_published_figures_name_their_source_and_an_existing_kind_of_test() -> None:
    known = {*public_tests("pins", []), *public_tests("wen", [])}
    for entry in yaml.safe_load(PUBLISHED.read_text())["records"]:
        assert entry["source"]
        assert 0 < entry["value"] < 100
        assert entry["test"] is None or entry["test"] in known or entry["test"].startswith("wen/")
        assert not str(entry["test"]).startswith("wen/made")
