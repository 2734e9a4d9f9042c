"""Old names in files and arguments work, with one line that says the new one."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from datamodules.schema import DataError
from experiments.config import renamed
from experiments.config.files import read_config
from experiments.config.overrides import expand_arguments
from experiments.config.renamed import Renamer

OLD_DATA = {"class_path": "datamodules.SyntheticDataModule", "init_args": {"batch": 8, "sampling": "each"}}
NEW_DATA = {"class_path": "datamodules.SyntheticDataModule", "init_args": {"batch_size": 8, "sampling": "identity"}}
SAID = (
    "warning: {}: data.batch is called data.batch_size; the old name still works\n"
    "warning: {}: data.sampling each is called identity; the old name still works\n"
)


@pytest.fixture(autouse=True)
def _rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renamed, "CLASSES", {"postproc.Blocks": "postproc.BlockAverage"})
    monkeypatch.setattr(renamed, "OPTIONS", {"datamodules.VoiceFaceDataModule": {"batch": "batch_size"}})
    monkeypatch.setattr(renamed, "VALUES", {"datamodules.VoiceFaceDataModule": {"sampling": {"each": "identity"}}})
    monkeypatch.setattr(renamed, "VARS", {"persons": "people"})
    monkeypatch.setattr(renamed, "_said", set())


def test_a_config_and_its_group_file_are_read_under_the_new_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    group, config = tmp_path / "data.yaml", tmp_path / "run.yaml"
    group.write_text(yaml.safe_dump(OLD_DATA))
    config.write_text("data: data.yaml\npostproc: {steps: [{class_path: postproc.Blocks}]}\n")
    content = read_config(config)
    assert content == {"data": NEW_DATA, "postproc": {"steps": [{"class_path": "postproc.BlockAverage"}]}}
    said = capsys.readouterr().err
    assert said.startswith(f"warning: {config}: postproc.Blocks is called postproc.BlockAverage;")
    assert said.endswith(SAID.format(group, group))
    read_config(config)
    assert capsys.readouterr().err == ""  # once per name


def test_a_config_without_old_names_is_left_as_it_is() -> None:
    assert Renamer().config(NEW_DATA, "a.yaml", "data") is NEW_DATA


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--data.init_args.batch=8"], ["--data.init_args.batch_size=8"]),
        (["--data.batch", "8"], ["--data.batch_size=8"]),
        (["--data.batch_size", "8"], ["--data.batch_size", "8"]),
        (["--data.sampling", "each"], ["--data.sampling=identity"]),
        (["--data.sampling=shuffle"], ["--data.sampling=shuffle"]),
        (["--vars.persons=3"], ["--vars.people=3"]),
        (["--model.network=lightning_modules.networks.shared_heads.SharedHeads"],
         ["--model.network=lightning_modules.SharedHeads"]),
        (["--postproc.steps+=postproc.Blocks", "--postproc.steps.n=3"],
         ["--postproc.steps+=postproc.BlockAverage", "--postproc.steps.n=3"]),
        (["--postproc.steps=[{class_path: postproc.Blocks}]"],
         ["--postproc.steps=[{class_path: postproc.BlockAverage}]"]),
        (["--no-test", "--run_dir", "x", "--a.b", "--c=1"], ["--no-test", "--run_dir", "x", "--a.b", "--c=1"]),
    ],
)  # fmt: skip
def test_arguments_are_renamed_by_the_class_that_the_config_names(
    arguments: list[str], expected: list[str], tmp_path: Path
) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump({"data": NEW_DATA, "vars": {"people": 4}}))
    assert expand_arguments(["--config", str(config), *arguments])[0][1:] == expected


def test_a_group_file_on_the_command_line_is_read_under_the_new_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    group = tmp_path / "data.yaml"
    group.write_text(yaml.safe_dump(OLD_DATA))
    arguments, _ = expand_arguments([f"--data={group}", "--data.batch=4"])
    assert yaml.safe_load(arguments[0].removeprefix("--data=")) == NEW_DATA
    assert arguments[1] == "--data.batch_size=4"
    assert capsys.readouterr().err == SAID.format(group, group)


@pytest.mark.parametrize(
    ("path", "public"),
    [
        ("lightning_modules.networks.shared_heads.SharedHeads", "lightning_modules.SharedHeads"),
        ("postproc.gone.Blocks", "postproc.BlockAverage"),
        ("postproc.steps.blocks.BlockAverage", "postproc.steps.blocks.BlockAverage"),  # is there
        ("postproc.gone.NoSuchStep", "postproc.gone.NoSuchStep"),  # the parser will name the nearest
        ("datamodules.FeaturDataModule", "datamodules.FeaturDataModule"),
    ],
)
def test_a_class_whose_module_moved_is_found_by_its_public_name(path: str, public: str) -> None:
    assert Renamer().config({"class_path": path}, "a.yaml", "it") == {"class_path": public}


def test_an_option_that_is_gone_is_refused_where_it_would_change_something() -> None:
    def read(**options: object) -> object:
        return Renamer().config({"class_path": "postproc.Transport", "init_args": options}, "a.yaml", "step")

    same = read(similarity="cosine", masses="uniform", unbalanced=None, temperature=0.1)
    assert same == {"class_path": "postproc.Transport", "init_args": {"temperature": 0.1}}
    with pytest.raises(DataError, match=r"a\.yaml: step\.masses: 'sizes': this option was removed; every cluster has"):
        read(masses="sizes")
    renamer = Renamer()
    renamer.config({"class_path": "postproc.Transport", "init_args": {}}, "a.yaml", "step")
    with pytest.raises(
        DataError, match=r"command line: step\.unbalanced: this option was removed; all mass is matched"
    ):
        renamer.argument("--step.unbalanced=0.1")


def test_rows_lead_from_names_that_are_gone_to_names_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for old, new in renamed.CLASSES.items():
        package, name = new.split(".")
        assert name in import_module(package).__all__
        assert old.split(".")[1] not in import_module(package).__all__
    for path, gone in renamed.LEFT_OUT.items():
        module, _, name = path.rpartition(".")
        assert not gone.keys() & inspect.signature(getattr(import_module(module), name)).parameters.keys()
    rows = {(path, old, new) for path, options in renamed.OPTIONS.items() for old, new in options.items()}
    rows |= {(path, None, name) for path, options in renamed.VALUES.items() for name in options}
    for path, old, new in rows:
        module, _, name = path.rpartition(".")
        options = inspect.signature(getattr(import_module(module), name)).parameters
        assert new in options
        assert old not in options
