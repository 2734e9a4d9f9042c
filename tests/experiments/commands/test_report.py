"""The report: its numbers against the protocol's, its tables in other formats, its errors."""

from __future__ import annotations

import io
import itertools
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from datamodules.schema import DataError
from experiments.protocol.numbers import Outcome, summarise_protocol
from experiments.report.grouping import by_test_set
from experiments.report.numbers import BETTER, OPEN, long_table, published, scope_of, spread, verdict
from experiments.report.runs import find_runs, read_runs
from experiments.report.tables import Table, refinement_table, text_of, to_csv, to_latex, to_markdown
from experiments.run import main
from experiments.runs.rates import RATES
from postproc.metrics.clusters import purity
from tests.experiments.saved import save_tested


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods on three folds and both train languages, and a run that has not finished."""
    root = tmp_path_factory.mktemp("report")
    for method, network in (("one", "HeadPair"), ("other", "LinearPair")):
        for train in ("English", "Urdu"):
            for fold in range(3):
                save_tested(root / method / train / f"fold{fold}-seed0", train, network, fold)
    (root / "one" / "late").mkdir()
    (root / "one" / "late" / "command.json").write_text("[]")
    return root


def test_numbers_are_those_of_the_protocol(folder: Path) -> None:
    (test,) = by_test_set(list(read_runs(find_runs([folder])[0])))
    runs = test.runs
    assert {run.method for run in runs} == {"one", "other"}
    table = long_table(runs)
    outcomes = [Outcome(run.method, run.train, run.fold or 0, run.seed or 0, run.results) for run in runs]
    for record in summarise_protocol(outcomes):
        mine = table[(table["method"] == record["method"]) & (table["lists"] == record["lists"])]
        for rate in ("raw", "refined", "same_gender", "gender_only", "chance"):
            found = spread(mine, rate)
            assert found is not None
            assert (found.mean, found.sd) == pytest.approx((record[rate]["mean"], record[rate]["sd"]))
        heard = spread(scope_of(mine, "heard"), "refined")
        assert heard is not None
        assert heard.mean == pytest.approx(record["heard"]["refined"])
        change = verdict(mine, "refined", "raw")
        assert change is not None
        assert (change.mean, change.low, change.high) == pytest.approx(tuple(record["change"].values()))


@pytest.mark.processes
def test_strategies_and_fusions_have_the_numbers_of_the_protocol(folder: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(folder, tmp_path / "out"))
    outcomes = []
    for train, fold in itertools.product(("English", "Urdu"), range(3)):
        for method in ("one", "fusion"):  # "other" is not refined
            run = f"{train}/fold{fold}-seed0"
            results = json.loads((root / "one" / run / "results.json").read_text())
            for record in results.values():
                if "eer_refined" in record:
                    record["eer_refined"] *= 0.5 + 0.1 * fold
                    record["eer"] += 0.01 * fold if method == "fusion" else 0
            made = root / method / run / "refined" / "half"
            made.mkdir(parents=True)
            (made / "results.json").write_text(json.dumps(results))
            outcomes.append(Outcome(method, train, fold, 0, results, "half"))
    assert main(["report", str(root), "--out", str(tmp_path / "r.csv")]) == 0
    table = pd.read_csv(tmp_path / "r.csv")
    names = {"one": "one", "fusion": "fusion"}
    records = {names[record["method"]]: record for record in summarise_protocol(outcomes)}
    fits = table[table["strategy"] == "own"]
    rows = {(row[0], row[2]): row for row in refinement_table(fits, table).rows}
    assert set(rows) == {(names["one"], "raw"), (names["one"], "own"), (names["one"], "half")} | {
        ("fusion", "raw"), ("fusion", "half")
    }  # fmt: skip
    for name, record in records.items():
        raw, half = rows[name, "raw"], rows[name, "half"]
        for row, stage, same in ((raw, "raw", "same_gender"), (half, "refined", "refined_same_gender")):
            assert [rate.mean for rate in row[3:5]] == pytest.approx([record[c][stage] for c in ("heard", "unheard")])
            assert (row[5].mean, row[5].sd) == pytest.approx((record[stage]["mean"], record[stage]["sd"]))
            assert (row[6].mean, row[6].sd) == pytest.approx((record[same]["mean"], record[same]["sd"]))
        assert raw[7] is None
        assert (half[7].mean, half[7].low, half[7].high) == pytest.approx(tuple(record["change"].values()))
        assert half[9] == 6
    assert set(table.loc[table["method"] == "fusion", "train"]) == {"English", "Urdu"}
    for ending in ("html", "md", "tex"):
        assert main(["report", str(root), "--out", str(tmp_path / f"r.{ending}")]) == 0
        text = (tmp_path / f"r.{ending}").read_text()
        assert "Refinements" in text
        assert f"{100 * records['fusion']['refined']['mean']:.1f}" in text


def test_nothing_refined_afterwards_leaves_no_table(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    assert main(["report", str(folder), "--out", str(out)]) == 0
    assert "Refinements" not in out.read_text()


def test_a_verdict_needs_an_interval_that_leaves_out_zero() -> None:
    rows = {"unit": [0, 1, 2], "raw": [0.2, 0.21, 0.19], "gender_only": [0.3, 0.3, 0.3], "chance": [0.1, 0.2, 0.3]}
    table = pd.DataFrame(rows)
    better, open_ = verdict(table, "raw", "gender_only"), verdict(table, "raw", "chance")
    assert better is not None
    assert open_ is not None
    assert (better.words, open_.words) == (BETTER, OPEN)
    for one_value in (table[:1], table.assign(raw=0.2)):  # seeds of a method that draws nothing
        alone = verdict(one_value, "raw", "gender_only")
        assert alone is not None
        assert alone.low is None
        assert alone.words not in (BETTER, OPEN)


def test_published_figures_are_consistent() -> None:
    versions, records = published()
    assert {record.version for record in records} == set(versions)
    for record in records:
        for stage, cells in record.cells.items():
            assert float(np.mean(cells)) == pytest.approx(record.overall[stage], abs=6e-4), record


def test_markdown_holds_every_method_and_the_controls(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.md"
    assert main(["report", str(folder), "--out", str(out)]) == 0
    text = out.read_text()
    assert re.search(r"^\| one +\|", text, re.MULTILINE)
    assert "Published" not in text  # other identities and trials than here
    assert re.search(r"gender only \| +chance", text)
    assert "Refined scores are transductive" in text
    widths = {line.count("|") for line in text.split("\n## ")[2].splitlines() if line.startswith("|")}
    assert len(widths) == 1


def test_csv_is_long_with_fractions(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.csv"
    assert main(["report", str(folder), "--out", str(out)]) == 0
    table = pd.read_csv(io.StringIO(out.read_text()))
    assert len(table) == 12 * 2
    run = table.iloc[0]
    assert json.loads((Path(run["folder"]) / "results.json").read_text())["heard"]["eer"] == pytest.approx(run["raw"])


def test_latex_escapes_and_balances(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.tex"
    assert main(["report", str(folder), "--format", "latex", "--out", str(out)]) == 0
    mark, text = out.read_text().split("\n", 1)
    assert mark == "% voiceface report"
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 3
    assert "→" not in text
    comments = [line for line in text.splitlines() if line.startswith("% ")]
    assert len(comments) == 1
    assert "Refined scores are transductive" in comments[0]
    assert not re.search(r"(?<!\\)%", text.replace(comments[0], ""))


def test_text_of_runs_is_escaped_in_every_format() -> None:
    name = "=a|b_c & \\d * $x$ → y"
    table = Table("t", "T", ["method", "rate"], [[name, 0.125]])
    head, *_, row = to_markdown({"a_b": [table]}, {"a_b": "*"}).splitlines()
    assert head == r"# a\_b"
    assert row.split() == ["|", r"=a\|b\_c", r"\&", r"\\d", r"\*", "$x$", "→", "y", "|", "12.5", "|"]
    latex = to_latex({"a_b & c": [table]}, {"a_b & c": ""})
    assert r"\caption{T, a\_b \& c. EER" in latex
    assert r"=a|b\_c \& \textbackslash d * \$x\$ $\to$ y & 12.5 \\" in latex
    columns = [
        "run",
        "folder",
        "method",
        "strategy",
        "train",
        "test",
        "lists",
        "condition",
        "unit",
        "seed",
        "test_set",
        "trials",
    ]
    row = dict.fromkeys(columns, 0) | dict.fromkeys(RATES, -0.5) | {"method": "=1+1", "folder": "a-b"}
    line = to_csv(pd.DataFrame([row])).splitlines()[1]
    assert line.startswith("0,a-b,'=1+1,0,")
    assert line.endswith(",-0.5")  # numbers stay numbers


def test_nothing_to_report_says_what_a_run_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"no run folders; a run folder has config.yaml and results.json"):
        find_runs([tmp_path])


def test_a_broken_file_of_a_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = save_tested(tmp_path / "run", "English", "HeadPair", 0)
    (run / "results.json").write_text("{")
    assert main(["report", str(run), "--out", str(tmp_path / "r.html")]) == 2
    error = capsys.readouterr().err
    assert re.search(r"error: .*results\.json: unreadable", error)
    assert not (tmp_path / "r.html").exists()


def test_purity_is_the_share_of_the_majority() -> None:
    assert purity(np.array([0, 0, 0, 1]), np.array(["a", "a", "b", "b"])) == pytest.approx(0.75)


def test_nothing_prints_as_a_dash() -> None:
    assert [text_of(cell) for cell in (None, 0.123, 7, "x")] == ["-", "12.3", "7", "x"]
