"""FOP against the code of its authors, written out here: official weights, their scores, and the training loop."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.evaluation.learnt import Learnt
from datamodules.schema import DataError
from experiments.config.files import find_config
from experiments.config.overrides import expand_arguments
from experiments.run import main
from lightning_modules.fop import FOP
from lightning_modules.networks.weights import WeightsError, set_learnt
from tests.lightning_modules.tiny import DIMS, TinyData, trainer

FOLDER = Path(os.environ.get("VOICEFACE_DATA", "data")) / "fop"
OFFICIAL = sorted(FOLDER.glob("*.pth.tar"))
CLASSES = {"v1": 64, "v2": 78, "v3": 50}

State = dict[str, Tensor]


def forward(state: State, faces: Tensor, voices: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The baseline in evaluation mode: fused, logits, and the face and voice whose L2 distance is the score."""

    def layer(x: Tensor, key: str) -> Tensor:
        return F.linear(x, state[f"{key}.weight"], state[f"{key}.bias"])

    def normed(x: Tensor, key: str) -> Tensor:
        names = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(state[f"{key}.{name}"] for name in names)).relu()

    face, voice = (
        F.normalize(normed(layer(x, f"{side}_branch.fc1.0"), f"{side}_branch.fc1.1"))
        for side, x in (("face", faces), ("voice", voices))
    )
    if "fusion_layer.weight1" in state:
        fused = state["fusion_layer.weight1"] * face + state["fusion_layer.weight2"] * voice
    else:
        hidden = normed(
            layer(torch.cat((face, voice), dim=1), "fusion_layer.attention.0.block.0"),
            "fusion_layer.attention.0.block.1",
        )
        gate = torch.sigmoid(layer(hidden, "fusion_layer.attention.1"))
        face, voice = torch.tanh(face), torch.tanh(voice)
        fused = face * gate + (1 - gate) * voice
    return fused, layer(fused, "logits_layer"), face, voice


def made(fusion: str, classes: int, dims: tuple[int, int] = DIMS) -> State:
    """A state dict as the baseline saves it, with random values."""
    rng = torch.Generator().manual_seed(classes)
    state: State = {}

    def linear(key: str, inputs: int, outputs: int) -> None:
        state[f"{key}.weight"] = torch.randn(outputs, inputs, generator=rng) / inputs**0.5
        state[f"{key}.bias"] = torch.randn(outputs, generator=rng)

    def norm(key: str) -> None:
        state.update({f"{key}.{name}": torch.rand(128, generator=rng) + 0.5 for name in ("weight", "running_var")})
        state.update({f"{key}.{name}": torch.randn(128, generator=rng) for name in ("bias", "running_mean")})
        state[f"{key}.num_batches_tracked"] = torch.tensor(3801)

    for side, inputs in zip(("voice", "face"), dims, strict=True):
        linear(f"{side}_branch.fc1.0", inputs, 128)
        norm(f"{side}_branch.fc1.1")
    if fusion == "gated":
        linear("fusion_layer.attention.0.block.0", 256, 128)
        norm("fusion_layer.attention.0.block.1")
        linear("fusion_layer.attention.1", 128, 128)
    else:
        state.update({f"fusion_layer.weight{i}": torch.rand(1, generator=rng) for i in (1, 2)})
    linear("logits_layer", 128, classes)
    return state


def check_equal(state: State, path: Path, dims: tuple[int, int], fusion: str) -> None:
    model = FOP(dims, len(state["logits_layer.bias"]), fusion=fusion, weights=str(path)).eval()
    voices, faces = torch.randn(40, dims[0]).abs() * 3, torch.randn(40, dims[1]).relu() * 8
    fused, logits, face, voice = forward(state, faces, voices)
    with torch.no_grad():
        scores = model.distance(model.embed_voice(voices), model.embed_face(faces))
        ours = model.fusion_layer(model.face_branch(faces), model.voice_branch(voices))
        assert (scores - (face - voice).norm(dim=1)).abs().max() <= 1e-6
        assert (ours - fused).abs().max() <= 1e-6
        assert (model.logits_layer(ours) - logits).abs().max() <= 1e-5
    assert model.learnt.unit_length is False
    assert model.learnt.unrecorded == {path.name}


