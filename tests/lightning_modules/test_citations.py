"""Papers cited as [NAME] in code and configs are in the bibliography of lightning_modules, and no others are in it."""

from __future__ import annotations

import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from tests import REPOSITORY

PACKAGES = ("lightning_modules", "datamodules", "postproc", "experiments", "configs")
CITATION = re.compile(r"(?<![\w\]])\[([A-Z][A-Za-z]*[A-Z][A-Za-z-]*|[A-Z][a-z]+-[A-Z][A-Za-z]+)\]")


def prose() -> Iterator[tuple[Path, str]]:
    """Comments and texts of Python files, comments of YAML files."""
    for package in PACKAGES:
        for path in (REPOSITORY / package).rglob("*.py"):
            with tokenize.open(path) as file:
                for token in tokenize.generate_tokens(file.readline):
                    if token.type in (tokenize.COMMENT, tokenize.STRING):
                        yield path, token.string
        for path in (REPOSITORY / package).rglob("*.yaml"):
            for line in path.read_text(encoding="utf-8").splitlines():
                yield path, line.partition("#")[2]


def test_every_citation_is_resolved() -> None:
    text = (REPOSITORY / "lightning_modules" / "README.md").read_text(encoding="utf-8")
    known = set(CITATION.findall(text.partition("## Bibliography")[2]))
    cited = {name: path for path, words in prose() for name in CITATION.findall(words)}
    assert {name: str(path) for name, path in cited.items() if name not in known} == {}
    assert known - set(cited) == set()
