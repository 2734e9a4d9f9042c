"""Training people as a model would see them that never met them. Not from the papers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from postproc.reference import Reference
from postproc.refinement import DegenerateInput
from postproc.spaces import unit

Array = NDArray[np.float64]


def strangers(
    reference: Reference, groups: int, seed: int, shrinkages: Sequence[float], directions: int = 16
) -> Iterator[tuple[Reference, list[Reference]]]:
    """Groups of the reference's people, each as it looks to scorers that were learnt on the other people.

    The model knows the reference's people: its own embeddings of them match too well to practise on. So their ``model``
    embeddings are made anew from ``input`` ones, whose encoders do not know them, by regularised CCA of the others.
    With little shrinkage it overfits, and scores strangers as badly as a poorly trained model.

    Args:
        reference: with ``input`` embeddings.
        groups: how many, of disjoint people.
        seed: of the groups.
        shrinkages: one scorer each.
        directions: width of the new embeddings, at most.

    Yields:
        The others as they are, and the group with the ``model`` embeddings of each scorer.

    Raises:
        DegenerateInput: nothing can be learnt from the others.
    """
    spaces = [unit(np.asarray(x["input"], dtype=np.float64)) for x in (reference.voices, reference.faces)]
    for people in reference.folds(groups, seed):
        inside = np.isin(reference.identity, people)
        seen = []
        for learnt in cca([x[~inside] for x in spaces], reference.identity[~inside], shrinkages, directions):
            voice, face = (unit((x[inside] - mean) @ w) for x, (mean, w) in zip(spaces, learnt, strict=True))
            part = reference.rows(inside)
            voices, faces = part.voices | {"model": voice}, part.faces | {"model": face}
            seen.append(Reference(voices, faces, part.identity, part.language, part.gender, part.met))
        yield reference.rows(~inside), seen


def cca(
    spaces: Sequence[Array], identity: NDArray[np.str_], shrinkages: Sequence[float], directions: int
) -> Iterator[list[tuple[Array, Array]]]:
    """What ``lightning_modules.closed_form.regularised_cca`` gives, for several shrinkages at the price of one.

    Args:
        spaces: voices (n, dv) and faces (n, df) at unit length.
        identity: (n,) person of each row, two people or more.
        shrinkages: weights of the identity matrix in the whitening, in units of the mean variance; above 0.
        directions: largest width.

    Yields:
        For voices and faces a mean (d,) and a projection (d, k).

    Raises:
        DegenerateInput: all clips of a modality have the same embedding.
    """
    people = np.unique(identity)
    means, centred, spectra = [], [], []
    for x in spaces:
        of_people = np.stack([x[identity == person].mean(axis=0) for person in people])
        mean = of_people.mean(axis=0)
        means.append(mean)
        centred.append(of_people - mean)
        values, vectors = np.linalg.eigh((x - mean).T @ (x - mean) / len(x))
        if values.sum() < 1e-12:  # of unit-length embeddings: the total variance lies between 0 and 1
            raise DegenerateInput("all clips of training people have the same embedding")
        spectra.append((values, vectors))
    width = min(directions, len(people) - 1)
    for shrinkage in shrinkages:
        roots = [vectors / np.sqrt(values + shrinkage * values.mean()) @ vectors.T for values, vectors in spectra]
        voices, faces = (m @ root for m, root in zip(centred, roots, strict=True))
        u, s, vt = np.linalg.svd(voices.T @ faces / len(people), full_matrices=False)
        scale = np.sqrt(s[:width])
        sides = zip(means, roots, (u[:, :width], vt[:width].T), strict=True)
        yield [(mean, root @ side * scale) for mean, root, side in sides]
