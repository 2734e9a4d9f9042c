"""Training people as a model would see them that never met them. Not from the papers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from postproc.cca import WIDTHS, Moments, nested, regularised_cca
from postproc.cells import unit
from postproc.reference import Reference


def strangers(
    reference: Reference, groups: Sequence[NDArray[np.str_]], shrinkages: Sequence[float]
) -> Iterator[list[Reference]]:
    """The reference as it looks to scorers that have met everybody but a group of people.

    The model knows the reference's people: its own embeddings of them match too well to practise on. So ``model``
    embeddings are made anew from ``input`` ones, whose encoders do not know them, by regularised CCA of the others,
    as ``configs/model/cca.yaml`` has it. With little shrinkage it overfits, and scores strangers as badly as a poorly
    trained model.

    Args:
        reference: with ``input`` embeddings.
        groups: of people; others must be left.
        shrinkages: one scorer each.

    Yields:
        For each group the reference with the ``model`` embeddings of each scorer, and ``met`` as it is for them.

    Raises:
        DegenerateInput: nothing can be learnt from the others.
    """
    voices, faces = (unit(np.asarray(x["input"], dtype=np.float64)) for x in (reference.voices, reference.faces))
    narrowest = min(voices.shape[1], faces.shape[1])
    widths = sorted({min(k, narrowest) for k in WIDTHS})
    for people in groups:
        met = ~np.isin(reference.identity, people)
        voice, face = (Moments.of(x[met], reference.identity[met]) for x in (voices, faces))
        seen = []
        for found in regularised_cca(voice, face, shrinkages, widths[-1]):
            v, f = (
                nested((x - mean) @ w, widths)
                for x, mean, w in zip((voices, faces), found.means, found.projections, strict=True)
            )
            voices_of, faces_of = reference.voices | {"model": v}, reference.faces | {"model": f}
            seen.append(replace(reference, voices=voices_of, faces=faces_of, met=met))
        yield seen
