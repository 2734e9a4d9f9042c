"""Sorts runs by test set, and finds the folds of one split among them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from datamodules.io.text import counted
from experiments.report.naming import with_methods
from experiments.report.runs import ReportRun, flatten, main_conditions, options
from experiments.runs.saved import tested_set

MADE_UP = ("people", "identities", "clips", "shared", "mislabelled", "world")
"""Options of data modules that make their data: without a root, other values are other data under the same names."""
MAVCELEB = re.compile(r"mav[-_ ]?celeb", re.IGNORECASE)
VERSION = re.compile(r"(?<![a-z0-9])v[1-4](?![a-z0-9])", re.IGNORECASE)
OFFICIAL = re.compile(r"[A-Z][a-z]+_test\.txt")
"""Names of the test lists that the organisers publish."""
LONGEST = 40


@dataclass(frozen=True, eq=False)
class TestedOn:
    """The runs of one test set; those of several folds belong together.

    Two runs have the same test set if their main test conditions have the same names and the same trials, in any order.
    Runs of other trials are folds of the same test set if their data configs name the same test lists and held-out
    identities, but for the number of the fold.

    Attributes:
        name: of the data, short; no two test sets of a report have the same.
        runs: with short names of their methods, and the fold that was tested: None if all were tested on the same.
        version: version of MAV-Celeb (``V1``); None for other data.
        official: whether the lists are the official test of this version, of which figures are published.
    """

    name: str
    runs: list[ReportRun]
    version: str | None
    official: bool

    @property
    def unit(self) -> str:
        """What a spread is over: ``fold`` where several folds were tested, else ``seed``."""
        return "seed" if self.runs[0].fold is None else "fold"


def by_test_set(runs: Sequence[ReportRun]) -> list[TestedOn]:
    """Groups runs by test set, in the order of their first runs."""
    same_trials: dict[Any, list[ReportRun]] = {}
    for run in runs:
        same_trials.setdefault(_key(run), []).append(run)
    tests = list(same_trials.values())
    group_of = list(range(len(tests)))
    plans = [_plans(runs) for runs in tests]
    for a, b in combinations(range(len(tests)), 2):
        if group_of[a] != group_of[b] and _folds(plans[a], plans[b]):
            joined = group_of[b]
            group_of = [group_of[a] if group == joined else group for group in group_of]
    groups = [[tests[i] for i, group in enumerate(group_of) if group == number] for number in dict.fromkeys(group_of)]
    found = []
    for number, (folds, name) in enumerate(zip(groups, _names(groups), strict=True)):
        numbered = [
            replace(run, fold=label, test_set=number)
            for label, fold in zip(_labels(folds), folds, strict=True)
            for run in fold
        ]
        version, official = mavceleb_of(numbered[0].config)
        found.append(TestedOn(name, with_methods(numbered), version, official))
    return found


def mavceleb_of(config: Mapping[str, Any]) -> tuple[str | None, bool]:
    """Version of MAV-Celeb that a config tests on (``V1``), and whether its lists are the official test."""
    data = options(tested_set(config["data"]))
    if str(tested_set(config["data"]).get("class_path")).endswith("MAVCelebDataModule"):
        return str(data.get("version", "v1")).upper(), True
    files = {key: data.get(key) for key in ("root", "voices", "faces", "test")}
    names = [str(value) for value in flatten(files).values()]
    if not any(MAVCELEB.search(name) for name in names):
        return None, False
    version = VERSION.search(" ".join([str((config.get("vars") or {}).get("version", "")), *names]))
    lists = [Path(str(value)).name for key, value in flatten(data.get("test") or {}).items() if _is_list(key)]
    official = bool(lists) and all(OFFICIAL.fullmatch(name) for name in lists)
    return (version.group().upper(), official) if version else (None, False)


def _is_list(key: str) -> bool:
    """Whether a setting of ``data.test`` names a trial list: ``heard: FILE`` or ``heard: {trials: FILE}``."""
    return "." not in key or key.endswith(".trials")


def _key(run: ReportRun) -> Any:
    data = options(tested_set(run.config["data"]))
    made_up = () if data.get("root") else tuple(str(data.get(key)) for key in MADE_UP)
    names = main_conditions(run)
    return frozenset(names), frozenset(run.digest.trials[name] for name in names), made_up


Plan = tuple[frozenset[str], str, tuple[str, ...]]


def _plans(runs: Sequence[ReportRun]) -> set[Plan]:
    """Names of the test conditions, number of the fold, and all that says what is tested; of runs that have folds."""
    planned = ((frozenset(main_conditions(run)), _plan(run.config)) for run in runs)
    return {(names, *plan) for names, plan in planned if plan is not None}


def _folds(some: set[Plan], others: set[Plan]) -> bool:
    """Whether these are tests of two folds of one split."""
    return any(a[0] == b[0] and _differ_by_fold(*a[1:], *b[1:]) for a in some for b in others)


def _plan(config: Mapping[str, Any]) -> tuple[str, tuple[str, ...]] | None:
    """Number of the fold, and all that says what is tested; None without folds."""
    data, variables = options(tested_set(config["data"])), config.get("vars") or {}
    held_out = str(data.get("exclude_identities"))
    fold = variables.get("fold", held_out.partition("#")[2])
    if fold in (None, ""):
        return None
    fixed = [
        tested_set(config["data"]).get("class_path"),
        data.get("root"),
        data.get("genders"),
        variables.get("version"),
    ]
    fixed += [data.get(key) for key in ("version", "track", *MADE_UP)]
    tested = sorted(str(value) for value in flatten(data.get("test") or {}).values())  # heard and unheard may change
    return str(fold), (*(str(value) for value in fixed), held_out, *tested)


def _differ_by_fold(fold: str, plan: tuple[str, ...], other_fold: str, other: tuple[str, ...]) -> bool:
    """Whether two plans differ, and every word or number that differs is the fold's."""
    if fold == other_fold or plan == other or len(plan) != len(other):
        return False
    for a, b in zip(plan, other, strict=True):
        ours, theirs = re.split(r"(\d+|[A-Za-z]+)", a), re.split(r"(\d+|[A-Za-z]+)", b)
        if len(ours) != len(theirs):
            return False
        if any((x, y) != (fold, other_fold) for x, y in zip(ours, theirs, strict=True) if x != y):
            return False
    return True


