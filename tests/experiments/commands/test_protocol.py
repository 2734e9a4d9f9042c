"""A protocol on the demo world: what it does once, what it does again, and that its rows are those of ``refine``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.commands.sweep import run_fit
from experiments.protocol.derived import Derived
from experiments.protocol.file import Protocol
from experiments.protocol.numbers import Outcome, per_identity
from experiments.protocol.run import run_protocol
from experiments.run import main
from experiments.runs.fits import Fit
from experiments.runs.people import read_people
from postproc.metrics import eer
from tests import TINY

pytestmark = pytest.mark.processes

BLOCKS = "steps: [{class_path: postproc.BlockAverage, init_args: {clustering: {ks: [3, 4], repeats: 1}}}]\n"
GENDER = "steps: [{class_path: postproc.GenderProbe, init_args: {weight: 0.5}}]\n"
METHODS = {
    "scc": {"arguments": ["--trainer.max_epochs=1"]},
    "cca": {"arguments": ["--model=model/cca.yaml"], "seeds": [0]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods and their fusion, one config, one fold, two seeds, two strategies; already run."""
    root = tmp_path_factory.mktemp("protocol")
    (root / "blocks.yaml").write_text(BLOCKS)
    (root / "gender.yaml").write_text(GENDER)
    (root / "tiny.yaml").write_text(TINY.read_text().replace("identities: 16", "identities: 16, fold: 0"))
    content = {
        "configs": [str(root / "tiny.yaml")],
        "folds": [0],
        "seeds": [0, 1],
        "methods": METHODS,
        "refinements": {"blocks": "blocks.yaml", "gender": "gender.yaml"},
        "fusions": {"both": ["scc", "cca"]},
    }
    (root / "protocol.yaml").write_text(json.dumps(content))
    assert main(command(root)) == 0
    return root


def command(root: Path) -> list[str]:
    return ["protocol", f"--config={root / 'protocol.yaml'}", f"--out={root / 'out'}", "--jobs=1"]


def again(root: Path) -> list[Outcome]:
    return run_protocol(Protocol.read(root / "protocol.yaml"), run_fit, root / "out", jobs=1)


def run_of(root: Path, method: str, seed: int) -> Path:
    return root / "out" / method / "tiny" / f"fold0-seed{seed}"


def test_rows_equal_what_refine_gives_on_that_run(folder: Path, tmp_path: Path) -> None:
    run = run_of(folder, "scc", 1)
    for strategy in ("blocks", "gender"):
        arguments = ["refine", str(run), f"--postproc={folder / f'{strategy}.yaml'}", f"--out={tmp_path / strategy}"]
        assert main(arguments) == 0
        ours, refines = (
            json.loads((f / "results.json").read_text()) for f in (run / "refined" / strategy, tmp_path / strategy)
        )
        assert ours == refines
        (row,) = (o for o in again(folder) if (o.method, o.strategy, o.seed) == ("scc", strategy, 1))
        assert row.results == refines
        assert refines["overall"]["eer_refined"] != refines["overall"]["eer"]
    assert (
        json.loads((run / "results.json").read_text())["overall"]["eer_refined"] is None
    )  # the fit itself refines nothing


def test_nothing_is_done_twice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {
        path: path.stat().st_mtime_ns
        for path in (folder / "out").rglob("*")
        if path.suffix != ".json" or "fold" in str(path)
    }
    for job in (Fit, Derived):
        monkeypatch.setattr(job, "run", lambda self: pytest.fail(f"{self.folder} is made again"))
    assert main(command(folder)) == 0
    after = {path: path.stat().st_mtime_ns for path in before}
    changed = {path.name for path in before if path.is_file() and after[path] != before[path]}
    assert changed <= {"protocol.csv", "per_identity.csv", ".lock"}


def test_a_changed_strategy_is_made_again_with_what_is_made_of_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def here(jobs: list[Callable[[], str | None]], parallel: int, what: str) -> None:
        derived = [each for job in jobs for each in job.args[0]]  # type: ignore[attr-defined]  # partial
        made.extend(each.folder.relative_to(folder / "out").as_posix() for each in derived)
        assert [job() for job in jobs] == [None] * len(jobs)

    monkeypatch.setattr("experiments.protocol.run.run_jobs", here)
    before = {(o.method, o.strategy, o.seed): o.results for o in again(folder)}
    assert made == []
    (folder / "blocks.yaml").write_text(BLOCKS.replace("[3, 4]", "[5, 6]"))
    after = {(o.method, o.strategy, o.seed): o.results for o in again(folder)}
    runs = [("scc", 0), ("scc", 1), ("cca", 0), ("both", 0), ("both", 1)]
    assert set(made) == {f"{method}/tiny/fold0-seed{seed}/refined/blocks" for method, seed in runs}
    for method, seed in runs:
        assert before[method, "blocks", seed] != after[method, "blocks", seed]
        assert before[method, "gender", seed] == after[method, "gender", seed]
    (folder / "blocks.yaml").write_text(BLOCKS)
    assert {(o.method, o.strategy, o.seed): o.results for o in again(folder)} == before


