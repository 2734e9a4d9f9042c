"""Training in bfloat16 on a processor that only imitates it is warned of."""

from __future__ import annotations

import warnings

import pytest
from lightning.pytorch import Trainer

from lightning_modules.training import precision
from lightning_modules.training.precision import computes_bf16, warn_of_imitated_bf16

CASES = [("bf16-mixed", False, True), ("bf16-mixed", True, False), (32, False, False)]


@pytest.mark.parametrize(("wanted", "hardware", "warned"), CASES)
def test_imitated_bfloat16_is_warned_of(
    wanted: object, hardware: bool, warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "computes_bf16", lambda device: hardware)
    trainer = Trainer(accelerator="cpu", precision=wanted, logger=False, enable_checkpointing=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_imitated_bf16(trainer)
    said = [str(w.message) for w in caught if "imitates" in str(w.message)]
    assert bool(said) == warned
    assert all("--trainer.precision 32-true" in text for text in said)


def test_other_devices_than_processors_compute_bfloat16() -> None:
    assert computes_bf16("cuda")
    assert isinstance(computes_bf16("cpu"), bool)
