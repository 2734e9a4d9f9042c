"""CAV-MAE against a plain re-statement of the network of [SCC] and [CAV-MAE], and its checkpoint formats."""

from __future__ import annotations

import os
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from datamodules.schema import DataError
from lightning_modules.networks.cavmae import CAVMAE, resize_time, sincos_positions
from lightning_modules.networks.frontend import FrontEnd, fbank, samples_of
from lightning_modules.networks.weights import WeightsError
from lightning_modules.scc import SCC
from tests.lightning_modules.cavmae_restated import cavmae_state, stated_embedding, stated_positions

TINY: dict[str, Any] = {"width": 24, "depth": 2, "heads": 3, "frames": 64, "image_size": 32}


def save(state: dict[str, Any], path: Path) -> str:
    torch.save(state, path)
    return str(path)


@pytest.mark.parametrize(("frames", "image_size", "depth"), [(64, 32, 2), (512, 224, 11), (1024, 224, 1)])
def test_equals_the_restatement(tmp_path: Path, frames: int, image_size: int, depth: int) -> None:
    state = cavmae_state(24, depth, frames, image_size)
    path = save(state, tmp_path / "cavmae.pth")
    network = CAVMAE(128, 3, 24, depth, heads=3, frames=frames, image_size=image_size, checkpoint=path).eval()
    rng = torch.Generator().manual_seed(1)
    features = torch.randn(2, frames, 128, generator=rng)
    images = torch.randn(2, 3, image_size, image_size, generator=rng)
    with torch.no_grad():
        voice, face = network.encode_voice(features), network.face(images)
    assert (voice - stated_embedding(state, features, "a", 3, depth)).abs().max() < 1e-5
    assert (face - stated_embedding(state, images, "v", 3, depth)).abs().max() < 1e-5


def test_full_width_equals_the_restatement() -> None:
    state = cavmae_state(768, 2, 512)
    network = CAVMAE(128, 3, depth=2).eval()
    network.load_state_dict({key: state[key] for key in network.state_dict()})
    rng = torch.Generator().manual_seed(1)
    features, images = torch.randn(1, 512, 128, generator=rng), torch.randn(1, 3, 224, 224, generator=rng)
    with torch.no_grad():
        voice, face = network.encode_voice(features), network.face(images)
        assert (voice - stated_embedding(state, features, "a", 12, 2)).abs().max() < 1e-5
        assert (face - stated_embedding(state, images, "v", 12, 2)).abs().max() < 1e-5


def test_default_size_is_the_papers() -> None:
    with torch.device("meta"):
        network = CAVMAE(128, 3)
    assert (len(network.blocks_a), len(network.blocks_v), len(network.blocks_u)) == (11, 11, 1)
    assert sum(p.numel() for p in network.parameters()) == 163_816_704


def test_positions_are_sincos_with_time_first() -> None:
    assert torch.allclose(sincos_positions(8, 5, 24), stated_positions(8, 5, 24), atol=1e-6)


# -- inputs --------------------------------------------------------------------------------------------------------


def test_waveforms_pass_through_the_front_end_and_crops_are_averaged() -> None:
    network = CAVMAE(128, 3, **TINY).eval()
    crops = torch.randn(3, 2, samples_of(64)) * 0.1
    crops[0, :, 5000:] = float("nan")  # a short recording
    with torch.no_grad():
        first, second = network.voice(crops[:, 0]), network.voice(crops[:, 1])
        both = network.voice(crops)
    assert torch.allclose(first.norm(dim=1), torch.ones(3))
    assert torch.allclose(both, F.normalize(first + second, dim=1), atol=1e-6)
    features, _ = fbank(torch.nan_to_num(crops[:1, 0]), torch.tensor([5000]))
    with torch.no_grad():
        expected = network.encode_voice((features + 5.081) / 4.4849)
    assert torch.allclose(first[:1], expected, atol=1e-4)


