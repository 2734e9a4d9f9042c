"""Test sets of the report: which runs belong together, what is said of them, and the names of their methods."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.report.build import build_report
from experiments.report.grouping import TestedOn, by_test_set
from experiments.report.runs import find_runs, read_runs
from experiments.report.sections import answer_of, lead_of, part_of
from tests.experiments.saved import save_tested

ODD = {"in-the-wild <&>": "English", "野外 $x_$": "Urdu"}
Edit = Callable[[dict[str, Any]], object]


def save(folder: Path, fold: int = 0, train: str = "English", **options: Any) -> Path:
    return save_tested(folder, train, "HeadPair", fold, **options)


def edit(run: Path, change: Edit) -> None:
    """Changes the config of a run."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    change(config)
    (run / "config.yaml").write_text(yaml.safe_dump(config))


def sorted_runs(folder: Path) -> list[TestedOn]:
    return by_test_set(list(read_runs(find_runs([folder])[0])))


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([{"fold": 0}, {"fold": 1}], [("MAV-Celeb V1", 2, "fold")]),
        ([{"fold": 0}, {"fold": 0, "train": "Urdu"}], [("MAV-Celeb V1", 2, "seed")]),
        ([{"fold": 0}, {"fold": 1, "train": "Urdu"}], [("MAV-Celeb V1", 2, "fold")]),
        ([{"seed": 0}, {"seed": 1}], [("MAV-Celeb V1", 2, "seed")]),
        ([{"fold": 0}, {"fold": 1, "root": "other"}], [("MAV-Celeb V1", 1, "seed"), ("other", 1, "seed")]),
        # the number of a fold that tests nothing else, or is no part of the names of the lists, makes no folds
        ([{"root": "w", "lists": "{language}.csv"}, {"root": "w", "lists": "{language}.csv", "fold": 1}],
         [("w (1 of 2)", 1, "seed"), ("w (2 of 2)", 1, "seed")]),
        ([{}, {"root": "MAV-Celeb/v1", "lists": "{language}_test.txt"}],
         [("MAV-Celeb V1: own trial lists", 1, "seed"), ("MAV-Celeb V1: official test", 1, "seed")]),
        ([{"root": "w"}, {"root": "w", "lists": "{language}.csv", "fold": 1}],
         [("w: v1_fold0_English, v1_fold0_Urdu", 1, "seed"), ("w: English, Urdu", 1, "seed")]),
        ([{}, {"cells": ODD}], [("MAV-Celeb V1: heard, unheard", 1, "seed"),
                                ("MAV-Celeb V1: in-the-wild <&>, 野外 $x_$", 1, "seed")]),
        ([{"root": "w"}, {"root": "w", "cells": {"studio": "English"}}],
         [("w: heard, unheard", 1, "seed"), ("w: studio", 1, "seed")]),
    ],
)  # fmt: skip
def test_runs_are_sorted_by_what_they_were_tested_on(
    tmp_path: Path, runs: list[dict[str, Any]], expected: list[tuple[str, int, str]]
) -> None:
    for i, options in enumerate(runs):
        save(tmp_path / str(i), **options)
    assert [(test.name, len(test.runs), test.unit) for test in sorted_runs(tmp_path)] == expected


def test_a_fold_of_validation_identities_is_no_fold(tmp_path: Path) -> None:
    for fold in (0, 1):
        run = save(tmp_path / str(fold), root="w", lists="all.csv")
        edit(run, lambda config, fold=fold: config["vars"].update(fold=fold))
    (test,) = sorted_runs(tmp_path)
    assert (test.unit, {run.fold for run in test.runs}) == ("seed", {None})


@pytest.mark.parametrize(
    ("root", "lists", "version", "official"),
    [
        ("data/mavceleb", "v1_fold{fold}_{language}.csv", "V1", False),
        ("MAV-Celeb/v1", "{language}_test.txt", "V1", True),
        ("w", "{language}_test.txt", None, False),
        ("w", "{language}.csv", None, False),
    ],
)
def test_papers_stand_beside_their_own_test_only(
    tmp_path: Path, root: str, lists: str, version: str | None, official: bool
) -> None:
    save(tmp_path / "run", root=root, lists=lists)
    (test,) = sorted_runs(tmp_path)
    assert (test.version, test.official) == (version, official)
    part = part_of(test, [])
    assert bool(part.records) is official
    assert ("20.5" in answer_of(part)) is official
    assert ("FAME" in build_report([tmp_path], "md")[0]) is official


def test_nothing_is_said_to_be_tested_of_one_value(tmp_path: Path) -> None:
    save(tmp_path / "a")
    save(tmp_path / "b", tau=0.1)
    (test,) = sorted_runs(tmp_path)
    part = part_of(test, [])
    words = answer_of(part)
    assert "better than" not in words
    assert words.startswith("Lowest EER: SCC (tau ")
    assert "no difference from the controls is tested" in words
    assert "one value per method, no spread" in lead_of(part)["lead"]
    page, summary = build_report([tmp_path], "html")
    assert "±" not in re.sub(r"<(style|pre|script)>.*?</\1>", "", page, flags=re.DOTALL)
    assert "not significant" not in page
    assert summary == "2 runs of 2 methods"


