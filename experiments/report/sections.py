"""The words and the first screen of the report."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import pandas as pd

from experiments.report.numbers import (
    ALONE,
    BETTER,
    OPEN,
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

WIDEST = 60  # per cent at the right end of the first screen's axis
HEIGHTS = {"heard": 12, "unheard": 30}
TONES = {BETTER: "good", WORSE: "bad", OPEN: "open", ALONE: "open"}
MARKS = {BETTER: "✓", WORSE: "✗", OPEN: "≈", ALONE: "·"}
Row = dict[str, Any]


def records_of(table: pd.DataFrame) -> list[Published]:
    """Published records of the version whose languages the runs have."""
    version = version_of(table)
    return [record for record in published()[1] if record.version == version]


def lead_of(runs: Sequence[ReportRun], table: pd.DataFrame, everything: pd.DataFrame) -> Row:
    """Title, lead and the explaining sentences."""
    version, unit = version_of(table), unit_of(runs)
    spoken = ", ".join(sorted(set(table["test"])))
    where = f"MAV-Celeb {version}" if version else "test"
    units, methods = table["unit"].nunique(), table["method"].nunique()
    cells = len(table[table["lists"] == "main"][["train", "test"]].drop_duplicates())
    refined, derived = (bool(rows["refined"].notna().any()) for rows in (table, everything))
    people = {who for run in runs for who in run.digest.people["identity"]}
    over = f"mean ± sd over {units} {unit}s" + (" of held-out people" if unit == "fold" else "")
    lead = [f"{methods} method{'s' * (methods > 1)}", f"{len(runs)} run{'s' * (len(runs) > 1)}"]
    lead += [f"{cells} train → test language cell{'s' * (cells > 1)} ({spoken})"]
    lead += [f"{len(people)} test people"] * bool(people)
    lead += [over if units > 1 else "no spread: one value per method"]
    theirs = "Published figures are from the official test set of six people, ours from the trial lists of these runs: "
    theirs += "other people and lists, so the comparison is of levels, not of ranks. " if version else ""
    if not version:
        theirs = f"No published figures stand beside these: none are known for {spoken}. "
    transductive = "Refined scores are transductive: they see the whole unlabelled test set. " if derived else ""
    none = "nothing was refined"
    controls = "Gender alone is the EER of a scorer that knows only whether the genders agree; chance is that of "
    controls += "shuffled identities. Intervals are 95 % t-intervals of differences paired by " + unit + "."
    return {
        "title": f"Face-voice association, {where}: {len(runs)} runs",
        "headline": f"Equal error rate on {where}, heard and unheard language",
        "lead": "EER in %, lower is better. " + " · ".join(lead) + ".",
        "answer": answer_of(table),
        "caveat": theirs + transductive + controls,
        "final_words": "refined EER, raw below it" if refined else f"raw EER, {'see Refinements' if derived else none}",
        "table2_words": "EER in % by train → test language, mean ± sd"
        + (f" over {unit}s" if units > 1 else "")
        + ". Click a heading to sort. "
        + (theirs if version else "No published figures are known for these languages."),
        "ticks": list(range(0, WIDEST + 1, 10)),
        "scale": 100 / WIDEST,
        "footer": f"Made {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC by "
        f"python -m experiments.run {' '.join(sys.argv[1:])}",
    }


class Answers:
    """Rows of the first screen: ours in the order of the runs, then the published records that state cells.

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
        row["below"] = "overall " + " → ".join(_number(found) for found in overall if found)
        dots = []
        for scope in HEIGHTS:
            raw, found = (spread(scope_of(table, scope), stage) for stage in ("raw", final))
            row[scope] = _rate(found, f"raw {_number(raw)}" if final == "refined" else "raw")
            dots.append(_dot(scope, raw, found if final == "refined" else None))
        controls = {"gender_only": "4 3", "chance": "1 3"}
        lines = [(spread(table, rate), dash) for rate, dash in controls.items()]
        row["controls"] = [{"x": _place(found.mean), "dash": dash} for found, dash in lines if found]
        row["said"] = _said(table, final)
        return row | {"dots": dots, "spoken": f"{method['name']}: {row['below']} %"}

    def _theirs(self, record: Published) -> Row:
        final = next(stage for stage in ("refined", "final", "raw") if stage in record.overall)
        row: Row = {"name": record.name, "anchor": None, "theirs": True, "controls": []}
        overall = [record.overall[stage] for stage in dict.fromkeys(("raw", final)) if stage in record.overall]
        row["below"] = f"{record.source}, official test; overall " + " → ".join(f"{100 * x:.1f}" for x in overall)
        dots = []
        for scope in HEIGHTS:
            raw, found = (_alone(record.scope(scope, stage)) for stage in ("raw", final))
            words = {"refined": f"raw {_number(raw)}", "raw": "raw", "final": "as published"}[final]
            row[scope] = _rate(found, words)
            dots.append(_dot(scope, raw, None if final == "raw" else found))
        row["said"] = [("open", "no controls published")]
        return row | {"dots": dots, "spoken": f"{record.name}: {row['below']} %"}