def test_a_whole_recording_is_embedded_at_its_own_length() -> None:
    network = CAVMAE(128, 3, **TINY).eval()
    lengths, window = (30_000, 12_345, 6_000), samples_of(64)
    voices = torch.full((3, 2, 30_000), float("nan"))
    for voice, length in zip(voices, lengths, strict=True):
        voice[1, :length] = torch.randn(length) * 0.1  # the whole, and a window of it
        voice[0, : min(length, window)] = voice[1, : min(length, window)]
    with torch.no_grad():
        together = network.voice(voices)
        for voice, length, embedding in zip(voices, lengths, together, strict=True):
            frames = max(64, -(-((length - 400) // 160 + 1) // 16) * 16)
            whole = network.encode_voice(network.frontend(voice[1:, :length], frames))
            mean = F.normalize(network.voice(voice[:1, :window]) + whole, dim=1)
            assert torch.allclose(embedding, mean[0], atol=1e-5)


def test_any_number_of_frames() -> None:
    network = CAVMAE(128, 3, **TINY).eval()
    with torch.no_grad():
        for frames in (16, 48, 64, 160):
            assert network.encode_voice(torch.randn(1, frames, 128)).shape == (1, 24)


def test_projection_sets_the_width() -> None:
    network = CAVMAE(128, 3, **TINY, projection=10)
    assert network.voice(torch.randn(2, 8000)).shape == network.face(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_positions_of_another_length_keep_rows_apart() -> None:
    long, short = stated_positions(8, 64, 24), stated_positions(8, 32, 24)
    assert torch.equal(resize_time(long, 8, 32), short)
    assert not torch.allclose(long[:, : short.shape[1]], short)  # what cutting the flat list would give
    ramp = torch.arange(4.0).repeat(8)[None, :, None] + 10 * torch.arange(8.0).repeat_interleave(4)[None, :, None]
    grid = resize_time(ramp, 8, 8).reshape(8, 8)
    assert torch.all(grid.diff(dim=1) >= 0)
    assert torch.allclose(grid.mean(dim=1), 10 * torch.arange(8.0) + 1.5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"frames": 100}, "frames is 100; it must be a multiple of the patch size"),
        ({"width": 25}, "width is 25"),
        ({"frontend": FrontEnd(80)}, "80, but the data have 128 mel bins"),
    ],
)
def test_sizes_that_do_not_fit_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CAVMAE(128, 3, **{**TINY, **options})


def test_images_of_another_size_say_what_to_set() -> None:
    with pytest.raises(DataError, match=r"faces have \(48, 48\) pixels, the network takes 32; data\.media\.image_size"):
        CAVMAE(128, 3, **TINY).face(torch.zeros(1, 3, 48, 48))


# -- checkpoints ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("frames", [1024, 512])
@pytest.mark.parametrize("kind", ["pretrained", "fine-tuned"])
def test_loads_cavmae_files(tmp_path: Path, prefix: str, frames: int, kind: str) -> None:
    state = cavmae_state(24, 11, frames, 224, decoder=kind == "pretrained")
    if kind == "fine-tuned":
        for i, shape in ((0, (24,)), (1, (309, 24))):
            state[f"mlp_head.{i}.weight"], state[f"mlp_head.{i}.bias"] = torch.randn(*shape), torch.randn(shape[0])
    assert len(state) == {"pretrained": 647, "fine-tuned": 478}[kind]
    path = save({prefix + key: value for key, value in state.items()}, tmp_path / "cavmae.pth")
    network = CAVMAE(128, 3, 24, heads=3, frames=512, checkpoint=path)
    own = network.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in own.items() if key != "pos_embed_a")
    assert torch.equal(own["pos_embed_a"], stated_positions(8, 32, 24))