def test_a_fusion_is_the_mean_of_normalised_distances_of_a_key(folder: Path) -> None:
    for seed in (0, 1):
        fused = pd.read_parquet(run_of(folder, "both", seed) / "refined" / "blocks" / "scores.parquet")
        # cca has no seed 1: it gives the one it has
        parts = [run_of(folder, "scc", seed), run_of(folder, "cca", 0)]
        tables = [pd.read_parquet(part / "refined" / "blocks" / "scores.parquet") for part in parts]
        for cell, rows in fused.groupby("cell"):
            for column in ("distance", "refined"):
                z = []
                for table in tables:
                    part = table[table["cell"] == cell].sample(frac=1, random_state=0).set_index("key")[column]
                    z.append(((part - part.mean()) / part.std(ddof=0)).loc[rows["key"]].to_numpy())
                np.testing.assert_allclose(rows[column], (z[0] + z[1]) / 2, atol=1e-12)
        record = json.loads((run_of(folder, "both", seed) / "refined" / "blocks" / "results.json").read_text())
        part = fused[fused["cell"] == "heard"]
        assert (
            record["heard"]["eer_refined"] == eer(part["refined"], part["label"].astype(int), direction="distance").eer
        )


def test_numbers_of_a_person_are_those_of_a_plain_loop(folder: Path) -> None:
    outcomes = [o for o in again(folder) if (o.method, o.strategy) == ("scc", "blocks")]
    table = per_identity(outcomes)
    assert set(table["lists"]) == {"main"}
    expected: dict[str, list[list[float]]] = {}
    for seed in (0, 1):
        run = run_of(folder, "scc", seed)
        who = pd.read_csv(run / "embeddings" / "voices.csv").set_index("item")["identity"].astype(str)
        scores = pd.read_parquet(run / "refined" / "blocks" / "scores.parquet")
        for _, part in scores.groupby("cell"):
            for person in set(who[part["voice"]]):
                mine = part[who[part["voice"]].to_numpy() == person]
                labels = mine["label"].to_numpy(int)
                if 0 < labels.sum() < len(labels):
                    rates = [eer(mine[c].to_numpy(), labels, direction="distance").eer for c in ("distance", "refined")]
                    expected.setdefault(person, []).append(rates)
    assert set(table["identity"]) == set(expected)
    for row in table.itertuples():
        rates = np.array(expected[row.identity])
        assert row.cells == len(rates)
        np.testing.assert_allclose([row.raw, row.refined], rates.mean(axis=0), atol=1e-12)


def test_files_and_tables_say_the_same(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(command(folder)) == 0
    printed = capsys.readouterr().out
    records = json.loads((folder / "out" / "protocol.json").read_text())
    assert [(r["method"], r["strategy"]) for r in records] == [
        (method, strategy) for method in ("scc", "cca", "both") for strategy in ("blocks", "gender")
    ]
    rows = pd.read_csv(folder / "out" / "protocol.csv")
    for record, row in zip(records, rows.to_dict("records"), strict=True):
        assert row["refined"] == pytest.approx(record["refined"]["mean"])
        assert record["gender_only"] is not None
        assert record["chance"] is not None
        assert f"{100 * record['refined']['mean']:.1f}" in printed
        low, high = record["people"]["refined"]
        assert low <= record["refined"]["mean"] <= high or record["refined"]["mean"] == 0
        assert record["cells"]
    assert len(pd.read_csv(folder / "out" / "per_identity.csv"))


def test_replicates_of_the_same_people_are_paired(folder: Path) -> None:
    """Raw EERs had other people been drawn are the same numbers beside every strategy."""
    run = run_of(folder, "scc", 0)
    (_, blocks), (_, gender) = (read_people(run / "refined" / strategy) for strategy in ("blocks", "gender"))
    np.testing.assert_array_equal(blocks["heard", "raw"], gender["heard", "raw"])
    assert not np.array_equal(blocks["heard", "refined"], gender["heard", "refined"])


def test_what_is_no_argument_of_fits_is_an_error(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([*command(folder), "--job=3"]) == 2
    assert "--job=3: neither an option of protocol" in capsys.readouterr().err


def test_the_report_takes_no_refined_folder_for_a_run(folder: Path) -> None:
    from experiments.report.runs import find_runs

    tested, _ = find_runs([folder / "out"])
    assert {path.relative_to(folder / "out").parts for path in tested} == {
        ("scc", "tiny", "fold0-seed0"), ("scc", "tiny", "fold0-seed1"), ("cca", "tiny", "fold0-seed0")
    }  # fmt: skip
