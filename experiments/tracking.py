"""Weights & Biases: offline without a key, one id for the life of a run folder, and what only W&B gets of a test."""

from __future__ import annotations

import contextlib
import netrc
import os
import sys
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only, rank_zero_warn

from datamodules.schema import DataError
from experiments.commands.report import build_report
from experiments.saved_run import read_scores
from lightning_modules.base import AssociationModule
from postproc.callback import ChainingClusterCallback
from postproc.metrics.clusters import cluster_quality

MOST_ROWS = 1000  # of a cell in a W&B table


def has_key() -> bool:
    """Whether W&B can log in: WANDB_API_KEY, or a netrc entry written by ``wandb login``."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return any("wandb" in host for host in netrc.netrc().hosts)
    except (OSError, netrc.NetrcParseError):
        return False


def has_room(run_dir: Path) -> bool:
    """Whether the W&B folder takes another megabyte; says so once if not, and the run goes on without W&B."""
    folder = run_dir / "wandb"
    probe = folder / f".room{rank_zero_only.rank}"  # type: ignore[attr-defined]
    try:
        folder.mkdir(exist_ok=True)
        probe.write_bytes(bytes(1 << 20))
    except OSError as error:
        rank_zero_warn(f"W&B: {folder}: {error.strerror}; this run is not logged")
        return False
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
    return True


def _unreachable() -> str | None:
    """What keeps W&B from being reached; None if it answers."""
    import wandb

    address = wandb.setup().settings.base_url
    try:
        urllib.request.urlopen(address, timeout=10).close()
    except urllib.error.HTTPError:
        return None  # an answer
    except OSError as error:
        return f"{address} does not answer ({getattr(error, 'reason', error)})"
    return None


def _go_offline() -> None:
    """Over what WANDB_MODE says, which wandb reads once."""
    import wandb

    os.environ["WANDB_MODE"] = wandb.setup().settings.mode = "offline"


def prepare_wandb(settings: Namespace, run_dir: Path, name: str) -> None:
    """Fills in what a run decides for itself; what the config sets stays.

    Args:
        settings: init args of WandbLogger, changed in place.
        run_dir: the run folder; the run's id is kept there, so a resumed run goes on as the same W&B run.
        name: display name.
    """
    id_file = run_dir / "wandb_id"
    if not id_file.exists() and rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        id_file.write_text(uuid.uuid4().hex[:8], encoding="utf-8")
    settings.id = settings.id or (id_file.read_text(encoding="utf-8") if id_file.exists() else None)
    settings.name = settings.name or f"{name}-{run_dir.name}"
    if not settings.offline and "WANDB_MODE" not in os.environ and not has_key():
        settings.offline = True
        if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            print("W&B: no key found, logging offline; `wandb login` or WANDB_API_KEY logs online")
    elif not settings.offline and os.environ.get("WANDB_MODE", "online") == "online" and (why := _unreachable()):
        _go_offline()
        settings.offline = True
        rank_zero_warn(f"W&B: {why}, logging offline")
    # its own summary would repeat the table of results; online it still says where the run is
    offline = settings.offline or os.environ.get("WANDB_MODE") in ("offline", "dryrun")
    os.environ.setdefault("WANDB_SILENT" if offline else "WANDB_QUIET", "true")


def finish_wandb(failed: bool) -> None:
    """Ends the W&B run of this process, if there is one, and says how an offline run is sent."""
    wandb = sys.modules.get("wandb")  # a run without W&B doesn't wait for its import
    if wandb is not None and wandb.run is not None:
        run = wandb.run
        try:
            run.finish(exit_code=int(failed))
        except (OSError, wandb.errors.Error) as error:  # the disk is full, or the network went
            rank_zero_warn(f"W&B: {' '.join(str(error).split())}; the log of this run may lack its end")
        if run.offline:
            print(f"W&B: offline run kept, `wandb sync {Path(run.dir).parent}` sends it", flush=True)


class WandbRecord(Callback):
    """Gives W&B what is made for it: the lowest validation EER as summary, cluster quality, capped tables, artifacts.

    Cluster quality goes to every logger, as ``test/<cell>/clusters/<figure>``. ``tables/<cell>`` holds at most 1,000 of
    a cell's trials, drawn by seed 0; ``tables/<cell>/trials`` says of how many. Online, the run's scores and its report
    become artifacts. Put it behind the callback that writes the results.

    Args:
        run_dir: the run folder.
        refinement: holds the traces.
    """

    def __init__(self, run_dir: Path, refinement: ChainingClusterCallback) -> None:
        self.run_dir, self.refinement = run_dir, refinement

    @rank_zero_only
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for logger in _wandb_loggers(trainer):
            logger.experiment.define_metric("val/eer", step_metric="trainer/global_step", summary="min")

    @rank_zero_only
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, AssociationModule)
        for name in pl_module.scores:
            found = cluster_quality(pl_module.evaluation, name, self.refinement.traces.get(name, ()))
            for logger in trainer.loggers:
                logger.log_metrics({f"test/{name}/clusters/{key}": value for key, value in found.items()})
        for logger in _wandb_loggers(trainer):
            log_tables(logger.experiment, self.run_dir)
            if not logger.experiment.offline:
                log_artifacts(logger.experiment, self.run_dir)


def log_tables(run: Any, run_dir: Path) -> None:
    """``tables/<cell>`` of a W&B run: some of the trials of each cell, with raw and refined distances."""
    import wandb

    for name, table in read_scores(run_dir).groupby("cell", sort=False):
        shown = table.sample(min(len(table), MOST_ROWS), random_state=0).sort_index()
        columns = ["voice", "face", "label", "distance", "refined"]
        frame = shown[columns].astype({"label": "float64"})  # W&B knows no nullable integers
        run.log({f"tables/{name}": wandb.Table(dataframe=frame), f"tables/{name}/trials": len(table)})


def log_artifacts(run: Any, run_dir: Path) -> None:
    """The artifacts ``scores-<id>`` (scores, results, traces) and ``report-<id>`` of a W&B run.

    A report that cannot be made is a warning: it is never worth a run.
    """
    import wandb

    scores = wandb.Artifact(f"scores-{run.id}", type="scores")
    for name in ("scores.parquet", "results.json", "refinement.json"):
        scores.add_file(str(run_dir / name))
    run.log_artifact(scores)
    try:
        text = build_report([run_dir], "html")[0]
    except DataError as error:
        rank_zero_warn(f"no report for W&B: {error}")
        return
    (run_dir / "report.html").write_text(text, encoding="utf-8")
    page = wandb.Artifact(f"report-{run.id}", type="report")
    page.add_file(str(run_dir / "report.html"))
    run.log_artifact(page)


def _wandb_loggers(trainer: Trainer) -> list[WandbLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
