"""Audio models of transformers: its hidden states, pooled; safe files only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import linear

from datamodules.schema import DataError
from lightning_modules import AgeGenderVoice, TransformersVoice
from tests.experiments.tiny_encoders import SpectrumVoice

NARROW: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "conv_dim": (8, 8),
    "conv_kernel": (10, 3),
    "conv_stride": (5, 64),
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "tdnn_dim": (8, 8),
    "tdnn_kernel": (3, 1),
    "tdnn_dilation": (1, 1),
    "xvector_output_dim": 6,
}
VOICES = [np.random.default_rng(i).normal(scale=0.1, size=8000 * i).astype(np.float32) for i in (1, 2)]


def make_folder(folder: Path, kind: str, pickled: bool = False) -> Any:
    """A folder in transformers' own format with random weights; returns the model."""
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, kind.removesuffix("Model").removesuffix("ForXVector") + "Config")(**NARROW)
    model = getattr(transformers, kind)(config).eval()
    model.save_pretrained(folder)
    if pickled:
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return model


@pytest.mark.processes
@pytest.mark.parametrize(("kind", "pickled"), [("WavLMModel", False), ("Wav2Vec2Model", False), ("HubertModel", True)])
def test_a_layer_is_averaged_over_time(kind: str, pickled: bool, tmp_path: Path) -> None:
    model = make_folder(tmp_path, kind, pickled)
    for layer, pooling in ((None, "mean"), (0, "mean"), (1, "mean_std")):
        encoder = TransformersVoice(str(tmp_path), layer, pooling)  # type: ignore[arg-type]
        found = encoder([encoder.prepare(voice) for voice in VOICES])
        for voice, row in zip(VOICES, found, strict=True):
            x = torch.from_numpy((voice - voice.mean()) / np.sqrt(voice.var() + 1e-7))[None]
            with torch.no_grad():
                state = model(x, output_hidden_states=True).hidden_states[-1 if layer is None else layer][0]
            want = [state.mean(dim=0), state.std(dim=0, unbiased=False)][: 1 + (pooling == "mean_std")]
            torch.testing.assert_close(row, torch.cat(want), atol=1e-5, rtol=1e-4)
        assert encoder.dim == found.shape[1]
    with pytest.raises(DataError, match="layers 0 to 2"):
        TransformersVoice(str(tmp_path), 3)


@pytest.mark.processes
def test_embeddings_of_a_verification_model(tmp_path: Path) -> None:
    model = make_folder(tmp_path, "WavLMForXVector")
    encoder = TransformersVoice(str(tmp_path), pooling="xvector")
    x = encoder.prepare(VOICES[0])
    with torch.no_grad():
        torch.testing.assert_close(encoder([x]), model(x[None]).embeddings)
    with pytest.raises(DataError, match="pooling xvector takes none"):
        TransformersVoice(str(tmp_path), 1, "xvector")
    with pytest.raises(DataError, match=r"pooling is 'max'; choose from mean, mean_std, xvector"):
        TransformersVoice(str(tmp_path), pooling="max")  # type: ignore[arg-type]


@pytest.mark.processes
def test_age_and_gender_by_two_heads(tmp_path: Path) -> None:
    model, state = make_folder(tmp_path, "Wav2Vec2Model"), {}
    torch.manual_seed(1)
    for name, numbers in (("age", 1), ("gender", 3)):
        for part, shape in (("dense", (16, 16)), ("out_proj", (numbers, 16))):
            state |= {f"{name}.{part}.weight": torch.randn(shape), f"{name}.{part}.bias": torch.randn(shape[0])}
    whole = {f"wav2vec2.{name}": value for name, value in model.state_dict().items()}
    save_file({**whole, **state}, tmp_path / "model.safetensors", {"format": "pt"})
    x = torch.from_numpy((VOICES[0] - VOICES[0].mean()) / np.sqrt(VOICES[0].var() + 1e-7))[None]
    with torch.no_grad():
        hidden = model(x).last_hidden_state.mean(dim=1)

    def head(name: str) -> torch.Tensor:
        dense, out = ((state[f"{name}.{part}.weight"], state[f"{name}.{part}.bias"]) for part in ("dense", "out_proj"))
        return linear(torch.tanh(linear(hidden, *dense)), *out)[0]

    encoder, gender = AgeGenderVoice(str(tmp_path)), head("gender").softmax(dim=0)
    inputs = [encoder.prepare(VOICES[0])]
    torch.testing.assert_close(encoder(inputs)[0], torch.cat([head("age"), gender]), atol=1e-4, rtol=1e-3)
    notes = encoder.notes(inputs)
    assert notes["age"] == pytest.approx([float(100 * head("age"))], rel=1e-3)
    assert notes["female"] == pytest.approx([float(gender[0] / gender[:2].sum())], rel=1e-3)
    around = AgeGenderVoice(str(tmp_path), SpectrumVoice())
    assert around([around.prepare(VOICES[0])]).shape == (1, around.dim) == (1, 24)
    save_file(whole, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match="has no head for age"):
        AgeGenderVoice(str(tmp_path))


@pytest.mark.processes
def test_code_of_a_folder_is_not_run_and_weights_must_be_whole(tmp_path: Path) -> None:
    make_folder(tmp_path, "WavLMModel", pickled=True)
    config = json.loads((tmp_path / "config.json").read_text())
    foreign = {**config, "model_type": "foreign", "auto_map": {"AutoConfig": "code.C", "AutoModel": "code.M"}}
    (tmp_path / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    (tmp_path / "config.json").write_text(json.dumps(foreign))
    with pytest.raises(DataError, match="not readable by transformers"):
        TransformersVoice(str(tmp_path))
    assert not (tmp_path / "ran").exists()
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(DataError, match=r"weights lack \d+ tensors of WavLMModel"):
        TransformersVoice(str(tmp_path))
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02cos\nsystem\n.")
    with pytest.raises(DataError, match="not readable by transformers"):
        TransformersVoice(str(tmp_path))
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(DataError, match=r"model\.safetensors or pytorch_model\.bin is missing"):
        TransformersVoice(str(tmp_path))
