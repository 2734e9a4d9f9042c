"""What the report says of one test set: its tables, its first sentence, and the rows of its first screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from datamodules.io.text import counted
from datamodules.schema import visible
from experiments.console.tables import percent
from experiments.report.grouping import TestedOn
from experiments.report.numbers import (
    BETTER,
    OPEN,
    SINGLE,
    WORSE,
    Published,
    Spread,
    Verdict,
    by_rate,
    counts_of,
    languages_of,
    lead_lists,
    long_table,
    records_of,
    scope_of,
    scopes_of,
    spread,
    verdict,
)
from experiments.report.runs import ReportRun
from experiments.report.tables import (
    Table,
    answer_table,
    condition_table,
    control_table,
    language_table,
)
from experiments.runs.records import TRUSTED, UNLABELLED
from experiments.runs.results import note_of, sizes_note

WIDEST = 60  # percent at the right end of the axis of the first screen
PLACES = {1: (20,), 2: (12, 30), 3: (7, 21, 35), 4: (5, 16, 27, 38)}  # heights of the dots of each test condition
TONES = {BETTER: "good", WORSE: "bad", OPEN: "open", SINGLE: "open"}
MARKS = {BETTER: "✓", WORSE: "✗", OPEN: "≈", SINGLE: "·"}
MOST_NAMED = 3  # methods that the first sentence names
Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Part:
    """The part of a report about one test set.

    Attributes:
        test: the test set, its runs in the order of their methods' EERs.
        table: :func:`experiments.report.numbers.long_table` of the runs.
        everything: the same with refinements and fusions of the runs.
        tables: methods; languages; test conditions; trial lists. Some have no rows.
        records: published figures of the same test.
    """

    test: TestedOn
    table: pd.DataFrame
    everything: pd.DataFrame
    tables: list[Table]
    records: list[Published]


def part_of(test: TestedOn, derived: Sequence[ReportRun]) -> Part:
    """The part about a test set.

    Args:
        test: the test set.
        derived: refinements and fusions of its runs.
    """
    order = by_rate(long_table(test.runs))
    test = TestedOn(test.name, sorted(test.runs, key=lambda run: order.index(run.method)), test.version, test.official)
    table, everything = long_table(test.runs), long_table([*test.runs, *derived])
    records = records_of(test.version) if test.official else []
    languages = languages_of(test.version) if records and test.version else []
    tables = [answer_table(table, test.unit, records), language_table(table, languages, records)]
    return Part(test, table, everything, [*tables, condition_table(table), control_table(table)], records)


def lead_of(part: Part) -> Row:
    """Headline, lead and explaining sentences of a test set, by their names in the template."""
    test, table, unit = part.test, part.table, part.test.unit
    main, scopes = lead_lists(table), scopes_of(table)
    refined, derived = (bool(rows["refined"].notna().any()) for rows in (table, part.everything))
    pairs = main[["train", "test"]].drop_duplicates()
    identities = {name for run in test.runs for name in run.digest.people["identity"]}
    spoken = ", ".join(sorted({name for name in set(main["test"]) if name != "all"}))
    lead = [counted(table["method"].nunique(), "method"), counted(len(test.runs), "run")]
    lead += [counted(len(pairs), "train → test language pair") + f" ({spoken})"] * bool(spoken)
    lead += [counted(len(identities), "test identity", "test identities")] * bool(identities)
    lead += [_over(table, unit)]
    transductive = "Refined scores are transductive: refinement uses the whole unlabelled test set. " if derived else ""
    controls = "Gender only is the EER of a scorer that knows only whether the genders agree. Chance is the EER with "
    controls += "shuffled identities. "
    several = bool((counts_of(main) > 1).any())
    controls += f"Intervals are 95 % t-intervals of the difference, paired by {unit}. " if several else ""
    controls += "Seeds share their test identities: spreads and intervals over seeds say nothing about others. " * (
        several and unit == "seed"
    )
    usual = set(scopes) == {"heard", "unheard", "overall"} and ":" not in test.name
    return {
        "headline": f"Equal error rate on {test.name}{', heard and unheard language' * usual}",
        "lead": "EER in %, lower is better. " + " · ".join(lead) + ".",
        "answer": answer_of(part),
        "caveat": " ".join(
            filter(
                None,
                [
                    notes_in(test.runs),
                    (transductive + controls).strip(),
                    sizes_in(part),
                    doubts_in(test.runs),
                    _uneven(main, unit),
                ],
            )
        ),
        "final_words": "refined EER, raw EER below"
        if refined
        else f"raw EER, {'see Refinements' if derived else 'not refined'}",
        "unit": unit,
        "several": several,
        "refined": refined,
    }


def notes_in(runs: Sequence[ReportRun]) -> str:
    """What runs state of their weights and training clips, see :func:`note_of`; empty where none does."""
    notes: dict[str, list[str]] = {
        key: sorted({str(name) for run in runs for name in run.results.get(key, [])}) for key in (TRUSTED, UNLABELLED)
    }
    return note_of(notes)


def sizes_in(part: Part) -> str:
    """A sentence that names refined test conditions whose cluster sizes say who is who; empty where none."""
    refined = bool(part.everything["refined"].notna().any())
    return sizes_note({name: record for run in part.test.runs for name, record in run.results.items()}, refined)


def doubts_in(runs: Sequence[ReportRun]) -> str:
    """A sentence that counts the test conditions whose refinement is in doubt, with the first; empty for none."""
    stated = {
        f"{run.method}, {run.folder.name}, {name}": record["doubts"]
        for run in runs
        for name, record in run.results.items()
        if isinstance(record, dict) and isinstance(record.get("doubts"), dict)
    }
    doubted = {where: "; ".join(map(str, of.values())) for where, of in stated.items() if of}
    if not doubted:
        return ""
    first, why = next(iter(doubted.items()))
    return (
        f"The refinement is in doubt in {len(doubted)} of {counted(len(stated), 'test condition')}, for example in "
        f"{visible(first)}: {visible(why)}. The decisions.json of a run has all."
    )


def _over(table: pd.DataFrame, unit: str) -> str:
    """What the spreads are over, counted."""
    counts = counts_of(lead_lists(table))
    if counts.max() < 2:
        return "one value per method, no spread"
    among = counted(counts.max(), unit) if counts.min() == counts.max() else f"{counts.min()} to {counts.max()} {unit}s"
    return f"mean ± standard deviation over {among}" + (" of held-out identities" if unit == "fold" else "")


def _uneven(main: pd.DataFrame, unit: str) -> str:
    """A warning where means are over different folds, training languages or test conditions."""
    methods = [part for _, part in main.groupby("method", sort=False)]
    folds = {frozenset(part["unit"]) for part in methods} if unit == "fold" else {None}
    kinds = {
        frozenset(zip(rows["train"], rows["condition"], strict=True))
        for part in methods
        for _, rows in part.groupby("unit")
    }
    text = "Not all methods were tested on the same folds: compare their EERs with care. " * (len(folds) > 1)
    several = "Means are not all over the same training languages and test conditions: compare them with care. "
    return text + several * (len(kinds) > 1)


class Answers:
    """Rows of the first screen: our methods, then published records of the same test with EERs by language.

    Args:
        part: the test set.
        methods: name, full name and anchor of each method.
    """

    def __init__(self, part: Part, methods: Sequence[Row]) -> None:
        main = lead_lists(part.table)
        conditions = [scope for scope in scopes_of(part.table) if scope != "overall"] or ["overall"]
        self.scopes: list[Row] = [
            {"name": name, "tone": name if name in ("heard", "unheard") else f"s{i + 2}", "y": y}
            for i, (name, y) in enumerate(zip(conditions, PLACES[len(conditions)], strict=True))
        ]
        self.rows = [self._ours(main[main["method"] == method["name"]], method) for method in methods]
        shown = {"heard", "unheard"} <= set(conditions)
        self.rows += [self._theirs(record) for record in part.records if record.cells and shown]

    def _ours(self, table: pd.DataFrame, method: Row) -> Row:
        final = "raw" if spread(table, "refined") is None else "refined"
        row: Row = {"name": method["name"], "full": method["full"], "anchor": method["anchor"], "theirs": False}
        overall = [spread(table, stage) for stage in dict.fromkeys(("raw", final))]
        means = " → ".join(_number(rate) for rate in overall if rate)
        row["below"] = f"overall {means}" if len(self.scopes) > 1 and means else ""
        row["rates"], dots = [], []
        for scope in self.scopes:
            raw, rate = (spread(scope_of(table, scope["name"]), stage) for stage in ("raw", final))
            row["rates"].append(_rate(rate, f"raw {_number(raw)}" if final == "refined" else "raw"))
            dots.append(_dot(scope, raw, rate if final == "refined" else None))
        controls = {"gender_only": "4 3", "chance": "1 3"}
        lines = [(spread(table, rate), dash) for rate, dash in controls.items()]
        row["controls"] = [{"x": _place(rate.mean), "dash": dash} for rate, dash in lines if rate]
        row["controls_text"] = _controls_text(table, final)
        return row | {"dots": dots, "label": f"{method['name']}: overall {means} %"}

    def _theirs(self, record: Published) -> Row:
        final = next(stage for stage in ("refined", "final", "raw") if stage in record.overall)
        row: Row = {"name": record.name, "full": record.name, "anchor": None, "theirs": True, "controls": []}
        overall = [record.overall[stage] for stage in dict.fromkeys(("raw", final)) if stage in record.overall]
        row["below"] = f"{record.source}, official test; overall " + " → ".join(f"{100 * x:.1f}" for x in overall)
        row["rates"], dots = [], []
        for scope in self.scopes:
            raw, rate = (_single(record.scope(scope["name"], stage)) for stage in ("raw", final))
            words = {"refined": f"raw {_number(raw)}", "raw": "raw", "final": "as published"}[final]
            row["rates"].append(_rate(rate, words))
            dots.append(_dot(scope, raw, None if final == "raw" else rate))
        row["controls_text"] = [("open", "no controls published")]
        return row | {"dots": dots, "label": f"{record.name}: {row['below']} %"}


def _controls_text(table: pd.DataFrame, final: str) -> list[tuple[str, str]]:
    """Tone and text of a method's comparison with each control: EER of the control, difference, interval."""
    same = "same_gender" if final == "raw" else "refined_same_gender"
    floor, level, chance = (_number(spread(table, rate)) for rate in ("gender_only", same, "chance"))
    lines = []
    for difference, text in (
        (verdict(table, final, "gender_only"), f"gender only {floor}"),
        (verdict(table, same, 0.5), f"same gender {level}, chance 50"),
        (verdict(table, final, "chance"), f"chance {chance}"),
    ):
        if difference is not None:
            lines.append((TONES[difference.words], f"{MARKS[difference.words]} {text}: {_interval(difference)}"))
    return lines or [("open", "no controls: genders or identities are unknown")]