def _labels(folds: Sequence[Sequence[ReportRun]]) -> list[Any]:
    """The folds as their configs number them, else 1, 2, ...; None for a single one."""
    if len(folds) == 1:
        return [None]
    given = [run.fold for fold in folds for run in fold[:1]]
    return given if None not in given and len(set(given)) == len(given) else list(range(1, len(folds) + 1))


def _names(groups: Sequence[Sequence[Sequence[ReportRun]]]) -> list[str]:
    """Name of the data; where several have the same, with the first of :func:`_differences` that tells one apart."""
    firsts = [group[0][0] for group in groups]
    names, differences = [_data_name(run.config) for run in firsts], [_differences(run) for run in firsts]
    found = []
    for i, name in enumerate(names):
        namesakes = [j for j, other in enumerate(names) if other == name]
        columns = zip(differences[i], zip(*(differences[j] for j in namesakes), strict=True), strict=True)
        told = next((f": {own}" for own, all_of_them in columns if own and all_of_them.count(own) == 1), None)
        if len(namesakes) > 1:
            name += told or f" ({namesakes.index(i) + 1} of {len(namesakes)})"
        found.append(name)
    return found


def _differences(run: ReportRun) -> tuple[str, ...]:
    """What may tell two test sets of the same data apart, in words: the plainest first."""
    listed = main_conditions(run)
    conditions = text if len(text := ", ".join(listed)) <= LONGEST else counted(len(listed), "test condition")
    version, official = mavceleb_of(run.config)
    whose = ("official test" if official else "own trial lists") if version else ""
    tested = flatten(options(tested_set(run.config["data"])).get("test") or {})
    files = sorted({Path(str(value)).stem for key, value in tested.items() if _is_list(key) and value})
    people = counted(run.digest.people["identity"].nunique(), "identity", "identities")
    trials = sum(run.results[name]["trials"] for name in listed)
    return conditions, whose, ", ".join(files)[:LONGEST], people, f"{trials:,} trials"


def _data_name(config: Mapping[str, Any]) -> str:
    version, _ = mavceleb_of(config)
    if version:
        return f"MAV-Celeb {version}"
    folder = Path(str(options(tested_set(config["data"])).get("root") or "")).name
    name = folder or str(tested_set(config["data"]).get("class_path")).rpartition(".")[2].removesuffix("DataModule")
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
