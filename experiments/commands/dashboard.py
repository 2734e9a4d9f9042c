"""``dashboard``: a W&B workspace as code: its specification in a file, saved to W&B where there is a key."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from datamodules.schema import DataError, one_line
from experiments.runs.credentials import has_key
from experiments.runs.files import write_json

TRAIN, MODEL = "data.init_args.train_languages", "model.class_path"


def build_workspace(entity: str, project: str) -> Any:
    """The workspace; needs neither key nor network.

    Raises:
        DataError: wandb-workspaces is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise DataError("dashboard: needs wandb-workspaces; pip install 'voiceface[dashboard]'") from error

    def bars(title: str, metrics: list[str], group: str) -> Any:
        return wr.BarPlot(
            title=title,
            metrics=[wr.SummaryMetric(metric) for metric in metrics],
            groupby=wr.Config(group),
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
            range_x=(0, 0.6),
            orientation="h",
        )

    def pictures(title: str, name: str) -> Any:
        return wr.MediaBrowser(title=title, media_keys=[f"pictures/{cell}_{name}" for cell in ("heard", "unheard")])

    def lines(metric: str) -> Any:
        return wr.LinePlot(title=metric, x="trainer/global_step", y=[metric], groupby=wr.Config(MODEL))

    conditions = ("heard", "unheard")
    against = [
        wr.ScatterPlot(
            title=f"heard against unheard, {words}",
            x=wr.SummaryMetric(f"test/heard/{rate}"),
            y=wr.SummaryMetric(f"test/unheard/{rate}"),
            z=wr.Config(TRAIN),
        )
        for rate, words in (("eer", "raw"), ("eer_refined", "refined"))
    ]
    compared = [
        bars(f"{words} EER by {name}", [f"test/{condition}/{rate}" for condition in conditions], key)
        for name, key in (("train language", TRAIN), ("method", MODEL))
        for rate, words in (("eer", "raw"), ("eer_refined", "refined"))
    ]
    controls = [
        bars(f"{words} by method", [f"test/{condition}/{rate}" for condition in conditions], MODEL)
        for rate, words in (
            ("eer_same_gender", "same-gender EER"),
            ("eer_same_gender_refined", "same-gender EER, refined"),
            ("eer_gender_only", "gender alone"),
            ("eer_chance", "chance"),
        )
    ]
    clusters = [
        bars(f"{modality} clusters by method", [f"test/{c}/clusters/{modality}_{k}" for c in conditions], MODEL)
        for modality in ("voice", "face")
        for k in ("gender_purity", "identity_ari")
    ]
    sections = {
        "Heard against unheard": against + compared,
        "Controls": controls,
        "DET": [pictures("DET", "det")],
        "Elbow and prototypes": [pictures("elbow", "elbow"), pictures("prototypes", "prototypes"), *clusters],
        "Training": [lines("train/loss"), lines("val/eer")],
    }
    return ws.Workspace(
        entity=entity,
        project=project,
        name="Face-voice association",
        sections=[ws.Section(name=name, panels=panels, is_open=True) for name, panels in sections.items()],
    )


def spec_of(workspace: Any) -> dict[str, Any]:
    """What would be sent to W&B: the view with its panels, as plain data."""
    found: dict[str, Any] = workspace._to_model().model_dump(mode="json", by_alias=True, exclude_none=True)
    return found


def main(command: str, argv: list[str]) -> int:
    """``dashboard --entity E --project P [--out spec.json]``."""
    parser = argparse.ArgumentParser(prog=f"experiments.run {command}", description=__doc__, allow_abbrev=False)
    parser.add_argument("--entity", required=True, help="W&B user or team")
    parser.add_argument("--project", required=True, help="W&B project, e.g. voiceface")
    parser.add_argument("--out", type=Path, default=Path("dashboard.json"), help="default: dashboard.json")
    options = parser.parse_args(argv)
    workspace = build_workspace(options.entity, options.project)
    write_json(options.out, spec_of(workspace))
    print(f"written: {options.out}")
    if not has_key():
        print("W&B: no key found, the workspace is not saved there; `wandb login` and run this again")
        return 0
    import wandb

    try:
        workspace.save()
    except (wandb.Error, OSError, ValueError) as error:
        raise DataError(f"W&B refused the workspace: {one_line(error)}") from error
    print(f"saved: {workspace.url}")
    return 0
