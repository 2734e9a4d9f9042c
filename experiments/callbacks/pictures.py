"""Draws and logs the pictures of a test."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning_utilities.core.rank_zero import rank_zero_only

from experiments.figures.pictures import draw_run
from experiments.runs.saved import SavedRun
from lightning_modules.base import AssociationModule
from postproc.callback import ChainingClusterCallback


class Pictures(Callback):
    """Draws the pictures of a test on rank 0 and logs them; put it behind the callback that writes the results.

    It never fails a run: a picture that cannot be drawn is a one-line warning that says why.

    Args:
        run_dir: the run folder.
        refinement: holds refined scores and traces.
    """

    def __init__(self, run_dir: Path, refinement: ChainingClusterCallback) -> None:
        self.run_dir, self.refinement = run_dir, refinement

    @rank_zero_only
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, AssociationModule)
        refined, traces = self.refinement.refined, self.refinement.traces
        run = SavedRun(self.run_dir, pl_module.evaluation, pl_module.scores, refined, pl_module.embeddings)
        files = draw_run(run, traces)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                for path in files:
                    logger.log_image(f"pictures/{path.stem}", [str(path)])
