"""What training on from a checkpoint takes of it: moments and steps, and no options."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import ExponentialLR, ReduceLROnPlateau, StepLR

from lightning_modules.training.optim import WarmupCosine, train_on


def trained(kind: Any, make: Any, steps: int, lr: float = 0.1) -> tuple[Any, Any, Any]:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = kind([weight], lr=lr)
    scheduler = make(optimizer) if make else None
    for step in range(steps):
        optimizer.zero_grad()
        (weight * (step + 1)).sum().backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step(*([1.0] if isinstance(scheduler, ReduceLROnPlateau) else []))
    return weight, optimizer, scheduler


SCHEDULES: dict[str, Any] = {
    "none": None,
    "cosine": lambda o: WarmupCosine(o, 12, 2),
    "step": lambda o: StepLR(o, 3, 0.5),
    "exponential": lambda o: ExponentialLR(o, 0.9),
    "plateau": lambda o: ReduceLROnPlateau(o, patience=0, factor=0.5),
}


@pytest.mark.parametrize("after", SCHEDULES)
@pytest.mark.parametrize("before", SCHEDULES)
def test_the_rate_is_that_of_the_config_at_this_step(before: str, after: str) -> None:
    _, optimizer, scheduler = trained(Adam, SCHEDULES[before], 5)
    _, expected, _ = trained(Adam, SCHEDULES[after], 5, lr=0.2)
    new, schedule = (on := trained(Adam, SCHEDULES[after], 0, lr=0.2))[1:]
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", 0.1)
    assert train_on(new, schedule, optimizer.state_dict(), scheduler and scheduler.state_dict(), 5)
    taken = after != "plateau" or before == "plateau"
    assert new.param_groups[0]["lr"] == pytest.approx(expected.param_groups[0]["lr"] if taken else 0.2)
    assert new.state[on[0]]["step"] == 5
    if schedule is not None and taken:
        assert schedule.last_epoch == 5


def test_moments_of_another_optimiser_are_left() -> None:
    _, optimizer, _ = trained(Adam, None, 5)
    _, new, _ = trained(SGD, None, 0)
    assert not train_on(new, None, optimizer.state_dict(), None, 5)
    assert not new.state