def test_methods_with_one_value_are_not_counted_as_tested(tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        save(tmp_path / f"a{seed}", seed=seed, fold=0)
    save(tmp_path / "b", tau=0.1)
    (test,) = sorted_runs(tmp_path)
    part = part_of(test, [])
    assert "of 1 method is better than chance; 1 not tested." in answer_of(part)
    assert "over 1 to 3 seeds." in lead_of(part)["lead"]
    assert "say nothing about others" in lead_of(part)["caveat"]
    assert list(part.tables[0].columns)[-1] == "seeds"


def test_conditions_of_any_name_are_shown_everywhere(tmp_path: Path) -> None:
    save(tmp_path / "run", cells=ODD, root="w")
    for style in ("md", "latex", "csv"):
        text = build_report([tmp_path], style)[0]
        assert "in-the-wild" in text
        assert "野外" in text


def test_many_conditions_stand_in_a_table_of_their_own(tmp_path: Path) -> None:
    cells = {f"room {i}": ("English", "Urdu")[i % 2] for i in range(9)}
    save(tmp_path / "run", cells=cells, root="w")
    text, _ = build_report([tmp_path], "md")
    table = text.split("## EER by test condition")[1]
    assert all(name in table for name in cells)


def test_unknown_languages_make_no_columns(tmp_path: Path) -> None:
    save(tmp_path / "run", cells={"all": ""}, root="w")
    text, _ = build_report([tmp_path], "md")
    assert "→" not in text


def test_names_are_the_shortest_that_tell_apart(tmp_path: Path) -> None:
    for i, tau in enumerate((0.05, 1.0)):
        for fold in (0, 1):
            save(tmp_path / f"{tau}-{fold}", fold, tau=tau)
        run = save_tested(tmp_path / f"linear-{i}", "English", "LinearPair", 0)
        edit(run, lambda config: config["postproc"].update(steps=[]))
    longer = save(tmp_path / "longer", 0, tau=1.0)
    edit(longer, lambda config: config.update(trainer={"max_epochs": 90}))
    (test,) = sorted_runs(tmp_path)
    assert {run.method for run in test.runs} == {
        "SCC HeadPair + ChainingCluster (tau 0.05, max_epochs none)",
        "SCC HeadPair + ChainingCluster (tau 1.0, max_epochs none)",
        "SCC HeadPair + ChainingCluster (tau 1.0, max_epochs 90)",
        "SCC LinearPair",
    }


def test_a_protocol_names_its_methods(tmp_path: Path) -> None:
    for name, tau in (("mine", 0.1), ("yours", 0.2)):
        save(tmp_path / name / "v1_eng" / "fold0-seed0", tau=tau)
    (test,) = sorted_runs(tmp_path)
    assert {run.method for run in test.runs} == {"mine", "yours"}
    assert {run.full_name for run in test.runs} == {"SCC HeadPair + ChainingCluster"}


def test_a_copy_of_a_run_adds_no_seed(tmp_path: Path) -> None:
    save(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (test,) = sorted_runs(tmp_path)
    assert "one value per method" in lead_of(part_of(test, []))["lead"]


def test_means_over_different_folds_are_named(tmp_path: Path) -> None:
    for fold in (0, 1):
        save(tmp_path / f"a{fold}", fold)
    (test,) = sorted_runs(tmp_path)
    assert "with care" not in lead_of(part_of(test, []))["caveat"]
    save(tmp_path / "b", 0, tau=0.1)
    save(tmp_path / "c", 0, train="Urdu")
    (test,) = sorted_runs(tmp_path)
    caveat = lead_of(part_of(test, []))["caveat"]
    assert "Not all methods were tested on the same folds" in caveat
    assert "not all over the same training languages" in caveat


def test_methods_that_no_short_name_tells_apart_are_numbered(tmp_path: Path) -> None:
    for i, root in enumerate(("/a/w", "/b/w")):
        run = save(tmp_path / str(i), root="/a/w")
        edit(run, lambda config, root=root: config["data"]["init_args"].update(root=root))
    many = save(tmp_path / "many", root="/a/w")
    edit(many, lambda config: config["model"]["init_args"].update(tau=2, direction="both"))
    (test,) = sorted_runs(tmp_path)
    assert len({run.method for run in test.runs}) == 3
    assert [run.method for run in test.runs][:2] == ["SCC (tau 1.0, root w) #1", "SCC (tau 1.0, root w) #2"]


def test_conditions_of_hostile_names_are_text(tmp_path: Path) -> None:
    script = "x --> <script>alert(1);<"
    cells = {script: "English", '"quoted" \\begin{x} 100 %': "Urdu", "=1+1": "English", "a\nb | c": "English"}
    save(tmp_path / "run", cells=cells, root="w")
    assert "<script>alert" not in build_report([tmp_path], "html")[0]
    text, _ = build_report([tmp_path], "md")
    assert "<script>" not in text
    assert r"a b \| c" in text
    assert "'=1+1" in build_report([tmp_path], "csv")[0]


def test_lists_may_all_have_names(tmp_path: Path) -> None:
    cells = {"wen/unseen/v2f": "English", "wen/unseen/f2v": "English", "wen/seen/v2f": "English"}
    save(tmp_path / "run", cells=cells, root="w")
    text, _ = build_report([tmp_path], "md")
    assert "v2f raw" in text
    assert "f2v raw" in text
    assert "wen/seen" in text
