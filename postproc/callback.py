"""Refines the scores of a test or predict run once its embeddings are gathered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray

from datamodules.schema import EvaluationSet, ScoredCell, Stage
from postproc.reference import Reference
from postproc.refinement import Refinement, calibrate, refine


class _Scorer(Protocol):
    """What this callback needs of ``lightning_modules.base.AssociationModule``, which it may not import."""

    scores: Mapping[str, NDArray[np.float64]]
    refined: dict[str, NDArray[np.float64]]

    def evaluate(self, stage: Stage) -> None:
        """Gathers and scores on all ranks."""

    def scored_cell(self, name: str) -> ScoredCell:
        """What a refinement may see of a cell."""

    @property
    def evaluation(self) -> EvaluationSet:
        """Cells and items."""

    def reference(self) -> Reference:
        """Embedded clips of training people."""


class ChainingClusterCallback(Callback):
    """Applies refinements to every cell of a test or predict run, before anything writes results.

    Runs on rank 0; where a step learns from training people, they are embedded and the steps calibrated first. All
    ranks get the refined distances, in :attr:`refined` and as ``module.refined``. A cell that a step cannot refine
    keeps its scores, with one warning that says why. A step that raises has a bug: its cell and the cells after it have
    no refined scores, the raw ones are still scored and written, and the run then fails on all ranks, in ``teardown``,
    with the step's error.

    Args:
        steps: refinements, applied in turn; None or empty refines nothing.
        keep_reference: training people are embedded and kept even where no step learns from them, so that ``refine``
            can try steps that do.

    Attributes:
        refined: refined distances (t,) by cell; empty without steps.
        traces: on rank 0, one trace per step by cell; empty elsewhere.
        reference: on rank 0, the training people the steps were calibrated on; None where none learns or is kept.
    """

    def __init__(self, steps: list[Refinement] | None = None, keep_reference: bool = False) -> None:
        super().__init__()
        self.steps, self.keep_reference = list(steps or []), keep_reference
        self.refined: dict[str, NDArray[np.float64]] = {}
        self.traces: dict[str, list[dict[str, Any]]] = {}
        self.reference: Reference | None = None
        self._failure: str | None = None
        self._cause: Exception | None = None  # on rank 0; not every exception can be sent to another

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._run(trainer, cast(_Scorer, pl_module), "test")

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._run(trainer, cast(_Scorer, pl_module), "predict")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise RuntimeError(failure) from self._cause

    def _run(self, trainer: Trainer, module: _Scorer, stage: Stage) -> None:
        module.evaluate(stage)  # callbacks come before the module's own hook
        self.refined, self.traces, self._failure, self._cause = {}, {}, None, None
        if self.steps or self.keep_reference:
            if trainer.is_global_zero:
                self._refine_cells(module)
            # a failure travels too: a rank that waits for scores that never come would hang
            self.refined, self._failure = trainer.strategy.broadcast((self.refined, self._failure))
        module.refined = self.refined

    def _refine_cells(self, module: _Scorer) -> None:
        what = "calibrating the refinement"
        try:
            if self.keep_reference or any(step.needs_reference for step in self.steps):
                self.reference = module.reference()
                calibrate(self.steps, self.reference)
            for name in module.scores if self.steps else ():
                what = f"refining cell {name!r}"
                self._refine_cell(module, name)
        except Exception as error:
            self._failure = f"{what} failed, raw scores are kept: {type(error).__name__}: {error}"
            self._cause = error

    def _refine_cell(self, module: _Scorer, name: str) -> None:
        trials = module.evaluation.cells[name].trials
        result = refine(module.scored_cell(name), [step.for_cell(name, trials.keys) for step in self.steps])
        self.refined[name], self.traces[name] = result.distances, result.trace["steps"]
        for trace in self.traces[name]:
            if "unchanged" in trace:
                rank_zero_warn(f"cell {name!r}: {trace['step']} left the scores unchanged: {trace['unchanged']}")