def answer_of(part: Part) -> str:
    """First sentence of a test set: the best method, and which methods are better than the controls, where tested."""
    main = lead_lists(part.table)
    rates = {name: main[main["method"] == name] for name in main["method"].unique()}
    finals = {name: "raw" if spread(rows, "refined") is None else "refined" for name, rows in rates.items()}
    known = {name: rate for name, rows in rates.items() if (rate := spread(rows, finals[name])) is not None}
    sentences = []
    if known:
        best = min(known, key=lambda name: known[name].mean)
        which = f"Lowest EER: {best}, " if len(rates) > 1 else "EER: "
        chance = spread(rates[best], "chance")
        beside = f" (chance {_number(chance)})" if chance else ""
        sentences.append(f"{which}{_number(known[best])} %{beside}.")
    sentences += [_tested(rates, finals, known, control) for control in ("gender_only", "chance")]
    if main.groupby("method")["unit"].nunique().max() < 2:
        sentences.append("One value per method, so no difference from the controls is tested: run more folds or seeds.")
    paper = [f"{r.name}, {100 * r.overall['refined']:.1f}" for r in part.records if "refined" in r.overall]
    sentences.append(f"Published, on the official test: {'; '.join(paper)}." if paper else "")
    return " ".join(filter(None, sentences))


