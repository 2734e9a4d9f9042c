"""Fits one after the other in one process, as workers run them."""

from __future__ import annotations

import gc
from pathlib import Path

from lightning.pytorch import Trainer

from experiments.fits import Fit

TINY = Path(__file__).parents[1] / "conf" / "tiny.yaml"


def test_a_fit_leaves_nothing_of_itself_to_the_next(tmp_path: Path) -> None:
    """Python's own collector is off: it comes too rarely in a process of many objects to count on it."""
    kept = []
    gc.disable()
    try:
        for number in range(3):
            run = tmp_path / str(number)
            command = ("fit", f"--config={TINY}", "--trainer.max_epochs=1", "--no-test", f"--run_dir={run}")
            assert Fit(run, command).run() is None
            kept.append(sum(type(thing) is Trainer for thing in gc.get_objects()))
    finally:
        gc.enable()
    assert kept[0] == kept[1] == kept[2]
