"""The protocol's table: the fold is the unit, cells and seeds are averaged within it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from experiments.console.tables import table_console
from experiments.protocol.numbers import Outcome, summarise_protocol
from experiments.protocol.tables import protocol_csv, protocol_tables
from experiments.runs.rates import RATES


def people_of(fold: int, raw: np.ndarray, refined: np.ndarray, seed: int = 0) -> Outcome:
    record = dict.fromkeys(RATES.values(), 0.3)
    replicates = {("heard", "raw"): raw, ("heard", "refined"): refined}
    return Outcome("cca", "eng", fold, seed, {"heard": record}, "blocks", replicates=replicates)


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


def test_intervals_over_people_average_replicates_as_the_rates_are_averaged() -> None:
    rng = np.random.default_rng(0)
    raw, refined = rng.normal(0.3, 0.1, size=(2, 2, 100_000))  # stage, fold, replicate
    fits = [people_of(fold, raw[fold], refined[fold], seed) for fold in (0, 1) for seed in (0, 1)]
    (record,) = summarise_protocol(fits)
    half = 1.959964 * 0.1 / np.sqrt(2)  # the mean of two independent folds
    assert record["people"]["raw"] == pytest.approx([0.3 - half, 0.3 + half], abs=0.003)
    half *= np.sqrt(2)  # raw and refined drawn independently
    assert record["people"]["change"] == pytest.approx([-half, half], abs=0.004)


def test_unknown_people_leave_no_interval() -> None:
    fits = [people_of(0, np.full(5, 0.2), np.full(5, 0.1)), outcome(1, 0, raw=0.2, refined=0.1)]
    known, unknown = (summarise_protocol([fit])[0]["people"] for fit in fits)
    assert known["change"] == pytest.approx([-0.1, -0.1])
    assert unknown == {"raw": None, "refined": None, "change": None}


def test_cells_are_kept_apart_by_train_and_test_language() -> None:
    fits = []
    for config, train, other in (("eng", "English", "Urdu"), ("urdu", "Urdu", "English")):
        for fold in (0, 1):
            records = {
                name: dict.fromkeys(RATES.values(), 0.3) | {"eer": rate + 0.1 * fold, "eer_refined": rate}
                for name, rate in (("heard", 0.2), ("unheard", 0.4 if train == "Urdu" else 0.1))
            }
            spoken = {"heard": f"{train}→{train}", "unheard": f"{train}→{other}"}
            fits.append(Outcome("cca", config, fold, 0, records, languages=spoken))
    (record,) = summarise_protocol(fits)
    assert {label: pair["raw"]["mean"] for label, pair in record["cells"].items()} == pytest.approx(
        {"English→English": 0.25, "English→Urdu": 0.15, "Urdu→Urdu": 0.25, "Urdu→English": 0.45}
    )
    assert record["cells"]["Urdu→English"]["raw"]["sd"] == pytest.approx(np.std([0, 0.1], ddof=1))
    assert record["cells"]["Urdu→English"]["refined"] == pytest.approx({"mean": 0.4, "sd": 0.0})


def printed(records: list[dict]) -> str:
    console = table_console()
    with console.capture() as captured:
        for table in protocol_tables(records, pd.DataFrame()):
            console.print(table)
    return captured.get()


@pytest.mark.parametrize("refined", [True, False])
def test_lists_whose_sizes_tell_who_is_who_are_named_where_they_are_refined(refined: bool) -> None:
    rates = dict.fromkeys(RATES.values(), 0.3) | ({} if refined else {"eer_refined": None})
    records = {name: rates | {"sizes_tell": "/" in name} for name in ("heard", "natural/heard")}
    text = " ".join(printed(summarise_protocol([Outcome("cca", "eng", 0, 0, records)])).split())
    assert ("natural/heard has as many voices as faces of each identity" in text) is refined


def test_conditions_of_any_name_are_printed() -> None:
    records = {
        name: dict.fromkeys(RATES.values(), 0.3) | {"eer": rate} for name, rate in (("[wild] <&>", 0.2), ("野外", 0.4))
    }
    languages = dict.fromkeys(records, "all→all")
    (record,) = summarise_protocol([Outcome("cca", "eng", 0, 0, records, languages=languages)])
    assert {name: pair["raw"]["mean"] for name, pair in record["conditions"].items()} == {
        "[wild] <&>": 0.2,
        "野外": 0.4,
    }
    text = printed([record])
    assert "[wild] <&>, raw" in text
    assert "野外, raw" in text
    assert "→" not in text  # the languages are unknown
    assert protocol_csv([record])["野外 raw"][0] == pytest.approx(0.4)


def test_heard_and_unheard_stand_in_the_language_table_only() -> None:
    spoken = {"heard": "English→English", "unheard": "English→Urdu"}
    record = dict.fromkeys(RATES.values(), 0.3)
    made = summarise_protocol([Outcome("cca", "eng", 0, 0, dict.fromkeys(spoken, record), languages=spoken)])
    text = printed(made)
    assert "English→Urdu, raw" in text
    assert "by test condition" not in text


def test_cross_validation_of_alternatives_is_averaged_over_fits() -> None:
    record = dict.fromkeys(RATES.values(), 0.3)
    selections = [{"chosen": "a", "eer": {"raw": 0.4, "a": 0.2}}, {"chosen": "raw", "eer": {"raw": 0.2, "a": 0.3}}]
    fits = [
        Outcome("cca", "eng", fold, 0, {"heard": record}, "selected", selection=selection)
        for fold, selection in enumerate(selections)
    ]
    (found,) = summarise_protocol(fits)
    assert found["selection"]["raw"] == {"mean": pytest.approx(0.3), "sd": pytest.approx(0.1414, abs=1e-4), "chosen": 1}
    assert found["selection"]["a"]["chosen"] == 1
    titles = [str(table.title) for table in protocol_tables([found], pd.DataFrame())]
    assert sum("cross-validation on training identities" in title for title in titles) == 1
    (without,) = summarise_protocol([Outcome("cca", "eng", 0, 0, {"heard": record})])
    assert without["selection"] == {}
