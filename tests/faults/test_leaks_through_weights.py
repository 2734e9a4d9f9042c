"""Weights that learnt a tested person or heard the unheard language: refused by whatever door, with every method."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from experiments.inference.exporting import export
from experiments.inference.trained import read_trained
from experiments.run import main
from lightning_modules.networks.weights import learnt_of
from tests.faults.worlds import LANGUAGES, feature_world, refusal

METHODS: dict[str, dict[str, Any]] = {
    "SCC": {"network": {"class_path": "lightning_modules.HeadPair", "init_args": {"embedding_dim": 4}}},
    "FOP": {"embedding_dim": 4},
    "FAA": {"clusters": [3], "matching": None, "diverse_positives": False},
    "RegularisedCCA": {"directions": 2},
}
OTHER_FOLD = ["--data.exclude_identities=[p0,p1,p2,p3]", "--data.val_identities=[p6,p7]"]
OTHER_FOLD += ["--data.test={heard: {identities: [p0, p1, p2, p3], language: English}}"]
OTHER_LANGUAGE = ["--data.train_languages=[Urdu]", "--data.test={unheard: English.csv, heard: Urdu.csv}"]


class Runs:
    """Fits of a small world by method: p0 to p5 train and validate in English, p6 to p9 are tested."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.config = folder, feature_world(folder / "world")
        self.made: dict[str, Path] = {}

    def model(self, method: str) -> str:
        options = {"class_path": f"lightning_modules.{method}", "init_args": METHODS[method]}
        return f"--model={json.dumps(options)}"

    def of(self, method: str) -> Path:
        if method not in self.made:
            run = self.made[method] = self.folder / method
            assert main(["fit", *self.common(method), f"--run_dir={run}", "--no-test"]) == 0
            export(read_trained(run), run / "export")
        return self.made[method]

    def common(self, method: str) -> list[str]:
        return ["--config", str(self.config), self.model(method), "--data.val_identities=[p4,p5]"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("leaks"))


def door(name: str, run: Path, out: Path) -> list[str]:
    """The command line that takes the weights of a run by this door."""
    best, exported = run / "checkpoints" / "best.ckpt", run / "export" / "model.safetensors"
    if name == "export":  # the file alone, without its config
        exported = Path(shutil.copy(exported, out / "alone.safetensors"))
    commands = {
        "fit --ckpt_path": ["fit", f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}", "--trainer.max_epochs=2"],
        "test": ["test", f"--ckpt_path={best}"],
        "predict": ["predict", f"--ckpt_path={best}"],
        "validate": ["validate", f"--ckpt_path={best}"],
        "model.weights": ["fit", f"--model.weights={best}"],
        "export": ["fit", f"--model.weights={exported}"],
        "test of weights": ["test", f"--model.weights={exported}"],
        "--resume auto": ["fit", "--resume=auto", "--trainer.max_epochs=2"],
    }
    command, *options = commands[name]
    folder = out / "run"
    if name == "--resume auto":
        shutil.copytree(run, folder)
        (folder / "trained.json").unlink(missing_ok=True)
    return [command, *options, f"--run_dir={folder}"]


DOORS = (
    "fit --ckpt_path",
    "--resume auto",
    "test",
    "predict",
    "validate",
    "model.weights",
    "export",
    "test of weights",
)


def ordered(command: list[str], common: list[str]) -> list[str]:
    return [command[0], *common, *command[1:]]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", DOORS)
def test_every_door_refuses_what_the_weights_have_learnt(
    name: str, method: str, runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if method == "RegularisedCCA" and ("weights" in name or "export" in name):
        pytest.skip("the closed form starts from no weights")
    run = runs.of(method)
    command = ordered(door(name, run, tmp_path), runs.common(method))
    if name == "validate":
        line = refusal([*command, "--data.val_identities=[p3,p5]"], capsys)
        assert "validation heard: the weights have learnt from 1 of its identities: p3;" in line
        return
    line = refusal([*command, *OTHER_FOLD], capsys)
    assert "data.test.heard: the weights have learnt from 4 of its identities: p0, p1, p2, p3;" in line
    line = refusal([*command, *OTHER_LANGUAGE], capsys)
    assert "data.test.unheard: is a test of unheard English, but the weights were trained on English" in line


@pytest.mark.parametrize("method", [m for m in METHODS if m != "RegularisedCCA"])
def test_a_record_passes_from_fit_to_fit(
    method: str, runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """English, then Urdu from its weights, then from the export of that: all three know both."""
    weights = runs.of(method) / "export" / "model.safetensors"
    test = "--data.test={both: {identities: tested.txt}}"
    second = tmp_path / "second"
    urdu = ["--data.train_languages=[Urdu]", test, f"--model.weights={weights}"]
    assert main(["fit", *runs.common(method), *urdu, f"--run_dir={second}"]) == 0
    learnt = learnt_of(second / "checkpoints" / "best.ckpt")
    assert learnt.languages == set(LANGUAGES)
    assert learnt.among([f"p{i}" for i in range(10)], "") == [f"p{i}" for i in range(6)]
    export(read_trained(second), tmp_path / "export")
    assert learnt_of(tmp_path / "export" / "model.safetensors") == learnt
    card = (tmp_path / "export" / "README.md").read_text()
    assert "training languages: English, Urdu" in card
    assert "learnt from 6 identities" in " ".join(card.split())