def _tested(rates: Row, finals: Row, known: dict[str, Spread], control: str) -> str:
    """How many of the methods with a tested difference are better than a control; empty if none is tested."""
    verdicts = {name: verdict(rows, finals[name], control) for name, rows in rates.items()}
    tested = {name: each for name, each in verdicts.items() if each is not None and each.low is not None}
    if not tested:
        return ""
    better = sorted((name for name, each in tested.items() if each.words == BETTER), key=lambda n: known[n].mean)
    text = f"{len(better)} of {counted(len(tested), 'method')} {'is' if len(tested) == 1 else 'are'} better than "
    text += control.replace("_", " ")
    if control == "gender_only" and better:
        shown = [f"{name} ({_number(known[name])})" for name in better[:MOST_NAMED]]
        text += f": {'; '.join(shown)}" + f" and {len(better) - MOST_NAMED} more" * (len(better) > MOST_NAMED)
    rest = len(rates) - len(tested)
    return text + (f"; {rest} not tested." if rest else ".")


def _interval(difference: Verdict) -> str:
    if difference.low is None or difference.high is None:
        return f"{100 * difference.mean:+.1f}"
    return f"{100 * difference.mean:+.1f} [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"


def _number(rate: Spread | None) -> str:
    return percent(None if rate is None else rate.mean)


def _rate(rate: Spread | None, before: str) -> Row:
    if rate is None:
        return {"final": None, "sd": None, "before": ""}
    return {"final": _number(rate), "sd": None if rate.sd is None else percent(rate.sd), "before": before}


def _single(value: float | None) -> Spread | None:
    return None if value is None else Spread(value, None, 1)


def _place(rate: float) -> float:
    return round(min(100 * rate, WIDEST) * 100 / WIDEST, 2)


def _dot(scope: Row, raw: Spread | None, refined: Spread | None) -> Row:
    shown = refined or raw
    band = None if shown is None or shown.sd is None else (shown.mean - shown.sd, shown.mean + shown.sd)
    return {
        "tone": scope["tone"],
        "y": scope["y"],
        "raw": None if raw is None else _place(raw.mean),
        "x": None if refined is None else _place(refined.mean),
        "low": None if band is None else _place(max(band[0], 0)),
        "high": None if band is None else _place(band[1]),
    }
