"""Fusion against the formulas of the FOP baseline."""

from __future__ import annotations

import torch

from lightning_modules.fop import GatedFusion, LinearFusion


def test_an_open_gate_passes_the_face_and_a_closed_one_the_voice() -> None:
    face, voice = torch.randn(3, 4), torch.randn(3, 4)
    fusion = GatedFusion(4).eval()
    for bias, expected in ((50.0, face), (-50.0, voice)):
        torch.nn.init.constant_(fusion.attention[1].bias, bias)
        torch.testing.assert_close(fusion(face, voice), torch.tanh(expected))


def test_gate_mixes_as_in_the_paper() -> None:
    face, voice = torch.randn(6, 4), torch.randn(6, 4)
    fusion = GatedFusion(4)
    linear, norm, _ = fusion.attention[0].block
    x = torch.cat([face, voice], dim=1) @ linear.weight.T + linear.bias
    x = (x - x.mean(0)) / (x.var(0, unbiased=False) + norm.eps).sqrt()
    gate = torch.sigmoid(x.relu() @ fusion.attention[1].weight.T + fusion.attention[1].bias)
    torch.testing.assert_close(fusion(face, voice), gate * face.tanh() + (1 - gate) * voice.tanh())


def test_linear_fusion_is_a_weighted_sum_with_learnt_weights() -> None:
    face, voice = torch.randn(3, 4), torch.randn(3, 4)
    fusion = LinearFusion(4)
    torch.testing.assert_close(fusion(face, voice), (face + voice) / 2)
    with torch.no_grad():
        fusion.weight.copy_(torch.tensor([2.0, -1.0]))
    torch.testing.assert_close(fusion(face, voice), 2 * face - voice)
    fusion(face, voice).sum().backward()
    torch.testing.assert_close(fusion.weight.grad, torch.stack([face.sum(), voice.sum()]))
