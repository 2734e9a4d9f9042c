"""Steps in turn, the contract they keep, and the callback that runs them."""

from __future__ import annotations

import inspect
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from subprocess import run
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

from datamodules.schema import DataError, ScoredCell
from experiments.config.build import read_steps
from postproc import (
    BlockAverage,
    Centring,
    ChainingCluster,
    ChainingClusterCallback,
    GenderProbe,
    Guarded,
    JointIdentities,
    Matching,
    Refined,
    Refinement,
    Selected,
    Threshold,
    Transport,
    refine,
)
from postproc.refinement import unchanged
from postproc.steps.joint.gibbs import Prior
from tests.postproc.conftest import make_cell
from tests.ranks import Ranks


class Add(Refinement):
    def __init__(self, amount: float) -> None:
        self.amount = amount

    def __call__(self, cell: ScoredCell) -> Refined:
        return Refined(cell.distances + self.amount, {"amount": self.amount})


class Double(Refinement):
    def __call__(self, cell: ScoredCell) -> Refined:
        return Refined(2 * cell.distances)


class Decline(Refinement):
    def __call__(self, cell: ScoredCell) -> Refined:
        return unchanged(cell, "too few voices")


class Break(Refinement):
    def __call__(self, cell: ScoredCell) -> Refined:
        raise ZeroDivisionError("a bug")


@pytest.fixture
def cell() -> ScoredCell:
    return make_cell(people=1, per_person=2)[0]


def test_steps_apply_in_turn_and_leave_the_cell_alone(cell: ScoredCell) -> None:
    before = cell.distances.copy()
    refined = refine(cell, [Add(1.0), Double()])
    np.testing.assert_allclose(refined.distances, 2 * (before + 1))
    assert refined.trace["steps"] == [{"step": "Add", "amount": 1.0}, {"step": "Double"}]
    np.testing.assert_array_equal(cell.distances, before)
    np.testing.assert_array_equal(refine(cell, []).distances, before)


class Returns(Refinement):
    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, cell: ScoredCell) -> Refined:
        refined: Refined = self.value
        return refined


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, "NoneType"),
        (np.zeros(16), "ndarray"),
        (Refined([0.0] * 16), "distances of list"),  # type: ignore[arg-type]  # as a user may write it
        (Refined(np.zeros(16, dtype=bool)), "distances of bool"),
        (Refined(np.zeros(3)), r"\(3,\) distances"),
        (Refined(np.r_[0.0, np.nan, np.zeros(14)]), "1 that are not finite, the first of trial 1"),
    ],
)
def test_what_a_step_wrongly_returns_is_named_with_its_line(cell: ScoredCell, value: Any, found: str) -> None:
    line = inspect.getsourcelines(Returns.__call__)[1]
    with pytest.raises(DataError, match=rf"test_refinement.py:{line}: Returns.__call__ must return .*, not {found}$"):
        refine(cell, [Double(), Returns(value)])


