"""Weights that learnt a tested person or heard the unheard language: refused by whatever door, with every method."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from datamodules.evaluation.learnt import Learnt, check_learnt
from datamodules.schema import DataError
from experiments.inference.exporting import export
from experiments.inference.trained import read_trained
from experiments.run import main
from lightning_modules import FOP
from lightning_modules.networks.cavmae import CAVMAE
from lightning_modules.networks.weights import WeightsError, learnt_of
from tests.experiments.saved import world as evaluation_of
from tests.faults.worlds import LANGUAGES, TRANSFORMER, feature_world, media_world, refusal

METHODS: dict[str, dict[str, Any]] = {
    "SCC": {"network": {"class_path": "lightning_modules.HeadPair", "init_args": {"embedding_dim": 4}}},
    "FOP": {"network": None, "embedding_dim": 4},
    "AAM": {"embedding_dim": 4},
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


QUICK = {(name, "SCC") for name in DOORS} | {("test", "FOP"), ("test", "FAA"), ("test", "RegularisedCCA")}
MATRIX = [
    pytest.param(name, method, marks=[] if (name, method) in QUICK else [pytest.mark.slow])
    for name in DOORS
    for method in METHODS
    if method != "RegularisedCCA" or not ("weights" in name or "export" in name)  # it starts from no weights
]


@pytest.mark.parametrize(("name", "method"), MATRIX)
def test_every_door_refuses_what_the_weights_have_learnt(
    name: str, method: str, runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs.of(method)
    command = ordered(door(name, run, tmp_path), runs.common(method))
    if name == "validate":
        line = refusal([*command, "--data.val_identities=[p3,p5]"], capsys)
        assert "validation heard: the weights have learnt from 1 of its identities: p3; name others in data.val" in line
        return
    line = refusal([*command, *OTHER_FOLD], capsys)
    assert "data.test.heard: the weights have learnt from 4 of its identities: p0, p1, p2, p3;" in line
    line = refusal([*command, *OTHER_LANGUAGE], capsys)
    assert "the weights were trained on English, but data.test.unheard is a test of unheard English;" in line


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


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (Learnt.of("", [f"ID{i:04d}" for i in range(9)]), "validation heard: the weights have learnt from 2 of its id"),
        (
            Learnt.of("MAV-Celeb v2", ["id0001"], (), ["urdu"]),
            "the weights were trained on urdu, but data.test.unheard",
        ),
        (None, "cavmae.ckpt: nothing says whom these weights have learnt from"),
    ],
)
def test_weights_of_the_network_are_checked(
    record: Learnt | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``network.checkpoint`` is a door of its own."""
    config = media_world(tmp_path)
    options = TRANSFORMER["init_args"]["network"]["init_args"]  # type: ignore[index]
    state = {f"network.{key}": value for key, value in CAVMAE(128, 3, **options).state_dict().items()}
    content = {"state_dict": state} | ({} if record is None else {"learnt": record.plain()})
    torch.save(content, tmp_path / "cavmae.ckpt")
    fit = ["fit", "--config", str(config), f"--run_dir={tmp_path / 'run'}"]
    line = refusal([*fit, f"--model.network.checkpoint={tmp_path / 'cavmae.ckpt'}"], capsys)
    assert line.startswith(said), line


def official(path: Path) -> Path:
    """A weights file in the form of the baseline's: of another project, without a record."""
    torch.manual_seed(1)
    model = FOP((6, 8), num_identities=7, embedding_dim=4)
    for name, value in model.state_dict().items():
        if name.endswith("running_mean"):
            value.fill_(0.3)
    torch.save({"epoch": 3, "state_dict": model.state_dict()}, path)
    return path


def baseline_distances(path: Path, world: Path) -> np.ndarray:
    """Distances of the trials of English.csv by the baseline's formula, in float64, on raw rows."""
    state = torch.load(path, weights_only=True)["state_dict"]
    rows = pd.read_csv(world / "manifest.csv")
    embedded = []
    for name in ("voice", "face"):
        x = torch.from_numpy(np.load(world / f"{name}s.npy")).double()
        weight, bias, mean, var, scale, shift = (
            state[f"{name}_branch.fc1.{key}"].double()
            for key in ("0.weight", "0.bias", "1.running_mean", "1.running_var", "1.weight", "1.bias")
        )
        x = ((x @ weight.T + bias - mean) / (var + 1e-5).sqrt() * scale + shift).relu()
        embedded.append(torch.tanh(x / x.norm(dim=1, keepdim=True).clamp_min(1e-12)))
    trials = pd.read_csv(world / "English.csv")
    v, f = (pd.Index(rows[name]).get_indexer(trials[name]) for name in ("voice", "face"))
    return (embedded[0][v] - embedded[1][f]).norm(dim=1).numpy()


