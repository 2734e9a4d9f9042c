"""The W&B workspace, built offline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.run import main

pytest.importorskip("wandb_workspaces", reason="wandb-workspaces is not installed")


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """What would be sent, without a key."""
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # no netrc
    out = tmp_path / "spec.json"
    assert main(["dashboard", "--entity", "people", "--project", "voiceface", "--out", str(out)]) == 0
    return json.loads(out.read_text())


def test_without_a_key_only_the_file_is_written(spec: dict, capsys: pytest.CaptureFixture[str]) -> None:
    assert (spec["entity"], spec["project"]) == ("people", "voiceface")


def test_heard_stands_against_unheard_by_train_language_and_method(spec: dict) -> None:
    sections = {s["name"]: s["panels"] for s in spec["spec"]["section"]["panelBankConfig"]["sections"]}
    assert list(sections) == [
        "Heard and unheard language",
        "Controls: same gender, gender only, chance",
        "DET curves",
        "Elbow and prototypes",
        "Training",
    ]
    compared = sections["Heard and unheard language"]
    scatter = [panel["config"] for panel in compared if panel["viewType"] == "Scatter Plot"]
    assert [(c["xAxis"], c["yAxis"]) for c in scatter] == [
        ("summary:test/heard/eer", "summary:test/unheard/eer"),
        ("summary:test/heard/eer_refined", "summary:test/unheard/eer_refined"),
    ]
    bars = [panel["config"] for panel in compared if panel["viewType"] == "Bar Chart"]
    assert {config["groupBy"] for config in bars} == {"data.value.init_args.train_languages", "model.value.class_path"}
    media = json.dumps(sections["DET curves"] + sections["Elbow and prototypes"])
    assert all(f"pictures/{name}" in media for name in ("det", "clusters", "map"))


@pytest.mark.parametrize("conditions", [["voxceleb"], ["in-the-wild <&>", "野外", "studio"]])
def test_panels_show_the_conditions_that_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, conditions: list[str]
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    out = tmp_path / "spec.json"
    given = ["--entity", "e", "--project", "p", "--out", str(out), "--conditions", *conditions]
    assert main(["dashboard", *given]) == 0
    words = json.dumps(json.loads(out.read_text()), ensure_ascii=False)
    assert all(f"test/{name}/eer" in words for name in conditions)
    assert "heard" not in words
    assert ("Scatter Plot" in words) == (len(conditions) > 1)


def test_every_metric_of_it_is_one_a_run_logs(spec: dict) -> None:
    from experiments.callbacks.results import LOGGED

    words = json.dumps(spec).replace("summary_metrics.", "summary:").split('"')
    used = {word for word in words if "summary:test/" in word}
    assert used
    for name in used:
        _, _, metric = name.removeprefix("summary:test/").partition("/")
        assert metric in LOGGED or metric.startswith("clusters/"), name
