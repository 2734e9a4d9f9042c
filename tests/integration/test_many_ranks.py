"""A fit on 2, 3 and 4 gloo ranks, or with FSDP, has the numbers of one process, with everything that changes a step."""

from __future__ import annotations

import re
import shlex
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.optim import Optimizer

from datamodules.schema import PairBatch
from lightning_modules.networks.cavmae import CAVMAE, SharedBlock
from lightning_modules.networks.frontend import samples_of
from lightning_modules.networks.heads import HeadPair
from lightning_modules.scc import SCC
from lightning_modules.training.optim import AveragedWeights, LayerwiseAdamW
from tests import REPOSITORY, TINY, warm
from tests.lightning_modules.tiny import DIMS, TinyData, trainer
from tests.ranks import Ranks

pytestmark = pytest.mark.processes

BATCH, EPOCHS = 12, 2  # a batch that 2, 3 and 4 divide; 84 clips, 17 voices and 17 faces to validate on
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulated": {"accumulate_grad_batches": 2},
    "chunks": {"chunk_size": 2},
    "averaged": {"decay": 0.7},
    "static graph": {"static_graph": True},
    "all at once": {"accumulate_grad_batches": 2, "chunk_size": 2, "decay": 0.7},
}


class Kept(SCC):
    """Keeps the loss of each step of this rank."""

    def loss(self, batch: PairBatch) -> dict[str, Tensor]:
        terms = super().loss(batch)
        self.kept = [*getattr(self, "kept", []), float(terms["loss"].detach())]
        return terms


