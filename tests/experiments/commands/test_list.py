"""``list``: every config and every class that a config may name, with a line that says what it is."""

from __future__ import annotations

import re
from importlib import import_module

import pytest

from experiments.commands.list import CONFIGS, sections
from experiments.config.files import packaged
from experiments.run import main
from lightning_modules import AssociationModule, FrozenEncoder


def test_all_configs_are_listed_with_a_line() -> None:
    listed = dict(sections())
    assert {path.parent.name for path in packaged().glob("*/*.yaml")} == {*CONFIGS} - {""} | {"slurm"}
    for folder, title in CONFIGS.items():
        assert {name for name, _ in listed[title]} == {path.name for path in (packaged() / folder).glob("*.yaml")}
    for title, entries in listed.items():
        assert entries, title
        for name, line in entries:
            assert 5 < len(line) < 200, (name, line)
            assert "python -m" not in line
            assert "``" not in line


@pytest.mark.parametrize(
    ("title", "base"), [("methods", AssociationModule), ("frozen encoders", FrozenEncoder)], ids=["methods", "encoders"]
)
def test_listed_classes_are_those_of_the_package(title: str, base: type) -> None:
    entries = next(entries for name, entries in sections() if name.startswith(title))
    package = import_module("lightning_modules")
    public = {name: getattr(package, name) for name in dir(package) if not name.startswith("_")}
    subclasses = {name for name, value in public.items() if isinstance(value, type) and issubclass(value, base)}
    assert {name.removeprefix("lightning_modules.") for name, _ in entries} == subclasses - {base.__name__}


def test_a_word_narrows_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "optimal transport"]) == 0
    said = capsys.readouterr().out
    assert re.findall(r"^  (\S+)", said, re.MULTILINE) == ["transport.yaml"]
    assert main(["list", "nothing like it"]) == 1
