"""SpeechBrain's folders: the embeddings of the library, and nothing in a file of hyperparameters is run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.schema import DataError
from lightning_modules import SpeechBrainVoice

HEAD = """
sample_rate: 16000
n_mels: 20
pretrained_path: nowhere
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: !ref <n_mels>
mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False
"""
NETWORKS = {
    "ECAPA_TDNN": """
embedding_model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: !ref <n_mels>
    channels: [16, 16, 16, 16, 24]
    kernel_sizes: [5, 3, 3, 3, 1]
    dilations: [1, 2, 3, 4, 1]
    attention_channels: 8
    lin_neurons: 12
""",
    "Xvector": """
embedding_model: !new:speechbrain.lobes.models.Xvector.Xvector
    in_channels: !ref <n_mels>
    activation: !name:torch.nn.LeakyReLU
    tdnn_blocks: 2
    tdnn_channels: [16, 24]
    tdnn_kernel_sizes: [5, 3]
    tdnn_dilations: [1, 2]
    lin_neurons: 12
""",
    "ResNet": """
embedding_model: !new:speechbrain.lobes.models.ResNet.ResNet
    input_size: !ref <n_mels>
    channels: [4, 4, 4, 4]
    block_sizes: [1, 1, 1, 1]
    strides: [1, 2, 2, 2]
    lin_neurons: 12
""",
}
REST = """
modules:
    compute_features: !ref <compute_features>
    mean_var_norm: !ref <mean_var_norm>
    embedding_model: !ref <embedding_model>
label_encoder: !new:speechbrain.dataio.encoder.CategoricalEncoder
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        embedding_model: !ref <embedding_model>
    paths:
        embedding_model: !ref <pretrained_path>/embedding_model.ckpt
"""


def make_folder(folder: Path, kind: str, more: str = "") -> Path:
    """A folder in SpeechBrain's format with random weights."""
    folder.mkdir(exist_ok=True)
    (folder / "hyperparams.yaml").write_text(HEAD + NETWORKS[kind] + REST + more)
    module = __import__(f"speechbrain.lobes.models.{kind}", fromlist=[kind])
    options = {
        "ECAPA_TDNN": {"input_size": 20, "channels": [16, 16, 16, 16, 24], "attention_channels": 8},
        "Xvector": {
            "in_channels": 20, "tdnn_blocks": 2, "tdnn_channels": [16, 24], "tdnn_kernel_sizes": [5, 3],
            "tdnn_dilations": [1, 2],
        },
        "ResNet": {"input_size": 20, "channels": [4] * 4, "block_sizes": [1] * 4},
    }[kind]  # fmt: skip
    torch.manual_seed(0)
    torch.save(getattr(module, kind)(**options, lin_neurons=12).state_dict(), folder / "embedding_model.ckpt")
    return folder


@pytest.mark.processes
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_folder_gives_the_embeddings_of_the_library(kind: str, tmp_path: Path) -> None:
    from speechbrain.inference.classifiers import EncoderClassifier

    class Theirs(EncoderClassifier):
        MODULES_NEEDED = ("compute_features", "mean_var_norm", "embedding_model")

        def __init__(self, *arguments: object, **options: object) -> None:
            super(EncoderClassifier, self).__init__(*arguments, **options)

    folder = make_folder(tmp_path / "model", kind)
    encoder = SpeechBrainVoice(str(folder))
    theirs = Theirs.from_hparams(
        source=str(folder), savedir=str(tmp_path / "saved"), overrides={"pretrained_path": str(folder)}
    )
    voices = [np.random.default_rng(i).normal(scale=0.1, size=9000 * i).astype(np.float32) for i in (1, 2)]
    found = encoder([encoder.prepare(voice) for voice in voices])
    want = torch.stack([theirs.encode_batch(torch.from_numpy(voice)).flatten() for voice in voices])
    torch.testing.assert_close(found, want, atol=2e-4, rtol=1e-4)  # its x-vectors are noisy
    torch.testing.assert_close(found[1:], encoder([encoder.prepare(voices[1])]))
    assert encoder.dim == 12


def test_nothing_in_hyperparameters_is_run(tmp_path: Path) -> None:
    folder = make_folder(
        tmp_path / "model", "Xvector", "other: !apply:os.system ['touch ran']\nseed: !!python/name:os\n"
    )
    lines = (folder / "hyperparams.yaml").read_text()
    with pytest.raises(DataError, match="not readable as YAML"):  # python/name
        SpeechBrainVoice(str(folder))
    lines = lines.replace("seed: !!python/name:os\n", "")
    (folder / "hyperparams.yaml").write_text(lines)
    assert SpeechBrainVoice(str(folder)).dim == 12  # what is not used is left out
    for old, new, said in [
        (
            "!new:speechbrain.lobes.models.Xvector.Xvector",
            "!new:subprocess.Popen",
            "embedding_model is !new:sub",
        ),
        ("!name:torch.nn.LeakyReLU", "!name:os.system", "embedding_model.activation is !name:os.system"),
        ("!name:torch.nn.LeakyReLU", "!name:torch.nn.Module", "only plain values are read"),
        (
            "in_channels: !ref <n_mels>",
            "in_channels: !apply:os.getpid []",
            "in_channels is !apply:os.getpid",
        ),
        ("in_channels: !ref <n_mels>", "in_channels: !ref <n_mels> * 2", "embedding_model.in_channels is !ref"),
        ("tdnn_blocks: 2", "tdnn_block: 2", "embedding_model cannot be made"),
        ("lin_neurons: 12", "lin_neurons: 13", "does not fit Xvector"),
        ("sample_rate: 16000", "sample_rate: 8000", "takes 8000 Hz"),
        ("n_mels: 20", "n_mels: !ref <n_mels>", "compute_features.n_mels is !ref"),
        ("mean_var_norm: !new", "norm: !new", "mean_var_norm is NoneType"),
        ("norm_type: sentence", "norm_type: global", r"mean_var_norm\.ckpt is missing"),
    ]:
        (folder / "hyperparams.yaml").write_text(lines.replace(old, new, 1))
        with pytest.raises(DataError, match=said):
            SpeechBrainVoice(str(folder))
    (folder / "embedding_model.ckpt").unlink()
    with pytest.raises(DataError, match=r"embedding_model\.ckpt is missing"):
        SpeechBrainVoice(str(folder))
