"""What methods and data of one's own must give; what they gave instead is named with its file and line."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence, Sized
from typing import Any

import torch
from torch import Tensor

from datamodules.schema import DataError


def mistaken(of: object, name: str, should: str, value: object) -> DataError:
    """The error for what a method, or the class of a data set, gave in place of what it should.

    Args:
        of: the object whose method it is.
        name: of the method; "" for a data set, which gives batches.
        should: what it should give.
        value: what it gave.
    """
    part: Any = getattr(type(of), name) if name else type(of)
    part = part.fget if isinstance(part, property) else part
    try:
        part = inspect.unwrap(part)
        place = f"{inspect.getsourcefile(part)}:{inspect.getsourcelines(part)[1]}: "
    except (OSError, TypeError):  # there is no source, as of classes made while a program runs
        place = ""
    where = f"{type(of).__name__}.{name}" if name else type(of).__name__
    return DataError(f"{place}{where} must {'return' if name else 'give'} {should}, not {_said(value)}")


def check_embeddings(of: object, name: str, x: Sized, embeddings: object, dim: int | None = None) -> None:
    """Refuses what is no embedding (B, d) of each of B inputs.

    Args:
        of: the object whose method it is.
        name: of the method.
        x: the inputs.
        embeddings: what the method returned.
        dim: d, where it is known.

    Raises:
        DataError: names the method, and what it returned.
    """
    fits = isinstance(embeddings, Tensor) and embeddings.ndim == 2 and embeddings.is_floating_point()
    if not fits or embeddings.shape != (len(x), dim or embeddings.shape[1]):  # type: ignore[attr-defined]
        raise mistaken(of, name, f"a tensor of floats ({len(x)}, {dim or 'd'}), an embedding of each input", embeddings)


def check_terms(of: object, terms: object) -> None:
    """Refuses what is no dictionary of loss terms whose ``loss`` has a gradient.

    Raises:
        DataError: names the method, and what it returned.
    """
    if not isinstance(terms, dict) or "loss" not in terms:
        raise mistaken(of, "loss", "a dictionary of terms, one of them 'loss'", terms)
    for name, term in terms.items():
        if not isinstance(term, Tensor) or term.numel() != 1:
            raise mistaken(of, "loss", f"a tensor of one number as {name!r}", term)
    if torch.is_grad_enabled() and not terms["loss"].requires_grad:
        raise mistaken(of, "loss", "a 'loss' that depends on the weights", "one without a gradient")


def check_distances(of: object, name: str, shape: tuple[int, ...], distances: object) -> None:
    """Refuses what is no distance of each pair.

    Raises:
        DataError: names the method, and what it returned.
    """
    if not isinstance(distances, Tensor) or tuple(distances.shape) != shape:
        raise mistaken(of, name, f"a tensor {shape}, a distance of each pair", distances)


def check_source(of: object, source: object) -> None:
    """Refuses what does not read items by row.

    Raises:
        DataError: names the method, and what it returned.
    """
    if not callable(getattr(source, "read", None)):
        raise mistaken(of, "evaluation_source", "an object with a method read(rows)", source)


def check_batch(loader: object, keys: Sequence[str], batch: object) -> None:
    """Refuses a batch without the entries that the methods read.

    Args:
        loader: what it comes from, where that is known.
        keys: of the batch.
        batch: what came.

    Raises:
        DataError: names the data set.
    """
    if not isinstance(batch, Mapping) or not set(keys) <= batch.keys():
        source = getattr(loader, "dataset", loader)
        should = f"batches as a dictionary of {', '.join(keys)}"
        raise mistaken(source, "", should, f"one of {', '.join(map(str, batch))}" if isinstance(batch, dict) else batch)


def _said(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    return "None" if value is None else type(value).__name__