def fit(rank: int, world: int, folder: Path, resume: Path | None = None, **options: Any) -> dict[str, Any]:
    """Fits heads on synthetic pairs; losses of the steps of this rank, weights, distances."""
    torch.manual_seed(0)
    chunk, decay, static = (options.pop(key, None) for key in ("chunk_size", "decay", "static_graph"))
    network = partial(HeadPair, embedding_dim=8, hidden=[16])
    model = Kept(DIMS, network, 0.2, direction="both", chunk_size=chunk, optimizer=partial(torch.optim.AdamW, lr=1e-2))
    kept = ModelCheckpoint(folder, "kept", every_n_train_steps=options.get("max_steps"), enable_version_counter=False)
    callbacks = [kept] if decay is None else [kept, AveragedWeights(decay)]
    strategy = DDPStrategy(static_graph=True) if static else "ddp" if world > 1 else "auto"
    run = trainer(
        folder, **{"devices": world, "strategy": strategy, "max_epochs": EPOCHS, "callbacks": callbacks, **options}
    )  # fmt: skip
    run.fit(model, TinyData(batch_size=BATCH), ckpt_path=resume, weights_only=True)
    weights = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    return {"losses": model.kept, "weights": weights, "distances": model.scores["heard"], "steps": run.global_step}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Each case on one process, made when it is asked for."""
    made: dict[str, dict[str, Any]] = {}

    def of(case: str) -> dict[str, Any]:
        if case not in made:
            made[case] = fit(0, 1, tmp_path_factory.mktemp("one"), **CASES[case])
        return made[case]

    return of


@pytest.mark.parametrize(
    ("case", "world"),
    [(case, world) for case in ("plain", "all at once") for world in (2, 3, 4)]
    + [("accumulated", 2), ("chunks", 3), ("averaged", 4), ("static graph", 2)],
)
def test_a_fit_on_ranks_is_that_of_one_process(ranks: Ranks, one: Any, case: str, world: int, tmp_path: Path) -> None:
    expected = one("plain" if case in ("chunks", "static graph") else case)
    results = ranks.run(world, partial(fit, **CASES[case]), tmp_path)
    assert len({result["distances"].tobytes() for result in results}) == 1
    losses = np.mean([result["losses"] for result in results], axis=0)
    np.testing.assert_allclose(losses, expected["losses"], atol=1e-5)
    for result in results:
        assert result["steps"] == expected["steps"] == (8 if "accumulate_grad_batches" in CASES[case] else 14)
        np.testing.assert_allclose(result["distances"], expected["distances"], atol=1e-4)
        for name, value in expected["weights"].items():
            np.testing.assert_allclose(result["weights"][name], value, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(("before", "after", "steps"), [(2, 1, 7), (1, 3, 10), (4, 2, 10), (3, 4, 7)])  # 7: an epoch
def test_a_fit_goes_on_with_another_number_of_ranks(
    ranks: Ranks, one: Any, before: int, after: int, steps: int, tmp_path: Path
) -> None:
    expected = one("averaged")
    stopped = ranks.run(before, partial(fit, **CASES["averaged"], max_steps=steps), tmp_path / "first")
    resume = partial(fit, resume=tmp_path / "first" / "kept.ckpt", **CASES["averaged"])
    ended = ranks.run(after, resume, tmp_path / "second")
    parts = [np.mean([result["losses"] for result in results], axis=0) for results in (stopped, ended)]
    np.testing.assert_allclose(np.concatenate(parts), expected["losses"], atol=1e-5)
    for result in ended:
        for name, value in expected["weights"].items():
            np.testing.assert_allclose(result["weights"][name], value, atol=1e-4, err_msg=name)


def test_no_trainer_looks_for_unused_parameters() -> None:
    shipped = [*(REPOSITORY / "configs" / "trainer").glob("*.yaml"), REPOSITORY / "configs" / "slurm" / "fit.sbatch"]
    assert len(shipped) >= 5
    for path in shipped:
        text = path.read_text(encoding="utf-8")
        assert "find_unused" not in text
        names = {yaml.safe_load(text).get("strategy", "auto")} if path.suffix == ".yaml" else set()
        names |= set(re.findall(r"--trainer\.strategy=(\S+)", text))
        for name in names - {"auto"}:  # which is ddp where there are several devices
            strategy = Trainer(accelerator="cpu", devices=2, strategy=name, logger=False).strategy
            assert not getattr(strategy, "_ddp_kwargs", {}).get("find_unused_parameters", False)


class GlooFSDP(FSDPStrategy):
    """Lightning's FSDP, which it offers on GPUs alone, on the CPU."""

    def _setup_model(self, model: nn.Module) -> nn.Module:
        cpu = torch.device("cpu")
        return FullyShardedDataParallel(model, device_id=cpu, sharding_strategy=self.sharding_strategy, **self.kwargs)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Tensor]:
        # torch gathers each state into one buffer and takes it out by cpu(), which copies from a GPU alone
        with mock.patch.object(torch.Tensor, "cpu", torch.Tensor.clone):
            return super().optimizer_state(optimizer)


class TinyMedia(TinyData):
    """Noise as waveforms and images."""

    dims = (128, 3)  # type: ignore[assignment]

    def __init__(self, frames: int, image: int) -> None:
        super().__init__(batch_size=4, steps_per_epoch=10, people=8, clips=2)
        rng = np.random.default_rng(0)
        shapes = (samples_of(frames),), (3, image, image)
        self.train = [rng.normal(0, 0.1, (len(self.identity), *shape)).astype(np.float32) for shape in shapes]
        held_out = len(self.held_out[0])
        self.held_out = [rng.normal(0, 0.1, (held_out, *shape)).astype(np.float32) for shape in shapes]


def fit_network(
    rank: int, world: int, folder: Path, network: dict[str, Any], sharded: bool, **options: Any
) -> dict[str, Any]:
    """Ten steps of the SCC network with layer-wise rates, clipped; then validation of the checkpoint."""
    torch.manual_seed(0)
    optimizer = partial(LayerwiseAdamW, lr=1e-3, layer_decay=0.75, weight_decay=0.1)
    model = Kept((128, 3), partial(CAVMAE, **network), 0.1, direction="both", optimizer=optimizer)
    strategy: Any = "ddp" if world > 1 else "auto"
    if sharded:
        strategy = GlooFSDP(auto_wrap_policy=ModuleWrapPolicy({Block, SharedBlock}))
    kept = ModelCheckpoint(folder, "kept", save_last=True, enable_version_counter=False)
    given = {"devices": world, "strategy": strategy, "callbacks": [kept], "gradient_clip_val": 1.0, "max_epochs": 1}
    resume = options.pop("resume", None)
    run = trainer(folder, **{**given, **options})
    data = TinyMedia(network["frames"], network["image_size"])
    run.fit(model, data, ckpt_path=resume, weights_only=True)
    groups = [(group["lr"], group["weight_decay"], len(group["params"])) for group in run.optimizers[0].param_groups]
    return {"losses": model.kept, "groups": groups, "distances": model.scores["heard"]}


