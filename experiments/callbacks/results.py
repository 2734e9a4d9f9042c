"""Writes what a test or predict run has found."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning_utilities.core.rank_zero import rank_zero_only

from datamodules.evaluation.learnt import unlabelled_of
from datamodules.io.writing import together
from experiments.runs.results import Record, write_embeddings, write_results
from experiments.runs.saved import SavedRun, write_reference
from lightning_modules.base import AssociationModule
from postproc.callback import ChainingClusterCallback
from postproc.metrics import evaluate_ranking

LOGGED = ("eer", "eer_refined", "eer_same_gender", "eer_same_gender_refined", "eer_gender_only", "eer_chance", "auc")


class ResultsWriter(Callback):
    """Writes a test's results into the run folder on rank 0, logs them, and prints the table.

    Args:
        run_dir: the run folder.
        refinement: holds the refined scores.
    """

    def __init__(self, run_dir: Path, refinement: ChainingClusterCallback) -> None:
        self.run_dir, self.refinement = run_dir, refinement
        self.results: dict[str, Record] = {}
        self.tasks: dict[str, Record] = {}
        self.notes: dict[str, list[str]] = {}

    @rank_zero_only
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, AssociationModule)
        voices, faces = pl_module.evaluation.voices, pl_module.evaluation.faces
        self.tasks = {
            name: evaluate_ranking(ranking, voices, faces, pl_module.score_rows(ranking))
            for name, ranking in pl_module.evaluation.rankings.items()
        }
        self.results = self._write(pl_module)
        metrics = {
            f"test/{cell}/{metric}": record[metric]
            for cell, record in self.results.items()
            for metric in LOGGED
            if record.get(metric) is not None
        }
        metrics |= {f"test/{name}/{record['task']}": record["score"] for name, record in self.tasks.items()}
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=trainer.global_step)

    @rank_zero_only
    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(pl_module, labelled=False)

    def _write(self, module: LightningModule, labelled: bool = True) -> dict[str, Record]:
        assert isinstance(module, AssociationModule)
        tested = SavedRun(
            self.run_dir,
            module.evaluation,
            module.scores,
            self.refinement.refined,
            module.embeddings,
            self.tasks,
            sorted(module.learnt.unrecorded),
            unlabelled_of(module.learnt, module.evaluation),
        )
        self.notes = tested.notes
        with together(self.run_dir):
            write_embeddings(tested, module.learnt)
            if self.refinement.reference is not None:
                seen = [name for name, cell in module.evaluation.cells.items() if cell.seen]
                write_reference(self.run_dir, self.refinement.reference, seen)
            return write_results(tested, self.refinement.traces, self.refinement.decisions, labelled)