def test_scc_starts_from_a_cavmae_file_or_a_checkpoint_of_ours(tmp_path: Path) -> None:
    state = cavmae_state(24, 2, 128, 32)
    model = SCC((128, 3), partial(CAVMAE, **TINY), weights=save(state, tmp_path / "cavmae.pth"))
    assert torch.equal(model.network.blocks_a[1].mlp.fc1.weight, state["blocks_a.1.mlp.fc1.weight"])
    assert torch.equal(model.network.pos_embed_a, stated_positions(8, 4, 24))
    ours = save({"state_dict": model.state_dict()}, tmp_path / "ours.ckpt")
    again = SCC((128, 3), partial(CAVMAE, **TINY), learnable_tau=True, weights=ours)
    assert torch.equal(again.network.norm_v.bias, state["norm_v.bias"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_longer_voices_than_the_file_continue_its_table(tmp_path: Path, dtype: torch.dtype) -> None:
    """Values of the added time steps: those of the function that made the table, for the file and for a recording."""
    state = cavmae_state(24, 2, 512, 32)
    state["pos_embed_a"] = state["pos_embed_a"].to(dtype)
    network = CAVMAE(128, 3, **{**TINY, "frames": 1024}, checkpoint=save(state, tmp_path / "cavmae.pth")).eval()
    precise = 1e-6 if dtype == torch.float32 else 1e-3
    assert torch.allclose(network.pos_embed_a, stated_positions(8, 64, 24), rtol=0, atol=precise)
    assert torch.equal(resize_time(network.pos_embed_a, 8, 32), state["pos_embed_a"].float())
    short, features = CAVMAE(128, 3, **TINY).eval(), torch.randn(1, 1024, 128)
    short.load_state_dict({**network.state_dict(), "pos_embed_a": stated_positions(8, 4, 24)})
    network.pos_embed_a = stated_positions(8, 64, 24)
    with torch.no_grad():
        assert torch.allclose(short.encode_voice(features), network.encode_voice(features), atol=1e-6)


def test_positions_that_are_no_table_are_interpolated() -> None:
    learnt = stated_positions(8, 32, 24)
    learnt[0, 7, 3] += 1e-3
    grid = resize_time(learnt, 8, 64).unflatten(1, (8, 64))
    means = grid.unflatten(2, (32, 2)).mean(3)[:, :, 1:-1]
    assert torch.allclose(means, (learnt.unflatten(1, (8, 32)).unfold(2, 3, 1) * torch.tensor([1, 6, 1]) / 8).sum(-1))


def test_missing_and_unexpected_keys_are_listed(tmp_path: Path) -> None:
    state = cavmae_state(24, 2, 64, 32)
    del state["blocks_a.1.attn.qkv.weight"]
    state["blocks_z.0.weight"] = torch.zeros(1)
    state["norm_v.bias"] = torch.zeros(7)
    path = save(state, tmp_path / "odd.pth")
    with pytest.raises(WeightsError) as error:
        CAVMAE(128, 3, **TINY, checkpoint=path)
    for said in ("odd.pth", "missing: blocks_a.1.attn.qkv.weight", "unexpected: blocks_z.0.weight", "norm_v.bias (7,)"):
        assert said in str(error.value)


def test_a_file_of_another_depth_is_refused(tmp_path: Path) -> None:
    path = save(cavmae_state(24, 3, 64, 32), tmp_path / "deep.pth")
    with pytest.raises(WeightsError, match=r"unexpected: blocks_[av]\.2\."):
        CAVMAE(128, 3, **TINY, checkpoint=path)


class Trap:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    torch.save({**cavmae_state(24, 2, 64, 32), "extra": Trap(str(trap))}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match=r"evil\.pth"):
        CAVMAE(128, 3, **TINY, checkpoint=str(tmp_path / "evil.pth"))
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Trap(str(trap))))
    with pytest.raises(WeightsError, match=r"plain\.pth"):
        CAVMAE(128, 3, **TINY, checkpoint=str(tmp_path / "plain.pth"))
    assert not trap.exists()


def test_goes_on_from_a_checkpoint_of_ours(tmp_path: Path) -> None:
    first = CAVMAE(128, 3, **TINY, projection=10)
    state = {f"network.{key}": value for key, value in first.state_dict().items()}
    path = save({"state_dict": {**state, "contrastive.log_tau": torch.zeros(())}, "epoch": 3}, tmp_path / "last.ckpt")
    second = CAVMAE(128, 3, **TINY, projection=10, checkpoint=path)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
