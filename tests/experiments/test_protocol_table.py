"""The protocol's table: the fold is the unit, cells and seeds are averaged within it."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.protocol_table import RATES, Outcome, summarise_protocol


def outcome(fold: int, seed: int, raw: float, refined: float, config: str = "eng") -> Outcome:
    record = dict.fromkeys(RATES.values(), 0.3) | {"eer": raw, "eer_refined": refined}
    return Outcome("cca", config, fold, seed, {"heard": record, "unheard": record, "overall": record})


def test_spread_is_over_folds_not_over_fits() -> None:
    fits = [outcome(fold, seed, raw=0.2 + 0.1 * fold, refined=0.1) for fold in (0, 1) for seed in (0, 1, 2)]
    (record,) = summarise_protocol(fits)
    assert record["raw"]["mean"] == pytest.approx(0.25)
    assert record["raw"]["sd"] == pytest.approx(np.std([0.2, 0.3], ddof=1))
    assert record["fits"] == 6
    assert record["folds"] == [0, 1]


def test_change_is_paired_by_fold_with_a_t_interval() -> None:
    fits = [outcome(fold, 0, raw=0.3, refined=0.3 - d) for fold, d in enumerate((0.05, 0.10, 0.15))]
    (record,) = summarise_protocol(fits)
    half = 4.302652729911275 * 0.05 / np.sqrt(3)  # t(0.975, 2 degrees of freedom)
    assert record["change"]["mean"] == pytest.approx(-0.10)
    assert record["change"]["low"] == pytest.approx(-0.10 - half)
    assert record["change"]["high"] == pytest.approx(-0.10 + half)


def test_a_rate_nobody_measured_is_none_and_lists_are_kept_apart() -> None:
    record = dict.fromkeys(RATES.values(), 0.3) | {"eer_same_gender": None}
    results = {"heard": record, "balanced/heard": record, "overall": record, "balanced/overall": record}
    main, balanced = summarise_protocol([Outcome("cca", "eng", 0, 0, results)])
    assert (main["lists"], balanced["lists"]) == ("main", "balanced")
    assert main["same_gender"] is None
    assert main["unheard"] == {"raw": None, "refined": None}