@pytest.mark.parametrize("command", ["test", "predict"])
def test_given_weights_are_tested_without_a_fit_on_raw_rows(
    command: str, runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, world = official(tmp_path / "official.pth.tar"), runs.config.parent
    line = [command, *runs.common("FOP"), f"--model.weights={weights}", f"--run_dir={tmp_path / 'run'}"]
    assert "set data.normalise to false" in refusal([*line, "--data.normalise=true"], capsys)
    if command == "test":
        assert "official.pth.tar: nothing says whom" in refusal(line, capsys)
        assert "official.pth.tar: nothing says whom" in refusal([*line, "--trust_weights=[other.pth]"], capsys)
        line.append("--trust_weights=[official.pth.tar]")
    assert main(line) == 0
    scores = pd.read_parquet(tmp_path / "run" / "scores.parquet")
    distances = scores.loc[scores["cell"] == "heard", "distance"]
    np.testing.assert_allclose(distances, baseline_distances(weights, world), atol=1e-6)
    if command == "test":
        assert json.loads((tmp_path / "run" / "results.json").read_text())["trusted_weights"] == ["official.pth.tar"]


def test_a_config_of_a_run_asks_for_its_checkpoint(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What its fit started from is not what it came to."""
    weights = runs.of("SCC") / "checkpoints" / "best.ckpt"
    second = tmp_path / "second"
    assert main(["fit", *runs.common("SCC"), f"--model.weights={weights}", f"--run_dir={second}", "--no-test"]) == 0
    again = ["test", "--config", str(second / "config.yaml"), f"--run_dir={tmp_path / 'again'}"]
    assert "--ckpt_path is required" in refusal(again, capsys)
    assert main([*again, f"--model.weights={weights}"]) == 0


@pytest.mark.parametrize(("form", "method"), [("checkpoint", "SCC"), ("export", "FOP"), ("checkpoint", "FAA")])
def test_files_of_earlier_versions_need_trust(
    form: str, method: str, runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / ("old.ckpt" if form == "checkpoint" else "old.safetensors")
    if form == "checkpoint":
        content = torch.load(runs.of(method) / "checkpoints" / "last.ckpt", weights_only=True)
        del content["learnt"]
        torch.save(content, old)
    else:
        save_file(load_file(runs.of(method) / "export" / "model.safetensors"), old)
    fit = ["fit", *runs.common(method), f"--model.weights={old}", f"--run_dir={tmp_path / 'fit'}"]
    line = refusal(fit, capsys)
    assert line.startswith(f"{old.name}: nothing says whom these weights have learnt from")
    assert "--trust_weights true" in line
    with pytest.warns(UserWarning, match=f"{old.name}: nothing says whom"):
        assert main([*fit, "--no-test", f"--run_dir={tmp_path / 'untested'}"]) == 0
    assert main([*fit, "--trust_weights=true"]) == 0
    record = learnt_of(tmp_path / "fit" / "checkpoints" / "best.ckpt")
    assert record.unrecorded == {old.name}
    table = " ".join(capsys.readouterr().out.split())
    assert f"they were trusted: {old.name}." in table


@pytest.mark.parametrize("name", ["test", "fit --ckpt_path", "--resume auto"])
def test_checkpoints_of_earlier_versions_need_trust(
    name: str, runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(runs.of("SCC"), tmp_path / "earlier", ignore=shutil.ignore_patterns("export")))
    for path in (run / "checkpoints").glob("*.ckpt"):
        content = torch.load(path, weights_only=True)
        del content["learnt"]
        torch.save(content, path)
    command = ordered(door(name, run, tmp_path), runs.common("SCC"))
    line = refusal(command, capsys)
    file = "best.ckpt" if name == "test" else "last.ckpt"
    assert line.startswith(f"{file}: nothing says whom these weights have learnt from"), line
    assert main([*command, "--trust_weights=true"]) == 0
    trusted = json.loads((tmp_path / "run" / "results.json").read_text())["trusted_weights"]
    assert set(trusted) & {"best.ckpt", "last.ckpt"}


@pytest.mark.parametrize(
    "record", ["x", {"training": {}}, {"training": {"": [1]}, "validation": {}, "languages": [], "unrecorded": []}]
)
def test_a_damaged_record_is_one_line(record: Any, tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "learnt": record}, tmp_path / "x.ckpt")
    with pytest.raises(WeightsError, match=r"x\.ckpt: the record .*; copy or download it again"):
        learnt_of(tmp_path / "x.ckpt")
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors", {"learnt": json.dumps(record)})
    with pytest.raises(WeightsError, match=r"x\.safetensors: the record .*; copy or download it again"):
        learnt_of(tmp_path / "x.safetensors")


def test_names_are_compared_within_a_corpus_and_not_by_spelling() -> None:
    decomposed, composed = "Jose\u0301 Ñandú", "JOSÉ ñandú"
    learnt = Learnt.of("MAV-Celeb v1", ["id0001", decomposed], ["id0009"], ["urdu"], True)
    assert Learnt.read(json.loads(json.dumps(learnt.plain()))) == learnt
    assert learnt.among(["ID0001", composed, "id0002", ""], "mav-celeb V1") == ["ID0001", composed]
    assert learnt.among(["id0001"], "MAV-Celeb v2") == []
    assert learnt.among(["id0001", "id0009"], "") == ["id0001", "id0009"]
    assert learnt.among(["id0009"], "", validation=False) == []
    assert Learnt.of("", ["id0001"]).among(["id0001"], "VoxCeleb1") == ["id0001"]
    assert learnt.among(["id1", "ID00001", "id01.0", "id10001", "id00010"], "") == ["id1", "ID00001", "id01.0"]
    assert Learnt.of("", ["id7", "8.0", "\u0410nn\u0430"]).among(["id0007", "08", "anna"], "") == [
        "id0007",
        "08",
        "anna",
    ]
    unseen = ["id\u0660\u0660\u0660\u0667", "id0007\ufe0f", "i\u034fd0007", "id\u06f7"]
    assert Learnt.of("", ["id0007"]).among(unseen, "") == unseen
    before = {"": ["80e29e9a7810e745"]}  # \u0430\u043d\u043d\u0430 as earlier versions wrote it
    record = {"training": before, "validation": {}, "languages": [], "unrecorded": []}
    assert Learnt.read(record).among(["\u0410\u043d\u043d\u0430"], "") == ["\u0410\u043d\u043d\u0430"]
    both = learnt | Learnt.of("VoxCeleb1", ["id10001"], (), ["English"])
    assert both.languages == {"urdu", "English"}
    assert both.identities == 4
    assert "id0001" not in json.dumps(both.plain())  # hashes only


@pytest.mark.parametrize("written", ["English", "ENGLISH", "en", "eng", "en-US", "Englisch", "ANGLAIS"])
def test_languages_are_compared_by_their_codes_too(written: str) -> None:
    with pytest.raises(DataError, match=rf"trained on {written}, but data.test.unheard is a test of unheard English"):
        check_learnt(evaluation_of({"unheard": "English"}), "", Learnt.of("", (), (), [written]), "test")


def test_features_by_a_trained_model_know_whom_it_has_learnt_from(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The embeddings that a test leaves are feature files: a fit on them starts from the weights that made them."""
    world, run = runs.config.parent, runs.of("SCC")
    test = ["test", *runs.common("SCC"), f"--ckpt_path={run / 'checkpoints' / 'best.ckpt'}", "--logger=null"]
    assert main([*test, f"--run_dir={tmp_path / 'tested'}"]) == 0
    made = tmp_path / "tested" / "embeddings"
    for name, width in (("voices", 6), ("faces", 8)):  # of all items, beside the record
        np.save(made / f"{name}.npy", np.load(world / f"{name}.npy")[:, :width])
    paths = [f"--data.{name}=[{{path: {made / name}.npy, index: manifest.csv}}]" for name in ("voices", "faces")]
    fit = ["fit", *runs.common("RegularisedCCA"), *paths, f"--run_dir={tmp_path / 'fit'}"]
    assert "the weights have learnt from 4 of its identities: p0, p1, p2, p3;" in refusal([*fit, *OTHER_FOLD], capsys)
    assert main(fit) == 0
    (made / "learnt.json").unlink()  # of an earlier version
    line = refusal([*fit, f"--run_dir={tmp_path / 'again'}"], capsys)
    assert line.startswith("tested/embeddings: nothing says whom these weights have learnt from")
    assert main([*fit, f"--run_dir={tmp_path / 'again'}", "--trust_weights=[tested/embeddings]"]) == 0
    assert json.loads((tmp_path / "again" / "results.json").read_text())["trusted_weights"] == ["tested/embeddings"]
    (made / "learnt.json").write_text("[")
    assert f"{made / 'learnt.json'}: " in refusal([*fit, f"--run_dir={tmp_path / 'third'}"], capsys)