NARROW = {"width": 48, "depth": 2, "heads": 3, "frames": 32, "image_size": 32}
WIDE = {"frames": 32, "image_size": 16}  # all 164 million weights, short inputs


@pytest.mark.parametrize(
    "network", [NARROW, pytest.param(WIDE, marks=pytest.mark.slow)], ids=["narrow", "164 million weights"]
)
def test_fsdp_trains_as_ddp_and_as_one_process(ranks: Ranks, network: dict[str, Any], tmp_path: Path) -> None:
    expected = fit_network(0, 1, tmp_path / "one", network, sharded=False)
    found = {
        name: ranks.run(2, fit_network, tmp_path / name, network, name == "fsdp", timeout=1500)
        for name in ("ddp", "fsdp")
    }
    for results in found.values():
        losses = np.mean([result["losses"] for result in results], axis=0)
        assert len(losses) == 10
        np.testing.assert_allclose(losses, expected["losses"], atol=1e-4)
        assert results[0]["groups"] == results[1]["groups"] == expected["groups"]
        np.testing.assert_allclose(results[0]["distances"], expected["distances"], atol=1e-3)


@pytest.mark.parametrize("sharded", [True, False], ids=["on FSDP", "on one process"])
def test_a_checkpoint_of_fsdp_goes_on(ranks: Ranks, sharded: bool, tmp_path: Path) -> None:
    expected = fit_network(0, 1, tmp_path / "one", NARROW, sharded=False, max_epochs=2)
    stopped = ranks.run(2, fit_network, tmp_path / "first", NARROW, True)
    resume = partial(fit_network, resume=tmp_path / "first" / "last.ckpt", max_epochs=2)
    ended = ranks.run(2 if sharded else 1, resume, tmp_path / "second", NARROW, sharded)
    parts = [np.mean([result["losses"] for result in results], axis=0) for results in (stopped, ended)]
    np.testing.assert_allclose(np.concatenate(parts), expected["losses"], atol=1e-3)


def test_the_command_trains_with_fsdp_and_tests_with_ddp(tmp_path: Path) -> None:
    fsdp = {"trainer": {"devices": 2, "strategy": {"class_path": f"{__name__}.GlooFSDP"}}}
    (tmp_path / "fsdp.yaml").write_text(yaml.safe_dump(fsdp))
    config = ["--config", str(TINY), "--config", str(tmp_path / "fsdp.yaml")]
    done = warm.run("fit", *config, "--trainer.gradient_clip_val=1", f"--run_dir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("not tested: next: ")]
    given = ["--trainer.devices=1", f"--run_dir={tmp_path / 'test'}"]
    done = warm.run(*shlex.split(line.removeprefix("not tested: next: python -m experiments.run ")), *given)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "test" / "results.json").is_file()
    best = f"--ckpt_path={tmp_path / 'run' / 'checkpoints' / 'best.ckpt'}"
    done = warm.run("test", *config, best, f"--run_dir={tmp_path / 'refused'}")
    assert done.returncode == 2
    assert "error: GlooFSDP only trains; test with --trainer.strategy ddp" in done.stderr
    done = warm.run(
        "fit", *config, "--trainer.callbacks+=lightning_modules.AveragedWeights", f"--run_dir={tmp_path / 'ema'}"
    )
    assert "AveragedWeights cannot average the parts of weights of GlooFSDP; use one of the two" in done.stderr
