"""Lists what there is: configs by group, and the classes that a config may name, with a line each.

WORD shows only what has it in its name or line.
"""

from __future__ import annotations

import ast
import re
import shutil
import textwrap
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from experiments.config.files import packaged
from experiments.console.arguments import CommandParser

CONFIGS = {
    "": "configs: fit --config NAME",
    "model": "models: --model model/NAME",
    "data": "data: --data data/NAME",
    "postproc": "refinements: --postproc postproc/NAME",
    "encoder": "encoders: embed --voice encoder/NAME, --face encoder/NAME",
    "trainer": "trainers: --trainer trainer/NAME",
    "logger": "trackers: --logger logger/NAME",
    "presets": "published training loops: --config presets/NAME",
    "debug": "presets that shorten a run: --config debug/NAME",
    "protocols": "protocols: protocol --config protocols/NAME",
    "sweeps": "sweeps: sweep --config sweeps/NAME",
}
CLASSES = {
    "methods, in model: class_path": ("lightning_modules", r"^(?!base)\w+$"),
    "frozen encoders, in encoder: class_path": ("lightning_modules", r"^encoders\.(?!pair|faces\.detectors)"),
    "face detectors, in encoder: init_args: detector": ("lightning_modules", r"^encoders\.faces\.detectors"),
    "networks, in model: network": ("lightning_modules", r"^networks\.(?!frontend)|^encoders\.pair"),
    "data modules, in data: class_path": ("datamodules", r"module$|^datasets\.synthetic"),
    "steps of a refinement, in postproc: steps": ("postproc", r"^steps\."),
}
LONGEST = 160  # characters of a line
_PARTS = r"(?m)^\s*@(abstractmethod|dataclass)|^class \w+Error\b"


def main(command: str, argv: list[str]) -> int:
    """``list`` with or without a word; status 1 if nothing has the word."""
    parser = CommandParser(command, __doc__)
    parser.add_argument("word", nargs="?", default="", metavar="WORD", help="shows only what has it")
    word = parser.parse_args(argv).word.lower()
    found = False
    for title, entries in sections():
        shown = [(name, line) for name, line in entries if word in f"{name} {line}".lower()]
        if shown:
            print(f"{title}\n{_lines(shown)}\n")
            found = True
    if not found:
        print(f"nothing has {word!r} in its name or line")
    return 0 if found else 1


def sections() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Title, and name and line of each entry, of every group of configs and kind of class."""
    for folder, title in CONFIGS.items():
        files = sorted((packaged() / folder).glob("*.yaml"))
        yield title, [(path.name, first_sentence(path)) for path in files]
    for title, (package, pattern) in CLASSES.items():
        classes = [(f"{package}.{name}", line) for module, name, line in public_classes(package)
                   if re.search(pattern, module)]  # fmt: skip
        yield title, classes


def first_sentence(path: Path) -> str:
    """The first sentence of a config's comment, after the line with its command."""
    comment = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        comment.append(line.lstrip("# "))
    if comment and comment[0].startswith("--"):  # "--trainer NAME: what it is"
        comment[0] = comment[0].partition(": ")[2]
    text = " ".join(line for line in comment if not line.startswith("python -m"))
    sentence = re.split(r"(?<=[.;])\s+(?=[A-Z-])|\s+python -m", text, maxsplit=1)[0].rstrip(".;:")
    return textwrap.shorten(sentence, LONGEST, placeholder=" ...")


def public_classes(package: str) -> Iterator[tuple[str, str, str]]:
    """Module, name and first line of the docstring of each public class of a package, read without an import.

    Abstract classes, groups of options and errors are left out: a config cannot name them by themselves.
    """
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent
    for node in ast.parse((folder / "__init__.pyi").read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.ImportFrom) or not node.module:
            continue
        path = folder / f"{node.module.replace('.', '/')}.py"
        if not path.is_file():
            continue
        exported = {alias.name for alias in node.names}
        for part in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(part, ast.ClassDef) and part.name in exported and not re.search(_PARTS, ast.unparse(part)):
                line = (ast.get_docstring(part) or "").partition("\n")[0]
                yield node.module, part.name, re.sub(r":\w+:`~?|`", "", line)


def _lines(entries: list[tuple[str, str]]) -> str:
    """Names and lines in two columns as wide as the terminal."""
    width = max(len(name) for name, _ in entries)
    room = max(20, shutil.get_terminal_size((120, 24)).columns - width - 4)
    return "\n".join(
        f"  {name:<{width}}  " + f"\n{' ' * (width + 4)}".join(textwrap.wrap(line, room) or [""])
        for name, line in entries
    )
