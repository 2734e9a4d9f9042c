"""Programs of torch as encoders: what the network gives that they were made of; and open_clip's image towers."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from datamodules.schema import DataError
from lightning_modules import FilterBank, OpenClipFace, ProgramFace, ProgramVoice

WAVE = np.random.default_rng(0).normal(scale=0.1, size=20_000).astype(np.float32)
IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8))


class Voice(nn.Module):
    """Filter banks (b, frames, 20) -> (b, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(20, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).mean(dim=1)


class Face(nn.Module):
    """Images (b, 3, 8, 8) -> (b, 5) and something else."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 5, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.convolution(x).relu()
        return y.mean(dim=(2, 3)), y


def scripted(network: nn.Module, x: Tensor, path: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(network.eval(), x).save(str(path))
    return str(path)


def test_torchscript_of_voices_and_faces(tmp_path: Path) -> None:
    voice, face, features = Voice(), Face(), FilterBank(mels=20)
    encoder = ProgramVoice(scripted(voice, torch.zeros(1, 50, 20), tmp_path / "v.pt"), features, dim=5)
    with torch.no_grad():
        torch.testing.assert_close(encoder([encoder.prepare(WAVE)]), voice(features.of(WAVE)[None]))
    faces = ProgramFace(scripted(face, torch.zeros(1, 3, 8, 8), tmp_path / "f.pt"), size=8)
    pixels = np.asarray(IMAGE.resize((8, 8), Image.Resampling.BILINEAR), dtype=np.float32)
    with torch.no_grad():
        want = face(torch.from_numpy((pixels - 127.5) / 128).permute(2, 0, 1)[None])[0]
    torch.testing.assert_close(faces([faces.prepare(IMAGE)]), want)
    assert not any(parameter.requires_grad for parameter in faces.parameters())
    with pytest.raises(DataError, match=r"v\.pt: cannot run on \(1, 198, 80\)"):
        ProgramVoice(str(tmp_path / "v.pt"), FilterBank())
    with pytest.raises(DataError, match=r"v\.pt: its embeddings have 5 numbers, not 6"):
        ProgramVoice(str(tmp_path / "v.pt"), features, dim=6)


@pytest.mark.processes
def test_an_exported_program(tmp_path: Path) -> None:
    voice, features = Voice().eval(), FilterBank(mels=20)
    free = torch.export.Dim.AUTO
    program = torch.export.export(voice, (torch.zeros(2, 50, 20),), dynamic_shapes=({0: free, 1: free},))
    torch.export.save(program, tmp_path / "v.pt2")
    encoder = ProgramVoice(str(tmp_path / "v.pt2"), features)
    with torch.no_grad():
        torch.testing.assert_close(encoder([encoder.prepare(WAVE)]), voice(features.of(WAVE)[None]))


def test_what_is_no_program_is_one_line(tmp_path: Path) -> None:
    torch.save(Voice().state_dict(), tmp_path / "weights.pt")
    (tmp_path / "text.pt").write_text("no program")
    with pytest.raises(DataError, match="holds weights without their network"):
        ProgramVoice(str(tmp_path / "weights.pt"))
    with pytest.raises(DataError, match="is no program of torch"):
        ProgramVoice(str(tmp_path / "text.pt"))
    with pytest.raises(DataError, match="no such program of torch"):
        ProgramFace(str(tmp_path / "none.pt"))


@pytest.mark.processes
def test_open_clip_from_a_folder_and_from_a_file(tmp_path: Path) -> None:
    import open_clip

    tiny = {
        "embed_dim": 6,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 8, "vocab_size": 10, "width": 64, "heads": 1, "layers": 1},
    }
    colours = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": tiny, "preprocess_cfg": colours}))
    torch.manual_seed(0)
    model = open_clip.CLIP(**tiny).eval()
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    encoder = OpenClipFace(str(tmp_path))
    theirs, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    with torch.no_grad():
        want = theirs.eval().encode_image(transform(IMAGE)[None])
        torch.testing.assert_close(encoder([encoder.prepare(IMAGE)]), want)
        torch.testing.assert_close(model.encode_image(transform(IMAGE)[None]), want)
    assert encoder.dim == 6
    assert encoder.prepare(IMAGE).shape == (3, 32, 32)
    with pytest.raises(DataError, match="open_clip has no model ViT-B-33"):
        OpenClipFace(str(tmp_path / "open_clip_model.safetensors"), "ViT-B-33")
    (tmp_path / "open_clip_model.safetensors").unlink()
    with pytest.raises(DataError, match=r"open_clip_model\.safetensors or .* is missing"):
        OpenClipFace(str(tmp_path))
