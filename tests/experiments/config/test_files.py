"""Configs are found by name from any folder, and group files beside the config that names them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from datamodules.schema import DataError
from experiments.config.files import (
    GROUPS,
    find_config,
    packaged,
    read_config,
)
from experiments.config.overrides import expand_arguments
from experiments.config.renamed import FILES
from experiments.config.variables import variables_read, variables_set


def test_packaged_config_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config("v1_eng_features.yaml") == packaged() / "v1_eng_features.yaml"


def test_a_file_of_ones_own_wins_over_the_packaged_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo.yaml").write_text("seed_everything: 1\n")
    assert find_config("demo.yaml") == tmp_path / "demo.yaml"


def test_unknown_config_names_the_nearest() -> None:
    with pytest.raises(DataError, match=r"v1_enk\.yaml: no such file.*did you mean v1_eng\.yaml\?"):
        find_config("v1_enk.yaml")


def test_groups_are_looked_up_beside_the_config_then_packaged(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.yaml").write_text("class_path: lightning_modules.SCC\n")
    config = tmp_path / "run.yaml"
    config.write_text("model: mine/model.yaml\ntrainer: trainer/features.yaml\n")
    content = read_config(config)
    assert content["model"] == str(tmp_path / "mine" / "model.yaml")
    assert content["trainer"] == str(packaged() / "trainer" / "features.yaml")


@pytest.mark.parametrize(
    ("text", "said"), [("- a\n", "expected keys and values"), ("a: [\n", "config"), ("\xff", "decode")]
)
def test_a_broken_config_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=said) as error:
        read_config(path)
    assert "broken.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_arguments_carry_configs_by_content_and_groups_by_path(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("seed_everything: 3\n")
    arguments, configs = expand_arguments(["--config", str(config), "--model", "model/cca.yaml", "--vars.fold=2"])
    assert configs == [config]
    assert yaml.safe_load(arguments[0].removeprefix("--config=")) == {"seed_everything": 3}
    assert arguments[1] == f"--model={packaged() / 'model' / 'cca.yaml'}"
    assert arguments[2] == "--vars.fold=2"


def test_a_group_on_the_command_line_replaces_the_configs(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("model: model/scc_heads.yaml\nseed_everything: 1\n")
    arguments, _ = expand_arguments(["--config", str(config), "--model=model/cca.yaml"])
    assert yaml.safe_load(arguments[0].removeprefix("--config=")) == {"seed_everything": 1}


@pytest.mark.parametrize("path", sorted(packaged().glob("*.yaml")), ids=lambda p: p.stem)
def test_every_packaged_config_starts_with_its_command_and_finds_its_groups(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert f"{first} ".startswith(f"# python -m experiments.run fit --config {path.name} ")
    content = read_config(path)
    assert {"data", "model", "trainer", "postproc"} <= set(content)
    for group in set(GROUPS) & set(content):
        inline = isinstance(content[group], dict)
        assert inline or isinstance(yaml.safe_load(Path(str(content[group])).read_text(encoding="utf-8")), dict)


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_a_name_that_people_type_is_filled_in(version: str) -> None:
    """One data file serves every version and language: the names at top level say which."""
    for path in packaged().glob(f"{version}_*.yaml"):
        if "_joint" in path.stem:
            continue  # their sets have languages of their own
        content = read_config(path)
        merged = OmegaConf.create({"vars": content["vars"], "data": yaml.safe_load(Path(content["data"]).read_text())})
        text = yaml.safe_dump(OmegaConf.to_container(merged.data, resolve=True))
        english = path.stem.split("_")[1] == "eng"
        assert ("English" if english else content["vars"]["language"]) in text
        assert content["vars"].get("version", version) == version
        assert "${" not in text


@pytest.mark.parametrize("old", sorted(FILES))
def test_old_names_of_data_files_give_the_new_file_and_its_values(
    old: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new, values = FILES[old]
    config = tmp_path / "run.yaml"
    config.write_text("vars: {fold: 1, language: Klingon}\n")
    arguments, _ = expand_arguments(["--config", str(config), "--data", old])
    assert yaml.safe_load(arguments[0].removeprefix("--config="))["vars"] == {"fold": 1} | values
    assert arguments[1] == f"--data={packaged() / new}"
    config.write_text(f"data: {old}\n")
    assert read_config(config) == {"data": str(packaged() / new), "vars": values}
    assert f"{old} is called {new} with vars.version" in capsys.readouterr().err


def test_values_of_this_machine_come_after_the_configs_and_before_the_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "local.yaml").write_text("trainer: {accelerator: cpu}\nvars: {fold: 4}\n")
    arguments, configs = expand_arguments(["--config=demo.yaml", "--config", "debug/overfit.yaml", "--vars.fold=2"])
    assert [path.name for path in configs] == ["demo.yaml", "overfit.yaml", "local.yaml"]
    assert yaml.safe_load(arguments[2].removeprefix("--config="))["trainer"] == {"accelerator": "cpu"}
    assert arguments[3] == "--vars.fold=2"
    assert expand_arguments(["--help"]) == (["--help"], [])


def test_a_list_on_the_command_line_replaces_that_of_the_config_as_a_whole(tmp_path: Path) -> None:
    data = {"class_path": "X", "init_args": {"voices": [{"path": "a.npz", "language": "English"}], "test": {"a": 1}}}
    (tmp_path / "group.yaml").write_text(yaml.safe_dump(data))
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({"data": str(tmp_path / "group.yaml")}))
    (tmp_path / "more.yaml").write_text(yaml.safe_dump({"data": {"init_args": {"voices": [{"path": "c.npz"}]}}}))
    for first in (["--config", str(tmp_path / "run.yaml")], ["--data", str(tmp_path / "group.yaml")]):
        for key in ("data.init_args.voices", "data.voices"):
            for override in ([f"--{key}=[{{path: b.npz}}]"], [f"--{key}", "[{path: b.npz}]"]):
                arguments, _ = expand_arguments([*first, *override])
                content = yaml.safe_load(arguments[0].partition("=")[2])
                assert content.get("data", content)["init_args"] == {"voices": [{"path": "b.npz"}], "test": {"a": 1}}
    arguments, _ = expand_arguments(["--config", str(tmp_path / "run.yaml"), "--config", str(tmp_path / "more.yaml")])
    assert yaml.safe_load(arguments[0].partition("=")[2])["data"]["init_args"]["voices"] == [{"path": "c.npz"}]


def test_variables_that_are_set_and_those_that_are_read(tmp_path: Path) -> None:
    assert variables_set(["--vars.a=1", "--vars.b", "2", "--vars={c: 3}", "--vars", "{d: 4}", "--x.vars.e=1"]) == list(
        "abcd"
    )
    (tmp_path / "data.yaml").write_text("init_args: {root: '${vars.folder}/x'}\n")
    (tmp_path / "run.yaml").write_text(
        f"data: {tmp_path}/data.yaml\nseed_everything: ${{vars.seed}}\nvars: {{seed: 1, old: 2}}\n"
    )
    arguments, _ = expand_arguments(["--config", str(tmp_path / "run.yaml"), "--vars.old=3"])
    assert variables_read(arguments) == {"folder", "seed"}
