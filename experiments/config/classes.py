"""Options of classes, read in their source: what a config may say is known before torch is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

PUBLIC = ("lightning_modules", "datamodules", "postproc")
"""Packages whose classes YAML may name."""

READ = (*PUBLIC, "experiments", "lightning")
"""Packages whose source is read. None of them is imported for it."""


@dataclass(frozen=True, eq=False)
class Source:
    """A class in its file.

    Attributes:
        path: its dotted path.
        node: its definition.
        names: dotted paths of what its module has imported, by name.
        defined: names of the classes of its module.
    """

    path: str
    node: ast.ClassDef
    names: dict[str, str]
    defined: frozenset[str]


def is_missing(class_path: str) -> bool:
    """Whether a class path of this project names nothing that is there."""
    module, _, name = class_path.rpartition(".")
    if module.partition(".")[0] not in PUBLIC:
        return False
    file = _file(module)
    return file is None or name not in _bound(file)


def own_path(class_path: str) -> str | None:
    """The path at which a class of this project is defined; None for any other."""
    source = _source(class_path) if class_path.partition(".")[0] in PUBLIC else None
    return None if source is None else source.path


def is_below(class_path: str, base: str) -> bool:
    """Whether a class of this project is another one, or has it above it."""
    above = own_path(base)
    return any(source is not None and source.path == above for source in _lineage(class_path))


def options_of_source(class_path: str) -> list[str] | None:
    """Names of the options of a class, those it passes on among them; None where its source does not say them."""
    found: list[str] = []
    hidden: set[str] = set()
    for source in _lineage(class_path):
        if source is None:
            return None
        init = next((p for p in source.node.body if isinstance(p, ast.FunctionDef) and p.name == "__init__"), None)
        if init is None and any("dataclass" in ast.unparse(mark) for mark in source.node.decorator_list):
            return None
        if init is None:
            continue
        names = [argument.arg for argument in (*init.args.args[1:], *init.args.kwonlyargs)]
        found += [name for name in names if name not in hidden and name not in found]
        if init.args.kwarg is None:
            return found
        rest = init.args.kwarg.arg
        calls = [node for node in ast.walk(init) if isinstance(node, ast.Call) and _passes_on(node, rest)]
        if len(calls) != 1 or calls[0].args or init.args.vararg is not None:
            return None
        hidden |= {keyword.arg for keyword in calls[0].keywords if keyword.arg is not None}
    return found


def _passes_on(node: ast.Call, rest: str) -> bool:
    """Whether this is ``super().__init__(..., **rest)``."""
    passed = any(k.arg is None and ast.unparse(k.value) == rest for k in node.keywords)
    return passed and ast.unparse(node.func) == "super().__init__"


def _lineage(class_path: str) -> Iterator[Source | None]:
    """A class and the classes above it in the order in which ``super()`` goes through them; None for a foreign one."""
    order: list[Source | None] = []

    def visit(path: str) -> None:
        source = _source(path)
        order.append(source)
        for base in source.node.bases if source is not None else ():
            name = ast.unparse(base).partition("[")[0]
            if name not in ("ABC", "Generic", "Protocol"):
                assert source is not None
                visit(_resolved(source, name))

    visit(class_path)
    last = {source.path if source else "": i for i, source in enumerate(order)}  # a shared base comes after all
    return (source for i, source in enumerate(order) if last[source.path if source else ""] == i)


def _resolved(source: Source, name: str) -> str:
    if name in source.defined:
        return f"{source.path.rpartition('.')[0]}.{name}"
    first, _, rest = name.partition(".")
    path = source.names.get(first, first)
    return f"{path}.{rest}" if rest else path


@lru_cache
def _source(class_path: str) -> Source | None:
    """The definition of a class; None if its source is not read, or is not there."""
    for _ in range(8):  # names that are handed on from module to module
        module, _, name = class_path.rpartition(".")
        file = _file(module) if module.partition(".")[0] in READ else None
        if file is None:
            return None
        tree, names = _parsed(file), _imports(file, module)
        classes = {part.name: part for part in tree.body if isinstance(part, ast.ClassDef)}
        if name in classes:
            return Source(class_path, classes[name], names, frozenset(classes))
        if name not in names:
            return None
        class_path = names[name]
    return None


@lru_cache
def _file(module: str) -> Path | None:
    """The file of a module; of a package the stub that says its public names, where there is one."""
    package, *rest = module.split(".")
    spec = find_spec(package) if package else None  # of the outermost package, which is not imported
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent.joinpath(*rest)
    candidates = (path / "__init__.pyi", path / "__init__.py", path.with_suffix(".py"))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


@lru_cache
def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """What runs when a module is imported, whatever its conditions come to."""
    for part in ast.iter_child_nodes(tree):
        yield part
        if isinstance(part, ast.If | ast.Try | ast.ExceptHandler | ast.With):
            yield from _statements(part)


@lru_cache
def _imports(file: Path, module: str) -> dict[str, str]:
    """Dotted paths by the names under which a module imports them."""
    names: dict[str, str] = {}
    package = module.split(".") if file.stem == "__init__" else module.split(".")[:-1]
    for part in _statements(_parsed(file)):
        if isinstance(part, ast.ImportFrom):
            above = package[: len(package) - part.level + 1] if part.level else []
            origin = ".".join([*above, *([part.module] if part.module else [])])
            names |= {alias.asname or alias.name: f"{origin}.{alias.name}" for alias in part.names}
        elif isinstance(part, ast.Import):
            for alias in part.names:
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
    return names


@lru_cache
def _bound(file: Path) -> frozenset[str]:
    """Names that a module has."""
    names = set()
    for part in ast.walk(_parsed(file)):
        if isinstance(part, ast.ClassDef | ast.FunctionDef):
            names.add(part.name)
        elif isinstance(part, ast.Name):
            names.add(part.id)
        elif isinstance(part, ast.alias):
            names.add((part.asname or part.name).partition(".")[0])
    return frozenset(names | {path.stem for path in file.parent.iterdir()})
