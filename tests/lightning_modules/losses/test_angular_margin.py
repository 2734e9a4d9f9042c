"""The angular-margin classifier against its formula, angle by angle."""

from __future__ import annotations

import math

import pytest
import torch

from datamodules.schema import DataError
from lightning_modules.losses.angular_margin import AngularMarginLoss


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.5, 2.9, 3.1])
def test_an_angle_is_enlarged_by_the_margin(angle: float) -> None:
    loss = AngularMarginLoss(2, 2, margin=0.3, scale=4.0)
    loss.weight.data = torch.tensor([[2.0, 0.0], [0.0, 0.5]])  # lengths do not matter
    embedding = torch.tensor([[math.cos(angle), math.sin(angle)]])
    beyond = angle + 0.3 > math.pi
    own = math.cos(angle) - 0.3 * math.sin(0.3) if beyond else math.cos(angle + 0.3)
    logits = 4 * torch.tensor([own, math.sin(angle)])
    expected = torch.logsumexp(logits, 0) - logits[0]
    assert loss(embedding, torch.tensor([0])).item() == pytest.approx(expected.item(), abs=1e-3 if angle == 0 else 1e-5)


def test_without_margin_it_is_the_cross_entropy_of_cosines() -> None:
    loss, x, label = AngularMarginLoss(5, 7, margin=0.0, scale=3.0), torch.randn(9, 7), torch.arange(9) % 5
    cosine = torch.cosine_similarity(x[:, None], loss.weight[None], dim=2)
    torch.testing.assert_close(loss(x, label), torch.nn.functional.cross_entropy(3 * cosine, label))


def test_gradients_are_finite_on_the_class_and_opposite_to_it() -> None:
    loss = AngularMarginLoss(3, 4)
    x = torch.stack([loss.weight[0], -loss.weight[1]]).detach().requires_grad_()
    loss(x, torch.tensor([0, 1])).backward()
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(loss.weight.grad).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [({"margin": -0.1}, "margin is -0.1"), ({"margin": 2.0}, "margin is 2"), ({"scale": 0.0}, "scale is 0")],
)
def test_options_out_of_range(options: dict[str, float], said: str) -> None:
    with pytest.raises(DataError, match=f"model.{said}"):
        AngularMarginLoss(3, 4, **options)
