"""Configs are found by name from any folder, and group files beside the config that names them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from datamodules.schema import DataError
from experiments.config.files import GROUPS, expand_arguments, find_config, packaged, read_config


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
