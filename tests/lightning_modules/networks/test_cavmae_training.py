"""How CAV-MAE is fine-tuned: frozen parts, layer-wise rates, schedules, and what saves memory changes nothing."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_modules.networks.cavmae import CAVMAE
from lightning_modules.scc import SCC
from lightning_modules.training.optim import LayerwiseAdamW, WarmupCosine
from tests.lightning_modules.tiny import DIMS, TinyData, trainer

TINY: dict[str, Any] = {"width": 24, "depth": 2, "heads": 3, "frames": 64, "image_size": 32}


def loss_and_gradients(network: CAVMAE) -> tuple[Tensor, list[Tensor]]:
    rng = torch.Generator().manual_seed(2)
    voices, faces = torch.randn(2, 8000, generator=rng), torch.randn(2, 3, 32, 32, generator=rng)
    loss = (network.voice(voices) * network.face(faces)).sum()
    loss.backward()
    return loss, [p.grad for p in network.parameters() if p.grad is not None]


def test_every_parameter_is_used() -> None:
    network = CAVMAE(128, 3, **TINY, projection=8)
    _, gradients = loss_and_gradients(network)
    assert len(gradients) == len(list(network.parameters()))


def test_gradient_checkpointing_changes_nothing() -> None:
    torch.manual_seed(0)
    plain = CAVMAE(128, 3, **TINY)
    saving = CAVMAE(128, 3, **TINY, grad_checkpointing=True)
    saving.load_state_dict(plain.state_dict())
    (loss, gradients), (again, recomputed) = loss_and_gradients(plain), loss_and_gradients(saving)
    assert torch.equal(loss, again)
    for gradient, other in zip(gradients, recomputed, strict=True):
        assert torch.allclose(gradient, other, atol=1e-7)


def test_patch_dropout_in_training_only() -> None:
    network = CAVMAE(128, 3, **TINY, patch_dropout=0.5)
    seen: list[int] = []
    network.blocks_u[0].register_forward_hook(lambda module, args, out: seen.append(out.shape[1]))
    features = torch.randn(2, 64, 128)
    network.encode_voice(features)
    with torch.no_grad():
        assert torch.equal(network.eval().encode_voice(features), network.encode_voice(features))
    assert seen == [16, 32, 32]


def test_compiled_blocks_keep_names_and_results() -> None:
    torch.manual_seed(0)
    plain, compiled = CAVMAE(128, 3, **TINY).eval(), CAVMAE(128, 3, **TINY, compile=True).eval()
    compiled.load_state_dict(plain.state_dict())
    blocks = [*compiled.blocks_a, *compiled.blocks_v, *compiled.blocks_u]
    assert all(block._compiled_call_impl is not None for block in blocks)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):  # no C++ compiler needed
        assert torch.equal(plain.face(images), compiled.face(images))


def test_freeze_by_pattern() -> None:
    network = CAVMAE(128, 3, **TINY, freeze=["patch_embed_*", "blocks_[av].0.*"])
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizer = LayerwiseAdamW([p for p in network.parameters() if p.requires_grad], lr=0.1)
    loss_and_gradients(network)
    optimizer.step()
    for name, parameter in network.named_parameters():
        frozen = name.startswith(("patch_embed_", "blocks_a.0.", "blocks_v.0."))
        assert torch.equal(parameter, before[name]) == frozen, name


def test_a_pattern_that_freezes_nothing_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'block_a\.0\.norm1\.bias' matches no parameter; did you mean 'blocks_a\.0"):
        CAVMAE(128, 3, **TINY, freeze=["block_a.0.norm1.bias"])


def test_layer_decay_and_no_decay_groups() -> None:
    network = CAVMAE(128, 3, **TINY, projection=8)
    optimizer = LayerwiseAdamW(network.parameters(), lr=1.0, weight_decay=0.1, layer_decay=0.5)
    rate, decay = {}, {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            rate[parameter], decay[parameter] = group["lr"], group["weight_decay"]
    named = dict(network.named_parameters())
    above = {
        "patch_embed_a.proj.weight": 4,
        "modality_v": 4,
        "blocks_v.0.attn.qkv.weight": 3,
        "blocks_a.1.norm1.bias": 2,
    }
    above |= {"blocks_u.0.norm1_a.weight": 1, "norm_a.weight": 0, "projection_v.weight": 0}
    assert {name: rate[named[name]] for name in above} == {name: 0.5**n for name, n in above.items()}
    assert all((decay[p] == 0) == (p.ndim == 1 or name.startswith("modality_")) for name, p in named.items())
    assert len(rate) == len(named)


def test_steps_are_those_of_adamw() -> None:
    linears = [torch.nn.Linear(5, 3) for _ in range(2)]
    linears[1].load_state_dict(linears[0].state_dict())
    ours = LayerwiseAdamW(linears[0].parameters(), lr=0.1, weight_decay=0.3)
    plain = [{"params": [linears[1].weight], "weight_decay": 0.3}, {"params": [linears[1].bias], "weight_decay": 0.0}]
    steps = ours, torch.optim.AdamW(plain, lr=0.1)
    for step in range(5):
        x = torch.randn(4, 5, generator=torch.Generator().manual_seed(step))
        for linear, optimizer in zip(linears, steps, strict=True):
            optimizer.zero_grad()
            linear(x).square().sum().backward()
            optimizer.step()
    for one, other in zip(linears[0].parameters(), linears[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_are_clipped_in_any_precision(precision: Any, tmp_path: Path) -> None:
    optimizer = partial(LayerwiseAdamW, lr=0.01)
    model = SCC(DIMS, optimizer=optimizer)
    run = trainer(tmp_path, max_epochs=1, precision=precision, gradient_clip_val=1.0)
    run.fit(model, TinyData())
    assert run.global_step == 11


def test_layer_decay_needs_numbered_layers() -> None:
    linear = torch.nn.Linear(2, 2)
    LayerwiseAdamW(linear.parameters())
    with pytest.raises(ValueError, match="does not number its layers"):
        LayerwiseAdamW(linear.parameters(), layer_decay=0.7)
    with pytest.raises(ValueError, match="all parameters are frozen"):
        LayerwiseAdamW([])


def test_warmup_then_cosine() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = WarmupCosine(optimizer, total_steps=14, warmup_steps=4, final=0.1)
    rates = []
    for _ in range(16):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates[:5] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert rates[9] == pytest.approx(2.0 * 0.55)  # half-way down
    assert rates[14] == rates[15] == pytest.approx(0.2)
    with pytest.raises(ValueError, match=r"warmup_steps is 5; it must be .* below total_steps, 5"):
        WarmupCosine(optimizer, total_steps=5, warmup_steps=5)