@pytest.mark.parametrize("fusion", ["gated", "linear"])
@pytest.mark.parametrize("version", CLASSES)
def test_weights_in_the_form_of_the_official_files(version: str, fusion: str, tmp_path: Path) -> None:
    state = made(fusion, CLASSES[version])
    torch.save({"epoch": 49, "state_dict": state}, tmp_path / "official.pth.tar")
    assert fusion == "linear" or len(state) == 25
    check_equal(state, tmp_path / "official.pth.tar", DIMS, fusion)


@pytest.mark.data
@pytest.mark.skipif(not OFFICIAL, reason=f"no official weights in {FOLDER}")
@pytest.mark.parametrize("path", OFFICIAL, ids=lambda p: p.name)
def test_official_files(path: Path) -> None:
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    assert len(state) == 25
    check_equal(
        state, path, tuple(state[f"{side}_branch.fc1.0.weight"].shape[1] for side in ("voice", "face")), "gated"
    )


@pytest.mark.parametrize("value", [float("nan"), [0.1, 0.2]])
def test_odd_weights_of_linear_fusion_are_refused(value: float | list[float], tmp_path: Path) -> None:
    state = made("linear", 12) | {"fusion_layer.weight2": torch.tensor(value)}
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"fusion_layer\.weight"):
        FOP(DIMS, 12, fusion="linear", weights=str(tmp_path / "w.pt"))


def test_linear_weights_do_not_fit_gated_fusion(tmp_path: Path) -> None:
    torch.save(made("linear", 12), tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"unexpected: fusion_layer\.weight1, fusion_layer\.weight2"):
        FOP(DIMS, 12, weights=str(tmp_path / "w.pt"))


def test_starts_as_the_baseline_does() -> None:
    torch.manual_seed(0)
    model = FOP(DIMS, 12, fusion="linear", baseline_start=True)
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    assert len(layers) == 3
    for layer in layers:
        bound = (6 / sum(layer.weight.shape)) ** 0.5
        assert 0.9 * bound < layer.weight.abs().max() <= bound
        assert (layer.bias == 0.01).all()
    weights = model.fusion_layer.weight
    assert weights.min() >= 0
    assert weights[0] != weights[1]


def opl(x: Tensor, label: Tensor) -> Tensor:
    """The baseline's orthogonal projection loss, with its 1e-6."""
    x = F.normalize(x)
    same, dot = label[:, None] == label, x @ x.T
    positive, negative = (same & ~torch.eye(len(x), dtype=torch.bool)).float(), (~same).float()
    near = (positive * dot).sum() / (positive.sum() + 1e-6)
    return 1 - near + 0.7 * (negative * dot).abs().sum() / (negative.sum() + 1e-6)


@pytest.mark.parametrize("fusion", ["gated", "linear"])
def test_trains_as_the_loop_of_the_baseline(fusion: str, tmp_path: Path) -> None:
    """Three epochs with the same start and order: without dropout, whose draws differ, the weights are equal."""
    torch.manual_seed(0)
    model = FOP(DIMS, 12, embedding_dim=8, dropout=0.0, fusion=fusion, baseline_start=True)
    twin = FOP(DIMS, 12, embedding_dim=8, dropout=0.0, fusion=fusion)
    twin.load_state_dict(model.state_dict())
    data = TinyData(clips=9, batch_size=32, sampling="fixed_order")  # 108 clips: 3 batches, 12 clips are left out
    train = data.training_set()
    order = np.random.default_rng((0, 0)).permutation(108)
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.01, weight_decay=0.01)
    for _ in range(3):
        for batch in order[:96].reshape(3, 32):
            face, voice = twin.face_branch(train.faces.read(batch)), twin.voice_branch(train.voices.read(batch))
            fused, label = twin.fusion_layer(face, voice), torch.from_numpy(train.identity[batch])
            loss = F.cross_entropy(twin.logits_layer(fused), label) + opl(fused, label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    trainer(tmp_path, max_epochs=3, limit_val_batches=0, callbacks=[]).fit(model, data)
    for key, value in twin.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value, rtol=1e-4, atol=1e-5)


