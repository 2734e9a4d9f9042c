"""The model configs of features: each builds what it says, runs, and documents the command that uses it."""

from __future__ import annotations

from argparse import ArgumentError
from pathlib import Path

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim import Optimizer

import lightning_modules
from lightning_modules.aam import AAM
from lightning_modules.base import AssociationModule
from lightning_modules.cca import RegularisedCCA
from lightning_modules.faa import FAA
from lightning_modules.fop import FOP, LinearFusion
from lightning_modules.scc import SCC
from tests.lightning_modules.tiny import DIMS, TinyData, trainer

CONFIGS = Path(lightning_modules.__file__).parents[1] / "configs" / "model"


def build(name: str) -> AssociationModule:
    content = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))
    content["init_args"]["dims"] = list(DIMS)
    if name.startswith(("fop", "aam")):
        content["init_args"]["num_identities"] = 12
    if isinstance(content["init_args"].get("clusters"), list):
        content["init_args"]["clusters"] = [4, 8]  # the tiny world has 42 videos
    if name == "aam_s2f":
        content["init_args"]["embedding_dim"] = 8  # CCA has no more directions than the smaller input
    if name == "cca":
        content["init_args"]["directions"] = 4  # the tiny voices are 12 wide
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(AssociationModule, "model")
    return parser.instantiate(parser.parse_object({"model": content})).model


class NothingUnused(Callback):
    """Every weight has a gradient in every step: DDP need not look for unused ones, and may take the graph as fixed."""

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        trained = {name: p for name, p in pl_module.named_parameters() if p.requires_grad}
        assert not [name for name, p in trained.items() if p.grad is None]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("scc_heads", SCC),
        ("scc_linear", SCC),
        ("fop", FOP),
        ("fop_baseline", FOP),
        ("aam", AAM),
        ("aam_published", AAM),
        ("aam_s2f", AAM),
        ("fop_linear", FOP),
        ("cca", RegularisedCCA),
        ("faa", FAA),
        ("faa_small", FAA),
        ("faa_s2f", FAA),
        ("self_lifting", FAA),
        ("faa_supervised", FAA),
    ],
)
def test_config_builds_and_trains(name: str, kind: type, tmp_path: Path) -> None:
    first = (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# python -m experiments.run fit --config ")
    assert first.endswith(f"--model model/{name}.yaml")
    model = build(name)
    assert type(model) is kind
    run = trainer(tmp_path, max_epochs=1)
    if kind is not RegularisedCCA:  # takes no steps
        run.callbacks.append(NothingUnused())
    run.fit(model, TinyData())
    assert torch.isfinite(run.callback_metrics["val/eer"])


def test_the_schedule_of_the_heads_ends_their_training() -> None:
    """On a few dozen people more steps only overfit, so the rate is 0 after the 200 steps of the schedule."""
    model = build("scc_heads")
    configured = model.configure_optimizers()
    scheduler = configured["lr_scheduler"]["scheduler"]
    for _ in range(250):
        configured["optimizer"].step()
        scheduler.step()
    assert configured["optimizer"].param_groups[0]["lr"] == 0


def test_linear_configs_are_linear() -> None:
    assert isinstance(build("fop_linear").fusion_layer, LinearFusion)
    assert not any(isinstance(m, torch.nn.ReLU) for m in build("scc_linear").modules())


def test_public_names_load_and_unknown_ones_are_named() -> None:
    for name in lightning_modules.__all__:
        assert getattr(lightning_modules, name).__name__ == name
    with pytest.raises(AttributeError, match="No lightning_modules attribute SSC"):
        _ = lightning_modules.SSC


@pytest.mark.parametrize("name", ["SCC", "FOP", "FAA", "AAM", "RegularisedCCA"])
def test_yaml_takes_a_model_and_not_their_base(name: str) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(AssociationModule, "model")
    assert parser.parse_object({"model": {"class_path": f"lightning_modules.{name}"}}).model.class_path.endswith(name)
    with pytest.raises(ArgumentError, match="AssociationModule"):
        parser.parse_object({"model": {"class_path": "lightning_modules.AssociationModule"}})
