"""What a typo in a config says: one line that names the key and the nearest valid name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.faults.worlds import feature_world, refusal


def change(content: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for name in path:
        content = content[name]
    content[last] = value


INIT = "data.init_args"
CHANGES: dict[str, tuple[str, Any, str]] = {
    "a key of no group": ("traner", {"max_epochs": 2}, r"traner.*: no such key; did you mean trainer\?"),
    "a trainer key": ("trainer.max_epoch", 2, r"trainer\.max_epoch: no such key; did you mean trainer\.max_epochs\?"),
    "an option of data": (f"{INIT}.bach_size", 4, r"data.* has no option 'bach_size'; did you mean batch_size\?"),
    "an option of the model": ("model.init_args.tauu", 4, r"model.* has no option 'tauu'; did you mean tau\?"),
    "a wrong type": (f"{INIT}.batch_size", "many", r"data.*batch_size: expected int, got '?many"),
    "a list for a number": ("trainer.max_epochs", [1, 2], r"trainer\.max_epochs: expected int, got \[1, 2\]"),
    "a number for a list": (f"{INIT}.train_languages", 3, r"train_languages: expected"),
    "an unknown class": ("data.class_path", "datamodules.FeaturDataModule", r"did you mean datamodules\.FeatureDataM"),
    "an unknown module": ("data.class_path", "datamoduls.FeatureDataModule", r"did you mean datamodules\.FeatureDataM"),
    "a class of one's own elsewhere": ("data.class_path", "data_own.Mine", r"no module 'data_own'.*set PYTHONPATH"),
    "a class of another kind": ("data.class_path", "lightning_modules.SCC", r"data.*SCC"),
    "a group file": ("model", "model/scc_head.yaml", r"model/scc_head\.yaml: no such file.*mean model/scc_heads\.yaml"),
    "an interpolation": (f"{INIT}.batch_size", "${vars.none}", r"batch_size: Interpolation key 'vars\.none' not found"),
    "a list file": (f"{INIT}.test", {"heard": "Englis.csv"}, r"Englis\.csv: no such file; did you mean English\.csv\?"),
    "a file": (f"{INIT}.voices", ["voice.npy"], r"voice\.npy: no such file; did you mean voices\.npy\?"),
    "a column of a file": (
        f"{INIT}.voices", [{"path": "voices.npy", "index": "manifest.csv", "columns": {"identity": "identiti"}}],
        r"no column identiti for identity; did you mean identity\?",
    ),
    "an option of a file": (f"{INIT}.voices", [{"path": "voices.npy", "indx": "manifest.csv"}], r"indx"),
    "a value of a choice": (f"{INIT}.sampling", "identitty", r"sampling.*identity"),
    "a folder": (f"{INIT}.root", "/nowhere/at/all", r"the folder /nowhere does not exist; check the path"),
}  # fmt: skip


@pytest.mark.parametrize("fault", CHANGES)
def test_a_typo_in_the_file_is_one_line(fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key, value, said = CHANGES[fault]
    path = feature_world(tmp_path / "world")
    content = yaml.safe_load(path.read_text())
    change(content, key, value)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    line = refusal(["fit", "--config", str(path), f"--run_dir={tmp_path / 'run'}"], capsys)
    assert re.search(said, line), line
    assert len(line) < 1000


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "expected keys and values, found NoneType"),
        (b"- 1\n- 2\n", "expected keys and values, found list"),
        (b"a: [1, 2\nb: 3\n", "expected"),
        (b"a: \xff\n", "can't decode|not UTF-8"),
        (b"a: !!python/object/apply:os.system ['true']\n", "could not determine a constructor"),
        (b"a: 2001-99-99\n", "month must be in"),
        (b"a: " + b"[" * 5000, "nest|recursion|expected"),
        (b"trainer: 3\n", "the following arguments are required: data, model; name a config"),
        (b"data: {class_path: 3}\n", "data|class"),
    ],
)
def test_a_file_that_is_no_config_is_named(
    content: bytes, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    line = refusal(["fit", "--config", str(path), f"--run_dir={tmp_path / 'run'}"], capsys)
    assert re.search(said, line), line


def test_missing_configs_and_values_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean demo.yaml?" in refusal(["fit", "--config", "dem.yaml"], capsys)
    assert "no such file" in refusal(["fit", "--config", str(tmp_path)], capsys)
    assert "config" in refusal(["fit", "--config"], capsys)
    assert "config" in refusal(["fit", "--config", "x" * 5000], capsys)
    assert "config" in refusal(["fit", "--config", "a\0b"], capsys)
