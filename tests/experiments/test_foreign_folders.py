"""Run folders and exports of somebody else: nothing of them runs, and damage is one line."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

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
from experiments.run import main
from experiments.runs.results import print_results
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


@pytest.mark.parametrize("name", ["lightning_modules.SCC", "lightning_modules.fop.FOP", "postproc.ChainingCluster"])
def test_classes_of_this_project_pass(name: str) -> None:
    check({"class_path": name, "init_args": {"n": 1, "mode": "auto", "norm": None, "file": "heard.csv"}}, "config.yaml")


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


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(int(os.environ.get("FOREIGN_SEEDS", "60"))))
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
