"""``dashboard``: writes the specification of a W&B workspace to a file, and saves it to W&B if there is a key."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

from datamodules.io.writing import refuse_other, write_json
from datamodules.schema import DataError, one_line
from experiments.console.arguments import CommandParser
from experiments.runs.credentials import has_key

HEARD_UNHEARD = ("heard", "unheard")
TRAIN, MODEL = "data.init_args.train_languages", "model.class_path"
PURITIES = (("gender_purity", "gender purity"), ("identity_ari", "adjusted Rand index of identities"))


def build_workspace(entity: str, project: str, conditions: Sequence[str] = HEARD_UNHEARD) -> Any:
    """The workspace, built without key or network.

    Args:
        entity: W&B user or team.
        project: W&B project.
        conditions: test conditions of the runs; the first two are drawn against each other.

    Raises:
        DataError: wandb-workspaces is not installed.
    """
    try:  # an optional package, slow to import
        wr = import_module("wandb_workspaces.reports.v2")
        ws = import_module("wandb_workspaces.workspaces")
    except ImportError as error:
        raise DataError("dashboard needs wandb-workspaces: pip install 'voiceface[dashboard]'") from error
    sections = _sections(wr, conditions).items()
    return ws.Workspace(
        entity=entity,
        project=project,
        name="Face-voice association",
        sections=[ws.Section(name=name, panels=panels, is_open=True) for name, panels in sections],
    )


def _sections(wr: Any, conditions: Sequence[str]) -> dict[str, list[Any]]:
    """Panels by title of their section; ``wr`` is the module of W&B's panels."""
    usual = tuple(conditions) == HEARD_UNHEARD
    against = [
        wr.ScatterPlot(
            title=f"EER of {y} over {x}{' language' * usual}, {words}",
            x=wr.SummaryMetric(f"test/{x}/{rate}"),
            y=wr.SummaryMetric(f"test/{y}/{rate}"),
            z=wr.Config(TRAIN),
        )
        for x, y in pairwise(conditions[:2])
        for rate, words in (("eer", "raw"), ("eer_refined", "refined"))
    ]
    compared = [
        _bars(wr, f"{words} EER by {name}", [f"test/{condition}/{rate}" for condition in conditions], key)
        for name, key in (("train language", TRAIN), ("method", MODEL))
        for rate, words in (("eer", "raw"), ("eer_refined", "refined"))
    ]
    controls = [
        _bars(wr, f"{words} by method", [f"test/{condition}/{rate}" for condition in conditions], MODEL)
        for rate, words in (
            ("eer_same_gender", "same-gender EER"),
            ("eer_same_gender_refined", "same-gender EER, refined"),
            ("eer_gender_only", "EER of gender only"),
            ("eer_chance", "EER by chance"),
        )
    ]
    clusters = [
        _bars(
            wr,
            f"{modality} clusters: {words} by method",
            [f"test/{c}/clusters/{modality}_{k}" for c in conditions],
            MODEL,
            widest=1,
        )
        for modality in ("voice", "face")
        for k, words in PURITIES
    ]
    return {
        ("Heard and unheard language" if usual else "Test conditions"): against + compared,
        "Controls: same gender, gender only, chance": controls,
        "DET curves": [_pictures(wr, name) for name in ("det", "histograms", "confusion")],
        "Elbow and prototypes": [*(_pictures(wr, name) for name in ("clusters", "map")), *clusters],
        "Training": [_lines(wr, "train/loss"), _lines(wr, "val/eer")],
    }


def _bars(wr: Any, title: str, metrics: list[str], group: str, widest: float = 0.6) -> Any:
    return wr.BarPlot(
        title=title,
        metrics=[wr.SummaryMetric(metric) for metric in metrics],
        groupby=wr.Config(group),
        groupby_aggfunc="mean",
        groupby_rangefunc="stddev",
        range_x=(0, widest),
        orientation="h",
    )


def _pictures(wr: Any, name: str) -> Any:
    return wr.MediaBrowser(title=name, media_keys=[f"pictures/{name}"])


def _lines(wr: Any, metric: str) -> Any:
    return wr.LinePlot(title=metric, x="trainer/global_step", y=[metric], groupby=wr.Config(MODEL))


def spec_of(workspace: Any) -> dict[str, Any]:
    """The specification that is sent to W&B, as plain data."""
    spec: dict[str, Any] = workspace._to_model().model_dump(mode="json", by_alias=True, exclude_none=True)
    return spec


def main(command: str, argv: list[str]) -> int:
    """``dashboard --entity E --project P [--conditions NAME ...] [--out spec.json]``."""
    parser = CommandParser(command, __doc__)
    parser.add_argument("--entity", required=True, help="W&B user or team")
    parser.add_argument("--project", required=True, help="W&B project, e.g. voiceface")
    text = "test conditions of the runs, as in data.test; default: heard unheard"
    parser.add_argument("--conditions", nargs="+", default=HEARD_UNHEARD, metavar="NAME", help=text)
    parser.add_argument(
        "--out", type=Path, default=Path("dashboard.json"), help="file to write, default: dashboard.json"
    )
    options = parser.parse_args(argv)
    refuse_other(options.out, '{\n "entity"')
    workspace = build_workspace(options.entity, options.project, options.conditions)
    write_json(options.out, spec_of(workspace))
    print(f"written: {options.out}")
    if not has_key():
        print("W&B: no key found, so the workspace is not saved there; run `wandb login` and this command again")
        return 0
    import wandb  # slow to import, and not needed without a key

    try:
        workspace.save()
    except (wandb.Error, OSError, ValueError) as error:
        raise DataError(f"W&B rejected the workspace: {one_line(error)}") from error
    print(f"saved: {workspace.url}")
    return 0
