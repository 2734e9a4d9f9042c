"""Frozen encoders: equal to the embeddings that came with the data, to their libraries, and to no silent download."""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from datamodules.io.media import read_audio, read_image
from datamodules.schema import DataError
from lightning_modules import (
    DlibFace,
    OpenClipFace,
    ResemblyzerVoice,
    SpeechBrainVoice,
    TimmFace,
    TorchaudioVoice,
    TransformersVoice,
)
from lightning_modules.encoders.base import FrozenEncoder

CLIPS = range(0, 1150, 230)


def cosines(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)


@pytest.fixture(scope="module")
def clips(shared_data: Path) -> tuple[Path, pd.DataFrame, dict[str, np.ndarray]]:
    """A handful of real clips and the embeddings that came with them."""
    root = shared_data / "s2f"
    known = np.load(root / "embeddings.npz")
    table = pd.read_csv(root / "manifest.csv").iloc[list(CLIPS)]
    row = {clip: i for i, clip in enumerate(known["clip_id"])}
    rows = [row[clip] for clip in table["clip_id"]]
    return root, table, {name: known[name][rows] for name in ("voice_resemblyzer256", "face_dlib128")}


def test_resemblyzer_gives_the_embeddings_of_the_set(clips: tuple[Path, pd.DataFrame, dict[str, np.ndarray]]) -> None:
    root, table, known = clips
    encoder = ResemblyzerVoice()
    inputs = [encoder.prepare(read_audio(root / path, 10**6, [0.5])[0]) for path in table["audio"]]
    found = encoder(inputs).numpy()
    assert np.median(cosines(found, known["voice_resemblyzer256"])) > 0.995
    # a batch of clips of different lengths is what each of them alone is
    np.testing.assert_allclose(found[2:3], encoder(inputs[2:3]).numpy(), atol=1e-6)


def test_dlib_gives_the_embeddings_of_the_set(clips: tuple[Path, pd.DataFrame, dict[str, np.ndarray]]) -> None:
    root, table, known = clips
    encoder = DlibFace()
    found = encoder([encoder.prepare(read_image(root / path)) for path in table["face"]]).numpy()
    assert np.median(cosines(found, known["face_dlib128"])) > 0.9999


def test_resemblyzer_equals_its_library() -> None:
    from resemblyzer import VoiceEncoder, preprocess_wav

    wave = (np.tile(np.sin(np.arange(1600) ** 1.5 / 50), 70) * np.linspace(0.1, 0.5, 112_000)).astype(np.float32)
    encoder = ResemblyzerVoice()
    want = VoiceEncoder("cpu", verbose=False).embed_utterance(preprocess_wav(wave))
    np.testing.assert_allclose(encoder([encoder.prepare(wave)])[0].numpy(), want, atol=1e-6)


def test_an_image_without_a_face_is_still_encoded() -> None:
    encoder = DlibFace()
    pixels = np.random.default_rng(0).integers(0, 255, (64, 48, 3), dtype=np.uint8)
    assert encoder([encoder.prepare(Image.fromarray(pixels))]).shape == (1, 128)


def test_a_recording_without_speech_is_an_error() -> None:
    with pytest.raises(DataError, match="no speech"):
        ResemblyzerVoice().prepare(np.full(16_000, 1e-4, dtype=np.float32))


@pytest.mark.parametrize(
    ("encoder", "package"),
    [(ResemblyzerVoice, "resemblyzer"), (DlibFace, "dlib"), (DlibFace, "face_recognition_models")],
)
def test_a_missing_extra_is_one_line(encoder: type, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_modules.encoders.faces import detectors, dlib

    detectors.dlib._detector.cache_clear()
    dlib._network.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DataError, match=r"not installed: pip install 'voiceface\[pretrained\]'$"):
        encoder()


def test_timm_reads_weights_from_a_file_without_the_classifier(tmp_path: Path) -> None:
    model: Any = timm.create_model("resnet10t", num_classes=7)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    encoder = TimmFace("resnet10t", str(tmp_path / "w.safetensors"))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 80, 3), dtype=np.uint8))
    x = encoder.prepare(image)
    with torch.no_grad():
        want = model.eval().forward_head(model.forward_features(x[None]), pre_logits=True)
        torch.testing.assert_close(encoder([x]), want)
    assert encoder.dim == want.shape[1]


def test_timm_reads_a_folder_as_the_hub_has_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model: Any = timm.create_model("resnet10t", num_classes=7)
    colours = {
        "mean": [0.1, 0.2, 0.3],
        "std": [1.0, 1.0, 1.0],
        "input_size": [3, 64, 64],
        "crop_pct": 1.0,
        "classifier": "fc",
    }
    config = {"architecture": "resnet10t", "num_classes": 7, "pretrained_cfg": colours}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    encoder = TimmFace(None, str(tmp_path))
    x = encoder.prepare(Image.new("RGB", (70, 70)))
    torch.testing.assert_close(x[:, 0, 0], -torch.tensor([0.1, 0.2, 0.3]))
    with torch.no_grad():
        want = model.eval().forward_head(model.forward_features(x[None]), pre_logits=True)
        torch.testing.assert_close(encoder([x]), want)
    (tmp_path / "config.json").write_text(json.dumps({**config, "architecture": "resnet18"}))
    with pytest.raises(DataError, match=r"model\.safetensors does not fit its config\.json"):
        TimmFace(None, str(tmp_path))


