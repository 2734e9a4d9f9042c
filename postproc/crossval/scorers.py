"""Scorers that have not seen the training identities they score. Not from the papers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from postproc.cca import WIDTHS, Moments, nested, regularised_cca
from postproc.cells import unit
from postproc.memory import Memory
from postproc.reference import Reference


def held_out_scorers(
    reference: Reference,
    groups: Sequence[NDArray[np.str_]],
    shrinkages: Sequence[float],
    language: str | None = None,
    memory: Memory | None = None,
) -> Iterator[list[Reference]]:
    """The reference as embedded by scorers that were fitted without a group of identities.

    The model has seen the reference's identities, so its own embeddings match them better than those of test
    identities. Here the ``model`` embeddings are computed again from the ``input`` ones, by regularised CCA fitted on
    the other identities (the closed form of ``configs/model/cca.yaml``). A small shrinkage overfits and scores the
    held-out identities as badly as a poorly trained model.

    Args:
        reference: with ``input`` embeddings, of encoders that have not seen the identities either.
        groups: identities to hold out, one scorer per group and shrinkage; some identities must remain.
        shrinkages: one scorer each.
        language: of the clips that scorers are fitted on; None = any.
        memory: keeps the projections of equal references; None = they are computed.

    Yields:
        For each group, one reference per shrinkage, with the scorer's ``model`` embeddings; ``seen`` is whether the
        scorer was fitted on a clip.

    Raises:
        DegenerateInput: the remaining identities are too few, or all alike.
    """
    voices, faces = (unit(np.asarray(x["input"], dtype=np.float64)) for x in (reference.voices, reference.faces))
    narrowest = min(voices.shape[1], faces.shape[1])
    widths = sorted({min(k, narrowest) for k in WIDTHS})
    for identities in groups:
        seen = ~np.isin(reference.identity, identities)
        if language is not None:
            seen &= reference.language == language
        fitted = voices[seen], faces[seen], np.unique(reference.identity[seen], return_inverse=True)[1]
        compute = partial(_projections, *fitted, shrinkages, widths[-1])
        what = f"scorers {[*shrinkages]} {widths[-1]}"
        arrays = compute() if memory is None else memory.recall(what, fitted, compute)
        embedded = []
        for at in range(0, len(arrays), 4):
            v, f = (
                nested((x - mean) @ projection, widths)
                for x, mean, projection in zip(
                    (voices, faces), arrays[at : at + 2], arrays[at + 2 : at + 4], strict=True
                )
            )
            embedded.append(
                replace(
                    reference, voices=reference.voices | {"model": v}, faces=reference.faces | {"model": f}, seen=seen
                )
            )
        yield embedded


def _projections(
    voices: NDArray[np.float64],
    faces: NDArray[np.float64],
    identity: NDArray[np.int64],
    shrinkages: Sequence[float],
    directions: int,
) -> list[NDArray[np.float64]]:
    """Means of voices and faces, then their projections, of each shrinkage."""
    voice, face = (Moments.of(x, identity) for x in (voices, faces))
    solutions = regularised_cca(voice, face, shrinkages, directions)
    return [x for solution in solutions for x in (*solution.means, *solution.projections)]
