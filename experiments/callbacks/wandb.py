"""Weights & Biases: offline without a key, one id for the life of a run folder, and what only W&B gets of a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning_utilities.core.rank_zero import rank_zero_only, rank_zero_warn

from datamodules.io.writing import write_text
from datamodules.schema import DataError, visible
from experiments.console.tables import defused
from experiments.runs.saved import read_scores
from lightning_modules.base import AssociationModule
from postproc.callback import ChainingClusterCallback
from postproc.metrics.clusters import refinement_cluster_quality

MOST_ROWS = 1000  # of a cell in a W&B table


class WandbRecord(Callback):
    """Gives W&B what is made for it: the lowest validation EER as summary, cluster quality, capped tables, artifacts.

    Cluster quality goes to every logger, as ``test/<cell>/clusters/<figure>``. ``tables/<cell>`` holds at most 1,000 of
    a cell's trials, drawn by seed 0; ``tables/<cell>/trials`` says of how many. Online, the run's scores and its report
    become artifacts. Put it behind the callback that writes the results.

    Args:
        run_dir: the run folder.
        refinement: holds the traces.
        make_report: makes the HTML report of the run.
    """

    def __init__(self, run_dir: Path, refinement: ChainingClusterCallback, make_report: Callable[[], str]) -> None:
        self.run_dir, self.refinement, self.make_report = run_dir, refinement, make_report

    @rank_zero_only
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for logger in _wandb_loggers(trainer):
            logger.experiment.define_metric("val/eer", step_metric="trainer/global_step", summary="min")

    @rank_zero_only
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, AssociationModule)
        for name in pl_module.scores:
            quality = refinement_cluster_quality(pl_module.evaluation, name, self.refinement.traces.get(name, ()))
            for logger in trainer.loggers:
                logger.log_metrics({f"test/{name}/clusters/{key}": value for key, value in quality.items()})
        for logger in _wandb_loggers(trainer):
            log_tables(logger.experiment, self.run_dir)
            if not logger.experiment.offline:
                log_artifacts(logger.experiment, self.run_dir, self.make_report)


def log_tables(run: Any, run_dir: Path) -> None:
    """``tables/<cell>`` of a W&B run: some of the trials of each test condition, with raw and refined distances."""
    import wandb

    for name, table in read_scores(run_dir).groupby("cell", sort=False):
        shown = table.sample(min(len(table), MOST_ROWS), random_state=0).sort_index()
        columns = ["voice", "face", "label", "distance", "refined"]
        frame = shown[columns].astype({"label": "float64"})  # W&B knows no nullable integers
        frame[["voice", "face"]] = frame[["voice", "face"]].map(lambda text: defused(visible(text)))
        name = visible(str(name))
        rows = frame.astype(object).to_numpy().tolist()  # from a frame, W&B looks a column up for each value: slow
        content = wandb.Table([*columns], rows[:1])
        content.data.extend(rows[1:])  # given to it, each row would be compared with the types of the first: slow
        run.log({f"tables/{name}": content, f"tables/{name}/trials": len(table)})


def log_artifacts(run: Any, run_dir: Path, make_report: Callable[[], str]) -> None:
    """The artifacts ``scores-<id>`` (scores, results, traces) and ``report-<id>`` of a W&B run.

    A report that cannot be made is a warning: it is never worth a run.
    """
    import wandb

    scores = wandb.Artifact(f"scores-{run.id}", type="scores")
    for name in ("scores.parquet", "results.json", "refinement.json"):
        scores.add_file(str(run_dir / name))
    run.log_artifact(scores)

    try:
        text = make_report()
    except DataError as error:
        rank_zero_warn(f"no report for W&B: {error}")
        return
    write_text(run_dir / "report.html", text)
    page = wandb.Artifact(f"report-{run.id}", type="report")
    page.add_file(str(run_dir / "report.html"))
    run.log_artifact(page)


def _wandb_loggers(trainer: Trainer) -> list[WandbLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