def test_timm_names_what_does_not_fit(tmp_path: Path) -> None:
    save_file(timm.create_model("resnet10t", num_classes=7).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(DataError, match=r"w\.safetensors does not fit resnet18"):
        TimmFace("resnet18", str(tmp_path / "w.safetensors"))
    with pytest.raises(DataError, match="did you mean resnet10t"):
        TimmFace("resnet10", str(tmp_path / "w.safetensors"))
    with pytest.raises(DataError, match="no such weights file"):
        TimmFace("resnet18", str(tmp_path / "none.pth"))


def test_a_torchaudio_bundle_reads_weights_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundle's own parameters, made narrow: the real one has 95 M."""
    from torchaudio import models, pipelines

    bundle = pipelines.WAV2VEC2_BASE
    narrow = {
        "extractor_conv_layer_config": [(8, 10, 5), (8, 3, 64)],
        "encoder_embed_dim": 16,
        "encoder_num_layers": 3,
        "encoder_num_heads": 2,
        "encoder_ff_interm_features": 16,
        "encoder_pos_conv_kernel": 4,
        "encoder_pos_conv_groups": 2,
    }
    monkeypatch.setattr(bundle, "_params", {**bundle._params, **narrow})
    model = models.wav2vec2_model(**bundle._params).eval()
    torch.save(model.state_dict(), tmp_path / "w.pth")
    encoder = TorchaudioVoice("WAV2VEC2_BASE", str(tmp_path / "w.pth"), layer=2)
    voices = [torch.randn(size).numpy() for size in (6000, 9000)]
    with torch.no_grad():
        found = encoder([encoder.prepare(voice) for voice in voices])
        want = [model.extract_features(torch.from_numpy(voice)[None])[0][1].mean(dim=1)[0] for voice in voices]
    torch.testing.assert_close(found, torch.stack(want))
    assert encoder.dim == 16
    with pytest.raises(DataError, match="layers 1 to 3"):
        TorchaudioVoice("WAV2VEC2_BASE", str(tmp_path / "w.pth"), layer=4)
    with pytest.raises(DataError, match="WAVLM_BASE_PLUS"):
        TorchaudioVoice("WAVLM", str(tmp_path / "w.pth"))


class Wrong(FrozenEncoder):
    """An encoder that gives what it is told to."""

    modality, dim = "voice", 8

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    def prepare(self, media: Any) -> Any:
        return media

    def forward(self, inputs: list[Any]) -> Tensor:
        value: Tensor = self.value
        return value


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, "None"),
        (np.ones((2, 8)), "ndarray"),
        (torch.ones(2, 7), r"a tensor \(2, 7\) of float32"),
        (torch.ones(1, 8), r"a tensor \(1, 8\) of float32"),
        (torch.ones(2, 8, dtype=torch.int64), r"a tensor \(2, 8\) of int64"),
    ],
)
def test_what_an_encoder_wrongly_returns_is_named_with_its_line(value: Any, found: str) -> None:
    line = inspect.getsourcelines(Wrong.forward)[1]
    with pytest.raises(DataError, match=rf"test_base.py:{line}: Wrong.forward must return a tensor .*, not {found}$"):
        Wrong(value)([torch.zeros(3), torch.zeros(3)])
    assert Wrong(torch.ones(2, 8))([torch.zeros(3)] * 2).shape == (2, 8)


@pytest.mark.parametrize(
    ("kind", "options", "files"),
    [
        (SpeechBrainVoice, {}, "hyperparams.yaml, embedding_model.ckpt"),
        (TransformersVoice, {}, "config.json, preprocessor_config.json, model.safetensors or pytorch_model.bin"),
        (OpenClipFace, {}, "open_clip_config.json, open_clip_model.safetensors or open_clip_pytorch_model.bin"),
        (TimmFace, {"name": None}, "config.json, model.safetensors or pytorch_model.bin"),
    ],
)
def test_without_a_network_a_name_on_the_hub_says_which_files_to_put_where(
    kind: type, options: dict[str, None], files: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DataError) as error:
        kind(weights="someone/network", **options)
    said = str(error.value)
    assert said.startswith("someone/network: no such folder, and not to be had from the hub (")
    assert said.endswith(f"); copy its files {files} into a folder and name that as weights")
    assert "\n" not in said
    with pytest.raises(DataError, match=f"none: no such folder; it needs {files}"):
        kind(weights=str(tmp_path / "none"), **options)
