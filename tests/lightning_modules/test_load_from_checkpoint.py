"""A method's ``load_from_checkpoint``: the model of a run from its file, without sizes, and nothing foreign from it."""

from __future__ import annotations

import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.schema import MODALITIES, DataError
from experiments.run import main
from lightning_modules import FAA, FOP, SCC, HeadPair, RegularisedCCA, SharedHeads
from lightning_modules.base import AssociationModule
from lightning_modules.networks.cavmae import CAVMAE
from lightning_modules.networks.frontend import FrontEnd
from tests.faults.processes import TINY
from tests.lightning_modules.tiny import DIMS, TinyData, trainer

METHODS: dict[type[AssociationModule], list[str]] = {
    SCC: ["--model.network.hidden=[12]", "--model.network.norm=batch", "--model.learnable_tau=true"],
    FOP: ["--model=FOP", "--model.embedding_dim=8", "--model.fusion=linear"],
    FAA: ["--model=FAA", "--model.clusters=[4,6]", "--model.network=SharedHeads", "--model.network.hidden=9"],
    RegularisedCCA: ["--model=RegularisedCCA", "--model.directions=[2,5]"],
}


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Run folders of the tiny config by method, each made when first asked for."""
    folders: dict[type, Path] = {}

    def run_of(method: type) -> Path:
        if method not in folders:
            folder = folders[method] = tmp_path_factory.mktemp(method.__name__)
            model = [arg.replace("--model=", "--model=lightning_modules.") for arg in METHODS[method]]
            model = [arg.replace("--model.network=", "--model.network=lightning_modules.") for arg in model]
            command = ["fit", "--config", str(TINY), f"--run_dir={folder}", "--logger=null", "--postproc.steps=[]"]
            assert main([*command, *model]) == 0
        return folders[method]

    return run_of


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("above", [False, True])
def test_embeddings_are_those_of_the_run(method: type[AssociationModule], above: bool, tiny_run: Any) -> None:
    run = tiny_run(method)
    path = run / "checkpoints" / "best.ckpt"
    model = (AssociationModule if above else method).load_from_checkpoint(path)
    assert type(model) is method
    assert not model.training
    assert model.dims == tuple(
        np.load(run / "embeddings" / f"{modality}s_input.npy").shape[1] for modality in MODALITIES
    )
    state = torch.load(path, weights_only=True)["state_dict"]
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    for modality in MODALITIES:
        x = torch.from_numpy(np.load(run / "embeddings" / f"{modality}s_input.npy"))
        with torch.no_grad():
            embeddings = model.embed(modality, x).numpy()
        np.testing.assert_allclose(embeddings, np.load(run / "embeddings" / f"{modality}s.npy"), atol=1e-6)


def test_a_checkpoint_holds_plain_values_only(tiny_run: Any) -> None:
    content = torch.load(tiny_run(SCC) / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["hyper_parameters"]["_class_path"] == "lightning_modules.SCC"
    assert content["hyper_parameters"]["network"]["init_args"]["hidden"] == [12]
    assert "optimizer" not in content["hyper_parameters"]


def checkpoint(model: AssociationModule, folder: Path) -> Path:
    run = trainer(folder, max_epochs=1, callbacks=[], enable_checkpointing=False)
    run.fit(model, TinyData())
    run.save_checkpoint(folder / "model.ckpt")
    return folder / "model.ckpt"


@pytest.mark.parametrize(
    "make",
    [
        partial(SCC, DIMS),
        partial(SCC, DIMS, network=partial(HeadPair, embedding_dim=np.int64(6), hidden=(7,)), tau=0.1),
        partial(FOP, DIMS, num_identities=12, network=SharedHeads),
        partial(FAA, DIMS, clusters=[4], matching=None, optimizer=lambda p: torch.optim.SGD(p, lr=0.1)),
    ],
)
def test_models_made_in_python_come_back(make: partial[AssociationModule], tmp_path: Path) -> None:
    model = make()
    path = checkpoint(model, tmp_path)
    loaded = make.func.load_from_checkpoint(path)  # type: ignore[attr-defined]
    x = torch.randn(5, DIMS[0])
    with torch.no_grad():
        torch.testing.assert_close(loaded.embed_voice(x), model.eval().embed_voice(x), rtol=0, atol=0)
    assert loaded.learnt == model.learnt
    assert loaded.learnt.languages == {"en"}


def test_the_weights_it_started_from_are_not_read_again(tmp_path: Path) -> None:
    start = checkpoint(SCC(DIMS), tmp_path)
    (tmp_path / "second").mkdir()
    path = checkpoint(SCC(DIMS, weights=str(start)), tmp_path / "second")
    start.unlink()
    assert SCC.load_from_checkpoint(path).state_dict().keys() == SCC(DIMS).state_dict().keys()


def test_nested_options_are_objects_or_factories_as_their_types_say(tmp_path: Path) -> None:
    network = {"class_path": "lightning_modules.CAVMAE", "init_args": {"width": 16, "depth": 1, "heads": 2}}
    network["init_args"] |= {"frames": 32, "image_size": 32, "frontend": {"class_path": "lightning_modules.FrontEnd"}}  # type: ignore[operator]
    network["init_args"]["frontend"]["init_args"] = {"std": 2.0}  # type: ignore[index]
    model = SCC((128, 3), network=partial(CAVMAE, width=16, depth=1, heads=2, frames=32, image_size=32))
    stored = {"_class_path": "lightning_modules.SCC", "dims": [128, 3], "network": network}
    path = tmp_path / "media.ckpt"
    torch.save({"state_dict": model.state_dict(), "hyper_parameters": stored}, path)
    loaded = SCC.load_from_checkpoint(path)
    assert isinstance(loaded.network, CAVMAE)
    assert isinstance(loaded.network.frontend, FrontEnd)
    assert loaded.network.frontend.std == 2.0


def older(path: Path, **changes: Any) -> Path:
    content = torch.load(path, weights_only=True)
    if changes:
        content["hyper_parameters"] |= changes
    else:
        del content["hyper_parameters"]
    torch.save(content, path)
    return path


def test_a_checkpoint_of_an_older_version_asks_for_the_sizes(tmp_path: Path) -> None:
    path = older(checkpoint(FOP(DIMS, num_identities=12), tmp_path))
    call = r"FOP\.load_from_checkpoint\(path, dims=\(192, 512\), num_identities=58, network=\.\.\.\)"
    with pytest.raises(DataError, match=call):
        FOP.load_from_checkpoint(path)
    FOP.load_from_checkpoint(path, dims=DIMS, num_identities=12)
    with pytest.raises(DataError, match="wrong shape"):
        FOP.load_from_checkpoint(path, dims=(12, 21), num_identities=12)


class Foreign(HeadPair):
    """A network that is not in lightning_modules."""


def test_what_the_file_cannot_name_is_asked_for(tmp_path: Path) -> None:
    path = checkpoint(SCC(DIMS, network=lambda v, f: HeadPair(v, f, 6)), tmp_path)
    with pytest.raises(DataError, match=r"the network of its model has no import path.*network=\.\.\."):
        SCC.load_from_checkpoint(path)
    SCC.load_from_checkpoint(path, network=partial(HeadPair, embedding_dim=6))
    path = checkpoint(SCC(DIMS, network=Foreign), tmp_path)
    with pytest.raises(DataError, match=r"names tests\.\S+\.Foreign, which is not a class of lightning_modules"):
        SCC.load_from_checkpoint(path)
    assert isinstance(SCC.load_from_checkpoint(path, network=Foreign).network, Foreign)


class Own(SCC):
    """A method defined outside lightning_modules."""


def test_a_method_from_elsewhere_loads_by_its_own_class(tmp_path: Path) -> None:
    path = checkpoint(Own(DIMS), tmp_path)
    assert type(Own.load_from_checkpoint(path)) is Own
    with pytest.raises(DataError, match=r"not a class of lightning_modules"):
        SCC.load_from_checkpoint(path)
    with pytest.raises(DataError, match="class SCC, not FOP"):
        FOP.load_from_checkpoint(checkpoint(SCC(DIMS), tmp_path))


@pytest.mark.parametrize(
    "changes",
    [
        {"network": {"class_path": "os.system"}},
        {"network": {"class_path": "this.module"}},  # importing ``this`` prints
        {"network": {"class_path": "lightning_modules.networks.weights.torch.load"}},
        {"network": {"class_path": "lightning_modules.networks.weights.Path"}},
        {"network": {"class_path": "lightning_modules.networks.weights.load_weights"}},
        {"network": {"class_path": "lightning_modulesX.Evil"}},
        {"network": {"class_path": "lightning_modules.HeadPair", "init_args": {"hidden": {"class_path": "this.that"}}}},
        {"network": {"class_path": ["os", "system"]}},
        {"network": "this.module"},
        {"network": {"class_path": "lightning_modules.HeadPair", "init_args": {"no_such_option": 1}}},
        {"_class_path": "this.module"},
        {"_class_path": "lightning_modules.HeadPair"},
        {"_instantiator": "os.system", "no_such_option": 1},
    ],
)
def test_a_crafted_file_runs_nothing_and_ends_in_a_line(changes: dict[str, Any], tmp_path: Path) -> None:
    path = older(checkpoint(SCC(DIMS), tmp_path), **changes)
    with pytest.raises(DataError, match=re.escape(str(path))) as error:
        SCC.load_from_checkpoint(path)
    assert "\n" not in str(error.value)
    assert "this" not in sys.modules


def test_options_of_lightnings_that_would_loosen_the_checks_are_refused(tmp_path: Path) -> None:
    for options in ({"hparams_file": "x.yaml"}, {"strict": False}, {"weights_only": False}):
        with pytest.raises(ValueError, match="always true"):
            SCC.load_from_checkpoint(tmp_path / "any.ckpt", **options)
    with pytest.raises(DataError, match="no such weights file"):
        SCC.load_from_checkpoint(tmp_path / "none.ckpt")
