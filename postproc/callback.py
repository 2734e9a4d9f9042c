"""Lightning callback that refines the scores of a test or predict run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray

from datamodules.schema import EvaluationSet, ScoredCell, Stage
from postproc.decisions.record import refine_and_record
from postproc.memory import Memory
from postproc.reference import Reference
from postproc.refinement import Refinement, calibrate


class _Scorer(Protocol):
    """The part of ``lightning_modules.base.AssociationModule`` that the callback needs; it must not import it."""

    scores: Mapping[str, NDArray[np.float64]]
    refined: dict[str, NDArray[np.float64]]

    def evaluate(self, stage: Stage) -> None:
        """Gathers and scores on all ranks."""

    def scored_cell(self, name: str) -> ScoredCell:
        """Scores and embeddings of a test condition."""

    @property
    def evaluation(self) -> EvaluationSet:
        """Test conditions and items."""

    def reference(self) -> Reference:
        """Embedded clips of training identities."""

    def small_reference(self) -> bool:
        """Whether that costs next to nothing."""


class ChainingClusterCallback(Callback):
    """Applies refinements to every test condition of a test or predict run, before anything writes results.

    It runs on rank 0. Where a step learns from training identities, they are embedded and the steps are calibrated
    first. All ranks get the refined distances, in :attr:`refined` and as ``module.refined``. A test condition that a
    step cannot refine keeps its scores, with one warning that says why. A step that raises has a bug: that test
    condition and the ones after it have no refined scores. The raw ones are still scored and written, and the run then
    fails on all ranks, in ``teardown``, with the step's error.

    Args:
        steps: refinements, applied in turn; None or empty refines nothing.
        keep_reference: embed and keep the training identities even if no step learns from them, so that ``refine`` can
            try steps that do. None: where that costs next to nothing, as with feature files of some dozen identities.

    Attributes:
        refined: refined distances (t,) by test condition, lower = same person; empty without steps.
        traces: on rank 0, one trace per step by test condition; empty elsewhere.
        decisions: on rank 0, what speaks for and against refining each test condition
            (:func:`postproc.decisions.record.refine_and_record`); empty elsewhere.
        reference: on rank 0, the training identities that the steps were calibrated on; None if there are none.
        memory: clusters that steps share, found once per set of embeddings.
    """

    def __init__(self, steps: list[Refinement] | None = None, keep_reference: bool | None = None) -> None:
        super().__init__()
        self.steps, self.keep_reference, self.memory = list(steps or []), keep_reference, Memory()
        self.refined: dict[str, NDArray[np.float64]] = {}
        self.traces: dict[str, list[dict[str, Any]]] = {}
        self.decisions: dict[str, dict[str, Any]] = {}
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
        self.refined, self.traces, self.decisions, self._failure, self._cause = {}, {}, {}, None, None
        if self.steps or self.keep_reference is not False:
            if trainer.is_global_zero:
                self._refine_cells(module)
            # a failure travels too: a rank that waits for scores that never come would hang
            self.refined, self._failure = trainer.strategy.broadcast((self.refined, self._failure))
        module.refined = self.refined

    def _refine_cells(self, module: _Scorer) -> None:
        names = list(module.scores) if self.steps else []
        doing = "calibrating the refinement"
        try:
            wanted = self.keep_reference or any(step.needs_reference for step in self.steps)
            if wanted or (self.keep_reference is None and module.small_reference()):
                self.reference = module.reference()
            if wanted and self.reference is not None:
                calibrate(self.steps, self.reference, memory=self.memory)
            doing = ""
            scored = ((name, module.scored_cell(name)) for name in names)
            for name, refined, decisions in refine_and_record(
                module.evaluation, scored, self.steps, self.reference, warn=rank_zero_warn, memory=self.memory
            ):
                self.refined[name], self.traces[name] = refined.distances, refined.trace["steps"]
                self.decisions[name] = decisions
        except Exception as error:
            doing = doing or f"refining test condition {names[len(self.refined)]!r}"
            self._failure = f"{doing} failed, raw scores are kept: {type(error).__name__}: {error}"
            self._cause = error
