"""Scorers that have not seen the training identities they score. Not from the papers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from postproc.cca import WIDTHS, Moments, nested, regularised_cca
from postproc.cells import unit
from postproc.reference import Reference


def held_out_scorers(
    reference: Reference,
    groups: Sequence[NDArray[np.str_]],
    shrinkages: Sequence[float],
    language: str | None = None,
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
        voice, face = (Moments.of(x[seen], reference.identity[seen]) for x in (voices, faces))
        embedded = []
        for solution in regularised_cca(voice, face, shrinkages, widths[-1]):
            v, f = (
                nested((x - mean) @ projection, widths)
                for x, mean, projection in zip((voices, faces), solution.means, solution.projections, strict=True)
            )
            embedded.append(
                replace(
                    reference, voices=reference.voices | {"model": v}, faces=reference.faces | {"model": f}, seen=seen
                )
            )
        yield embedded
