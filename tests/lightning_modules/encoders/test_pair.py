"""Encoders of files as a network on media: the embeddings of files, with heads above them, frozen or trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.media.transforms import plain_transform
from datamodules.schema import DataError
from experiments.run import main
from lightning_modules import EncoderPair, FrozenEncoder
from tests.experiments.clips import make_clips
from tests.experiments.tiny_encoders import ColourFace, SpectrumVoice


class LinearVoice(FrozenEncoder):
    """Weights that can be trained, on the spectrum of :class:`SpectrumVoice`."""

    modality = "voice"
    dim = 6

    def __init__(self) -> None:
        super().__init__()
        self.spectrum, self.linear = SpectrumVoice(), nn.Linear(24, 6)

    def prepare(self, media: np.ndarray) -> Tensor:
        return self.spectrum.prepare(media)

    def forward(self, inputs: list[Tensor]) -> Tensor:
        return self.linear(torch.stack(inputs))


def test_the_crops_of_a_data_module_are_encoded_as_files_are() -> None:
    waves = [np.random.default_rng(i).normal(size=9000 + i).astype(np.float32) for i in range(2)]
    batch = torch.full((2, 9001), float("nan"))
    for row, wave in zip(batch, waves, strict=True):
        row[: len(wave)] = torch.from_numpy(wave)
    voice, face = SpectrumVoice(), ColourFace()
    pair = EncoderPair(128, 3, voice, face, embedding_dim=8)
    want = pair.heads.voice(voice([voice.prepare(wave) for wave in waves]))
    torch.testing.assert_close(pair.voice(batch), want)
    crops = torch.stack([batch, batch.flip(0)], dim=1)  # two crops of each, the same two
    mean = F.normalize(want.mean(dim=0), dim=0)
    torch.testing.assert_close(pair.voice(crops), torch.stack([mean, mean]))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 30, 3), dtype=np.uint8))
    x = plain_transform(30)(image)[None]
    torch.testing.assert_close(pair.face(x), pair.heads.face(face([face.prepare(image)])))


def test_encoders_are_frozen_unless_they_are_named() -> None:
    batch = torch.randn(3, 9000)
    for trainable in ([], ["voice"]):
        encoder = LinearVoice()
        pair = EncoderPair(128, 3, encoder, ColourFace(), trainable)  # type: ignore[arg-type]
        pair.train().voice(batch).sum().backward()
        assert (encoder.linear.weight.grad is not None) == bool(trainable)
        assert not encoder.training
    with pytest.raises(DataError, match="ColourFace has no weights that can be trained"):
        EncoderPair(128, 3, LinearVoice(), ColourFace(), ["face"])
    with pytest.raises(DataError, match=r"network\.voice_encoder: ColourFace encodes faces"):
        EncoderPair(128, 3, ColourFace(), ColourFace())


@pytest.mark.processes
@pytest.mark.parametrize("method", ["SCC", "FOP"])
def test_a_fit_on_media_trains_and_tests(method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest, run = make_clips(tmp_path / "clips"), tmp_path / "run"
    voice, face = "tests.lightning_modules.encoders.test_pair.LinearVoice", "tests.experiments.tiny_encoders.ColourFace"
    options = "--model.network.init_args"
    network = [f"{options}.voice_encoder={voice}", f"{options}.face_encoder={face}"]
    network += [f"{options}.trainable=[voice]", f"{options}.embedding_dim=8"]
    model = [f"--model=lightning_modules.{method}", "--model.network=lightning_modules.EncoderPair", *network]
    data = ["--data=datamodules.ManifestDataModule", f"--data.manifest={manifest}", "--data.train_languages=[English]"]
    data += ["--data.media={frames: 32, image_size: 24}", "--data.val_identities=2", "--data.batch_size=6"]
    data.append(f"--data.test={{seen: {{identities: '{manifest}#split=test'}}}}")
    trainer = ["--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.logger=false", f"--run_dir={run}"]
    assert main(["fit", *model, *data, *trainer]) == 0
    assert "seen" in capsys.readouterr().out
    files = [f"--{side}s={manifest.parent / side}s" for side in ("voice", "face")]
    assert main(["score", str(run), "--trust", *files]) == 0