# -- commands --------------------------------------------------------------------------------------------------------


def world(
    folder: Path, dims: tuple[int, int], scale: tuple[float, float], **options: object
) -> tuple[Path, pd.DataFrame]:
    """Config of raw embeddings of ten identities, and its unlabelled trials."""
    rng = np.random.default_rng(0)
    ids = [f"id{i // 4:04d}/English/v{i % 2}/{i:05d}" for i in range(40)]
    manifest = pd.DataFrame({"voice": ids, "face": ids, "identity": [i[:6] for i in ids], "language": "English"})
    manifest.assign(video=[i[15:17] for i in ids]).to_csv(folder / "m.csv", index=False)
    for name, width, size in zip(("voices", "faces"), dims, scale, strict=True):
        np.save(folder / f"{name}.npy", np.float32(np.abs(rng.standard_normal((40, width))) * size))
    test = np.asarray(ids)[rng.integers(20, 40, (2, 50))]
    trials = pd.DataFrame({"key": [f"k{i}" for i in range(50)], "voice": test[0], "face": test[1]})
    trials.to_csv(folder / "t.csv", index=False)
    files = {name: [{"path": f"{name}.npy", "index": "m.csv"}] for name in ("voices", "faces")}
    data = {"root": str(folder), **files, "train_languages": ["English"], "val_identities": 0, **options}
    data |= {"exclude_identities": [f"id{i:04d}" for i in range(5, 10)], "test": {"heard": "t.csv"}}
    config = {
        "trainer": {"accelerator": "cpu", "devices": 1},
        "model": {"class_path": "lightning_modules.FOP"},
        "data": {"class_path": "datamodules.FeatureDataModule", "init_args": data},
        "pictures": False,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder / "config.yaml", trials


@pytest.mark.data
@pytest.mark.skipif(not OFFICIAL, reason=f"no official weights in {FOLDER}")
@pytest.mark.parametrize("path", OFFICIAL, ids=lambda p: p.name)
def test_commands_with_official_weights_give_the_scores_of_the_baseline(path: Path, tmp_path: Path) -> None:
    config, trials = world(tmp_path, (512, 4096), (0.2, 20.0))
    x = {name: torch.from_numpy(np.load(tmp_path / f"{name}.npy")) for name in ("voices", "faces")}
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    _, _, face, voice = forward(state, x["faces"], x["voices"])
    row = {name: i for i, name in enumerate(pd.read_csv(tmp_path / "m.csv")["voice"])}
    expected = (voice[trials["voice"].map(row).to_list()] - face[trials["face"].map(row).to_list()]).norm(dim=1)
    for command in ("predict", "test"):
        run = tmp_path / command
        assert main([command, "--config", str(config), f"--model.weights={path}", f"--run_dir={run}"]) == 0
        got = pd.read_parquet(run / "scores.parquet")["distance"]
        assert np.abs(got - expected.numpy()).max() <= 1e-6


def test_the_preset_trains_as_published(tmp_path: Path) -> None:
    """Raw rows, 49 epochs in one order, the last batch dropped; the record says that the weights take raw rows."""
    config, _ = world(tmp_path, (6, 9), (2.0, 5.0), steps_per_epoch=3)
    preset = ["--config", "presets/fop_baseline.yaml", "--data.batch_size=8", "--model.embedding_dim=4"]
    run = tmp_path / "run"
    assert main(["fit", "--config", str(config), *preset, f"--run_dir={run}"]) == 0
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["global_step"] == 49 * (20 // 8)
    assert content["learnt"]["unit_length"] is False
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert saved["data"]["init_args"]["normalise"] is False
    assert saved["model"]["init_args"]["baseline_start"] is True


@pytest.mark.parametrize("name", ["v2_eng", "v2_hindi", "v3_eng", "v3_german", "v4_eng"])
def test_configs_of_the_challenge_give_fop_the_rows_as_they_are(name: str) -> None:
    arguments, _ = expand_arguments(["--config", f"{name}_features.yaml", "--config", "presets/fop_baseline.yaml"])
    first, preset = (yaml.safe_load(argument.removeprefix("--config=")) for argument in arguments)
    assert "model" not in first
    assert preset["data"]["init_args"]["normalise"] is False
    assert "FOP" in Path(preset["model"]).read_text(encoding="utf-8")
    assert "normalise: false" in find_config(f"{name}_features.yaml").read_text(encoding="utf-8")


# -- the scale of inputs ---------------------------------------------------------------------------------------------


class ScaledData(TinyData):
    """The tiny world with embeddings of another length."""

    def __init__(self, scale: float, unit_length: bool | None) -> None:
        super().__init__()
        self.unit_length = unit_length
        self.train, self.held_out = ([np.float32(x * scale) for x in part] for part in (self.train, self.held_out))


def settled(scale: float, path: Path) -> str:
    """Weights as the baseline saves them, whose batch normalisation has seen embeddings of this length."""
    torch.manual_seed(0)
    model, data = FOP(DIMS, 12, embedding_dim=8), ScaledData(scale, None).training_set()
    for _ in range(60):
        model.embed_voice(data.voices.read(data.voice_rows))
        model.embed_face(data.faces.read(data.face_rows))
    torch.save({"epoch": 1, "state_dict": model.state_dict()}, path)
    return str(path)


@pytest.mark.parametrize("stage", ["test", "fit"])
@pytest.mark.parametrize(
    ("learnt", "given", "unit", "said"),
    [
        (30.0, 1.0, True, "set data.normalise to false"),
        (1.0, 30.0, False, "set data.normalise to true"),
        (30.0, 30.0, False, ""),
        (1.0, 1.0, True, ""),
        (1.0, 30.0, None, ""),  # media: there is nothing to set
    ],
)
def test_inputs_of_another_scale_are_told(
    stage: str, learnt: float, given: float, unit: bool | None, said: str, tmp_path: Path
) -> None:
    model = FOP(DIMS, 12, embedding_dim=8, weights=settled(learnt, tmp_path / "w.pth"))
    set_learnt(model, Learnt())  # a file that does not say what it takes
    run = trainer(tmp_path, max_epochs=1, limit_train_batches=1, limit_val_batches=0, callbacks=[])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if stage == "test":
            run.test(model, ScaledData(given, unit), verbose=False)
        else:
            run.fit(model, ScaledData(given, unit))
    lines = [str(warning.message) for warning in caught if "do not fit the weights" in str(warning.message)]
    assert len(lines) == (2 if said else 0)
    assert all(said in line and "\n" not in line for line in lines)


def test_a_model_trained_a_few_steps_is_not_compared(tmp_path: Path) -> None:
    """Its running variances are still near the 1 they start from."""
    model, data = FOP(DIMS, 12, embedding_dim=8), ScaledData(0.01, False)
    path = tmp_path / "few.ckpt"
    run = trainer(tmp_path, max_epochs=1, callbacks=[], limit_val_batches=0)
    run.fit(model, data)
    run.save_checkpoint(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run.test(model, data, verbose=False)
        trainer(tmp_path, callbacks=[]).validate(FOP(DIMS, 12, embedding_dim=8), data, ckpt_path=path, verbose=False)
    assert not [warning for warning in caught if "do not fit the weights" in str(warning.message)]


def test_unit_rows_for_official_weights_are_refused(tmp_path: Path) -> None:
    torch.save(made("gated", 12), tmp_path / "official.pth.tar")
    model = FOP(DIMS, 12, weights=str(tmp_path / "official.pth.tar"))
    model.trust_weights = True
    with pytest.raises(DataError, match=r"data\.normalise: these weights take embeddings as they are in the files"):
        trainer(tmp_path, callbacks=[]).test(model, ScaledData(1.0, True), verbose=False)