class Listed:
    """Trial keys of any cell."""

    def __getitem__(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(trials=SimpleNamespace(keys=np.array([f"{name}{i}" for i in range(16)])))


class Scorer(SimpleNamespace):
    """A module as the callback sees it, scored on demand."""

    evaluation = SimpleNamespace(cells=Listed())

    def small_reference(self) -> bool:
        return False

    def evaluate(self, stage: str) -> None:
        self.stages.append(stage)
        self.scores = {name: cell.distances for name, cell in self.cells.items()}

    def scored_cell(self, name: str) -> ScoredCell:
        return self.cells[name]


def play(steps: list[Refinement] | None, cell: ScoredCell, trainer: Any = None, stage: str = "test") -> Any:
    trainer = trainer or SimpleNamespace(is_global_zero=True, strategy=SimpleNamespace(broadcast=lambda x: x))
    module = Scorer(cells={"heard": cell, "unheard": replace(cell, distances=cell.distances + 1)}, stages=[])
    callback = ChainingClusterCallback(steps)
    hook = callback.on_test_epoch_end if stage == "test" else callback.on_predict_epoch_end
    hook(trainer, cast(LightningModule, module))
    assert module.stages == [stage]
    return callback, module


@pytest.mark.parametrize("stage", ["test", "predict"])
def test_callback_refines_every_cell(cell: ScoredCell, stage: str) -> None:
    callback, module = play([Add(1.0), Double()], cell, stage=stage)
    np.testing.assert_allclose(module.refined["heard"], 2 * (cell.distances + 1))
    np.testing.assert_allclose(module.refined["unheard"], 2 * (cell.distances + 2))
    assert module.refined is callback.refined
    assert [trace["step"] for trace in callback.traces["unheard"]] == ["Add", "Double"]
    callback.teardown(None, module, "test")


def test_callback_without_steps_scores_and_refines_nothing(cell: ScoredCell) -> None:
    nothing: list[list[Refinement] | None] = [None, []]
    for steps in nothing:
        _, module = play(steps, cell)
        assert module.refined == {}
        assert set(module.scores) == {"heard", "unheard"}


def test_unchanged_cells_warn_once_each_with_the_reason(cell: ScoredCell) -> None:
    with pytest.warns(UserWarning, match="left the scores unchanged") as caught:
        _, module = play([Decline()], cell)
    assert [str(w.message) for w in caught] == [
        f"test condition {name!r}: Decline left the scores unchanged: too few voices" for name in ("heard", "unheard")
    ]
    np.testing.assert_array_equal(module.refined["heard"], cell.distances)


def test_a_bug_keeps_raw_scores_and_fails_in_teardown(cell: ScoredCell) -> None:
    callback, module = play([Break()], cell)
    assert module.refined == {}
    np.testing.assert_array_equal(module.scores["heard"], cell.distances)
    with pytest.raises(
        RuntimeError, match="refining test condition 'heard' failed, raw scores are kept: ZeroDivisionError: a bug"
    ):
        callback.teardown(None, module, "test")
    callback.teardown(None, module, "test")


class Module(LightningModule):
    """A scored module in a real Trainer."""

    def __init__(self, cell: ScoredCell) -> None:
        super().__init__()
        self.cell = cell
        self.evaluation = SimpleNamespace(cells=Listed())
        self.scores: dict[str, np.ndarray] = {}
        self.refined: dict[str, np.ndarray] = {}

    def test_step(self, batch: torch.Tensor, batch_idx: int) -> None: ...

    def small_reference(self) -> bool:
        return False

    def evaluate(self, stage: str) -> None:
        self.scores = {"heard": self.cell.distances}

    def scored_cell(self, name: str) -> ScoredCell:
        return self.cell


class Writer(Callback):
    """Stands before the refining callback and writes after the epoch, as ResultsWriter does."""

    def on_test_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.written = dict(pl_module.scores), dict(pl_module.refined)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize("steps", [[Double()], [Break()]])
def test_in_a_trainer_results_are_written_before_a_bug_ends_the_run(cell: ScoredCell, steps: list[Refinement]) -> None:
    writer, broken = Writer(), isinstance(steps[0], Break)
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        callbacks=[writer, ChainingClusterCallback(steps)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with pytest.raises(RuntimeError, match="ZeroDivisionError: a bug") if broken else nullcontext():
        trainer.test(Module(cell), DataLoader(TensorDataset(torch.zeros(1))), verbose=False)
    scores, refined = writer.written
    np.testing.assert_array_equal(scores["heard"], cell.distances)
    assert set(refined) == (set() if broken else {"heard"})


def on_rank(rank: int, world: int, steps: list[Refinement]) -> tuple[list[float], int, str]:
    def broadcast(value: object) -> object:
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0)
        return box[0]

    cell = make_cell(people=1, per_person=2)[0]
    trainer = SimpleNamespace(is_global_zero=rank == 0, strategy=SimpleNamespace(broadcast=broadcast))
    callback, module = play(steps, cell, trainer)
    failure = ""
    try:
        callback.teardown(None, module, "test")
    except RuntimeError as error:
        failure = str(error)
    return list(module.refined.get("heard", [])), len(callback.traces), failure


def test_all_ranks_get_the_refined_scores(ranks: Ranks) -> None:
    first, second = ranks.run(2, on_rank, [Double()])
    assert first[0] == second[0] == list(2 * make_cell(people=1, per_person=2)[0].distances)
    assert (first[1], second[1]) == (2, 0)


def test_a_bug_on_rank_zero_fails_every_rank_instead_of_hanging(ranks: Ranks) -> None:
    failures = [answer[2] for answer in ranks.run(2, on_rank, [Break()])]
    assert failures[0] == failures[1] != ""


def parse(*arguments: str) -> ChainingClusterCallback:
    parser = ArgumentParser(parser_mode="omegaconf+", exit_on_error=False)
    parser.add_class_arguments(ChainingClusterCallback, "postproc")
    return parser.instantiate(parser.parse_args(arguments)).postproc


def test_shipped_configs_build_their_steps(request: pytest.FixtureRequest) -> None:
    configs = request.config.rootpath / "configs" / "postproc"
    assert parse("--postproc", str(configs / "none.yaml")).steps == []
    (step,) = parse("--postproc", str(configs / "chaining.yaml")).steps
    assert isinstance(step, ChainingCluster)
    paper = ChainingCluster("elbow", (2, 8))
    assert vars(step) == vars(paper), "the config states the paper's reading, and the defaults of all else"
    default_of = {"blocks": BlockAverage(), "transport": Transport(), "gender": GenderProbe(), "centring": Centring()}
    default_of |= {"joint": JointIdentities()}
    for name, default_step in default_of.items():
        (step,) = parse("--postproc", str(configs / f"{name}.yaml")).steps
        assert type(step) is type(default_step)
        assert vars(step) == vars(default_step), f"{name}.yaml states the defaults"
    (step,) = parse("--postproc", str(configs / "guarded_chaining.yaml")).steps
    assert isinstance(step, Guarded)
    assert isinstance(step.step, ChainingCluster)
    (matching,), default = parse("--postproc", str(configs / "matching.yaml")).steps, Matching()
    assert isinstance(matching, Matching)
    for option in ("temperature", "unbalanced", "initial_weight", "seed"):
        assert getattr(matching, option) == getattr(default, option), "matching.yaml states the defaults"
    best = parse("--postproc", str(configs / "best.yaml")).steps
    assert [type(step) for step in best] == [Transport, JointIdentities]
    built = [parse("--postproc", str(path)).steps for path in sorted(configs.glob("*.yaml"))]
    assert len(built) >= 9


def test_a_config_may_give_either_kind_of_threshold() -> None:
    text = "[{class_path: postproc.ChainingCluster, init_args: {t_m: {absolute: 0.3}, n_identities: 4}}]"
    (step,) = parse("--postproc.steps", text).steps
    assert isinstance(step, ChainingCluster)
    assert step.t_m == Threshold(absolute=0.3)
    assert step.n_identities == 4


def test_importing_postproc_and_its_metrics_is_light() -> None:
    code = (
        "import sys, postproc, postproc.metrics.evaluate;"
        "print(sorted({'torch', 'faiss', 'lightning'} & set(sys.modules)))"
    )
    assert run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_public_names_load_and_unknown_ones_are_named() -> None:
    import postproc

    assert set(postproc.__all__) <= set(dir(postproc))
    for name in postproc.__all__:
        assert getattr(postproc, name).__name__ == name
    with pytest.raises(AttributeError, match="No postproc attribute ChainCluster"):
        _ = postproc.ChainCluster


def test_a_step_that_is_no_more_names_what_to_take(tmp_path: Path) -> None:
    config = tmp_path / "old.yaml"
    config.write_text("steps: [{class_path: postproc.Averaged, init_args: {members: {}}}]")
    with pytest.raises(DataError, match=r"'postproc\.Averaged': it was removed; take postproc/matching\.yaml"):
        read_steps(config)


def test_configs_of_earlier_versions_are_read(tmp_path: Path) -> None:
    config = tmp_path / "old.yaml"
    config.write_text(
        "steps: [{class_path: postproc.Selected, init_args: {alternatives: {a: [{class_path: postproc.JointPeople, "
        "init_args: {atoms: 9, person: 1.0, lone: 2.0, initial: 0.5, burn: 3}}]}}}]"
    )
    (step,) = read_steps(config)
    assert isinstance(step, Selected)
    (joint,) = step.alternatives["a"]
    assert isinstance(joint, JointIdentities)
    assert (joint.sub_clusters, joint.prior, joint.initial_weight, joint.burn_in) == (9, Prior(0.15, 1.0, 2.0), 0.5, 3)
