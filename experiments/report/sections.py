"""Text and first screen of the report."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import pandas as pd

from experiments.console.tables import percent
from experiments.report.numbers import (
    BETTER,
    OPEN,
    SINGLE,
    WORSE,
    Published,
    Spread,
    Verdict,
    published,
    scope_of,
    spread,
    unit_of,
    verdict,
    version_of,
)
from experiments.report.runs import ReportRun

WIDEST = 60  # percent at the right end of the axis of the first screen
HEIGHTS = {"heard": 12, "unheard": 30}
TONES = {BETTER: "good", WORSE: "bad", OPEN: "open", SINGLE: "open"}
MARKS = {BETTER: "✓", WORSE: "✗", OPEN: "≈", SINGLE: "·"}
Row = dict[str, Any]


def records_of(table: pd.DataFrame) -> list[Published]:
    """Published records of the MAV-Celeb version that the runs are tested on."""
    version = version_of(table)
    return [record for record in published()[1] if record.version == version]


def lead_of(runs: Sequence[ReportRun], table: pd.DataFrame, everything: pd.DataFrame) -> Row:
    """Title, lead and explaining sentences of the page, by their names in the template."""
    version, unit = version_of(table), unit_of(runs)
    languages = ", ".join(sorted(set(table["test"])))
    where = f"MAV-Celeb {version}" if version else "test"
    units, methods = table["unit"].nunique(), table["method"].nunique()
    cells = len(table[table["lists"] == "main"][["train", "test"]].drop_duplicates())
    refined, derived = (bool(rows["refined"].notna().any()) for rows in (table, everything))
    identities = {name for run in runs for name in run.digest.people["identity"]}
    over = f"mean ± standard deviation over {units} {unit}s" + (" of held-out identities" if unit == "fold" else "")
    lead = [f"{methods} method{'s' * (methods > 1)}", f"{len(runs)} run{'s' * (len(runs) > 1)}"]
    lead += [f"{cells} train → test language pair{'s' * (cells > 1)} ({languages})"]
    lead += [f"{len(identities)} test identities"] * bool(identities)
    lead += [over if units > 1 else "one value per method"]
    theirs = (
        "Published EERs are from the official test set of six identities, ours from the trial lists of these runs. "
    )
    theirs += "The identities and lists differ, so the EERs are not directly comparable. "
    if not version:
        theirs = f"No published EERs are known for {languages}. "
    transductive = "Refined scores are transductive: refinement uses the whole unlabelled test set. " if derived else ""
    controls = "Gender only is the EER of a scorer that knows only whether the genders agree. Chance is the EER with "
    controls += f"shuffled identities. Intervals are 95 % t-intervals of the difference, paired by {unit}."
    return {
        "title": f"Face-voice association, {where}: {len(runs)} runs",
        "headline": f"Equal error rate on {where}, heard and unheard language",
        "lead": "EER in %, lower is better. " + " · ".join(lead) + ".",
        "answer": answer_of(table),
        "caveat": theirs + transductive + controls,
        "final_words": "refined EER, raw EER below"
        if refined
        else f"raw EER, {'see Refinements' if derived else 'not refined'}",
        "table2_words": "EER in % by train → test language, mean ± standard deviation"
        + (f" over {unit}s" if units > 1 else "")
        + ". Click a heading to sort. "
        + theirs,
        "ticks": list(range(0, WIDEST + 1, 10)),
        "scale": 100 / WIDEST,
        "footer": f"Made {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC by "
        f"python -m experiments.run {' '.join(sys.argv[1:])}",
    }


class Answers:
    """Rows of the first screen: our methods, then published records with EERs by language.

    Args:
        table: the long table.
        methods: name and anchor of each method.
    """

    def __init__(self, table: pd.DataFrame, methods: Sequence[Row]) -> None:
        main = table[table["lists"] == "main"]
        self.rows = [self._ours(main[main["method"] == method["name"]], method) for method in methods]
        self.rows += [self._theirs(record) for record in records_of(table) if record.cells]

    def _ours(self, table: pd.DataFrame, method: Row) -> Row:
        final = "raw" if spread(table, "refined") is None else "refined"
        row: Row = {"name": method["name"], "anchor": method["anchor"], "theirs": False}
        overall = [spread(table, stage) for stage in dict.fromkeys(("raw", final))]
        row["below"] = "overall " + " → ".join(_number(rate) for rate in overall if rate)
        dots = []
        for scope in HEIGHTS:
            raw, rate = (spread(scope_of(table, scope), stage) for stage in ("raw", final))
            row[scope] = _rate(rate, f"raw {_number(raw)}" if final == "refined" else "raw")
            dots.append(_dot(scope, raw, rate if final == "refined" else None))
        controls = {"gender_only": "4 3", "chance": "1 3"}
        lines = [(spread(table, rate), dash) for rate, dash in controls.items()]
        row["controls"] = [{"x": _place(rate.mean), "dash": dash} for rate, dash in lines if rate]
        row["controls_text"] = _controls_text(table, final)
        return row | {"dots": dots, "label": f"{method['name']}: {row['below']} %"}

    def _theirs(self, record: Published) -> Row:
        final = next(stage for stage in ("refined", "final", "raw") if stage in record.overall)
        row: Row = {"name": record.name, "anchor": None, "theirs": True, "controls": []}
        overall = [record.overall[stage] for stage in dict.fromkeys(("raw", final)) if stage in record.overall]
        row["below"] = f"{record.source}, official test; overall " + " → ".join(f"{100 * x:.1f}" for x in overall)
        dots = []
        for scope in HEIGHTS:
            raw, rate = (_single(record.scope(scope, stage)) for stage in ("raw", final))
            words = {"refined": f"raw {_number(raw)}", "raw": "raw", "final": "as published"}[final]
            row[scope] = _rate(rate, words)
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


def answer_of(table: pd.DataFrame) -> str:
    """First sentence of the page: the methods that are better than the controls, overall on the main lists."""
    main = table[table["lists"] == "main"]
    better: dict[str, list[str]] = {"gender_only": [], "chance": []}
    names = list(main["method"].unique())
    for name in names:
        part = main[main["method"] == name]
        final = "raw" if spread(part, "refined") is None else "refined"
        for control, winners in better.items():
            difference = verdict(part, final, control)
            if difference is not None and difference.words == BETTER:
                winners.append(f"{name} ({_number(spread(part, final))})")
    if main["unit"].nunique() < 2:
        return "One value per method, so no difference from the controls can be tested. Run more folds or seeds."
    some = f": {'; '.join(better['gender_only'])}" if better["gender_only"] else ""
    count, chance = len(better["gender_only"]), len(better["chance"])
    paper = [f"{r.name}, {100 * r.overall['refined']:.1f}" for r in records_of(table) if "refined" in r.overall]
    published_text = f" Published, on the official test: {'; '.join(paper)}." if paper else ""
    ours = f"{count} of {len(names)} methods are better than gender only{some}; "
    ours += f"{chance} of {len(names)} better than chance."
    return ours + published_text


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


def _dot(scope: str, raw: Spread | None, refined: Spread | None) -> Row:
    shown = refined or raw
    band = None if shown is None or shown.sd is None else (shown.mean - shown.sd, shown.mean + shown.sd)
    return {
        "tone": scope,
        "y": HEIGHTS[scope],
        "raw": None if raw is None else _place(raw.mean),
        "x": None if refined is None else _place(refined.mean),
        "low": None if band is None else _place(max(band[0], 0)),
        "high": None if band is None else _place(band[1]),
    }