def _said(table: pd.DataFrame, final: str) -> list[tuple[str, str]]:
    """Tone and text of a method against each control: the control's EER, the difference, its interval."""
    same = "same_gender" if final == "raw" else "refined_same_gender"
    floor, level, chance = (_number(spread(table, rate)) for rate in ("gender_only", same, "chance"))
    said = []
    for found, text in (
        (verdict(table, final, "gender_only"), f"gender alone {floor}"),
        (verdict(table, same, 0.5), f"same gender {level}, coin 50"),
        (verdict(table, final, "chance"), f"chance {chance}"),
    ):
        if found is not None:
            said.append((TONES[found.words], f"{MARKS[found.words]} {text}: {_interval(found)}"))
    return said or [("open", "no controls: genders or identities are unknown")]


def answer_of(table: pd.DataFrame) -> str:
    """The first sentence of the page: which methods are better than the controls, overall, on the main lists."""
    main = table[table["lists"] == "main"]
    better: dict[str, list[str]] = {"gender_only": [], "chance": []}
    names = list(main["method"].unique())
    for name in names:
        mine = main[main["method"] == name]
        final = "raw" if spread(mine, "refined") is None else "refined"
        for control, winners in better.items():
            found = verdict(mine, final, control)
            if found is not None and found.words == BETTER:
                winners.append(f"{name} ({_number(spread(mine, final))})")
    if main["unit"].nunique() < 2:
        return "One value per method: no spread, so nothing here is told from the controls; run more folds or seeds."
    some = f": {'; '.join(better['gender_only'])}" if better["gender_only"] else ""
    count, chance = len(better["gender_only"]), len(better["chance"])
    paper = [f"{r.name}, {100 * r.overall['refined']:.1f}" for r in records_of(table) if "refined" in r.overall]
    beside = f" The paper, on the official test: {'; '.join(paper)}." if paper else ""
    both = (
        f"{count} of {len(names)} better than knowing gender alone{some}; {chance} of {len(names)} better than chance."
    )
    return both + beside


def _interval(found: Verdict) -> str:
    if found.low is None or found.high is None:
        return f"{100 * found.mean:+.1f}"
    return f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def _number(found: Spread | None) -> str:
    return "-" if found is None else f"{100 * found.mean:.1f}"


def _rate(found: Spread | None, before: str) -> Row:
    if found is None:
        return {"final": None, "sd": None, "before": ""}
    return {"final": _number(found), "sd": None if found.sd is None else f"{100 * found.sd:.1f}", "before": before}


def _alone(value: float | None) -> Spread | None:
    return None if value is None else Spread(value, None, 1)


def _place(rate: float) -> float:
    return round(min(100 * rate, WIDEST) * 100 / WIDEST, 2)


def _dot(scope: str, raw: Spread | None, found: Spread | None) -> Row:
    shown = found or raw
    band = None if shown is None or shown.sd is None else (shown.mean - shown.sd, shown.mean + shown.sd)
    return {
        "tone": scope,
        "y": HEIGHTS[scope],
        "raw": None if raw is None else _place(raw.mean),
        "x": None if found is None else _place(found.mean),
        "low": None if band is None else _place(max(band[0], 0)),
        "high": None if band is None else _place(band[1]),
    }
