"""Controls for every result: a scorer that knows only gender, same-gender negatives, and chance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from postproc.metrics.roc import Direction, eer


class TooFewIdentities(ValueError):
    """The trials have too few identities for a control over identities."""


def gender_only_eer(voice_gender: ArrayLike, face_gender: ArrayLike, labels: ArrayLike) -> float:
    """EER of a scorer that knows only gender: distance 1 where the genders differ, else 0.

    With a share s of same-gender negatives it is s / (1 + s). Any association of identities must be better.

    Example:
        >>> gender_only_eer(["M", "F", "M", "F"], ["M", "F", "F", "M"], [1, 1, 0, 0])
        0.0

    Args:
        voice_gender: (t,) true gender of each trial's voice.
        face_gender: (t,) true gender of each trial's face.
        labels: (t,) 1 = same person.

    Raises:
        ValueError: as :func:`postproc.metrics.roc.eer`.
    """
    differ = np.asarray(voice_gender) != np.asarray(face_gender)
    return eer(differ.astype(np.float64), labels, direction="distance").eer


def same_gender_eer(
    scores: ArrayLike, labels: ArrayLike, voice_gender: ArrayLike, face_gender: ArrayLike, *, direction: Direction
) -> float:
    """EER with all positives, and only the negatives of the same gender (FLAG's second track).

    Example:
        >>> voice, face, labels = ["M", "F", "M", "F"], ["M", "F", "M", "M"], [1, 1, 0, 0]
        >>> same_gender_eer([0.1, 0.2, 0.3, 0.0], labels, voice, face, direction="distance")
        0.0

    Args:
        scores: (t,) finite scores.
        labels: (t,) 1 = same person.
        voice_gender: (t,) true gender of each trial's voice.
        face_gender: (t,) true gender of each trial's face.
        direction: which way the scores point.

    Raises:
        ValueError: as :func:`postproc.metrics.roc.eer`; also where no negative is a same-gender pair.
    """
    marks = np.asarray(labels)
    kept = (marks == 1) | (np.asarray(voice_gender) == np.asarray(face_gender))
    if kept.any() and not (marks[kept] == 0).any():
        raise ValueError("no different-person trial is a same-gender pair: there is no same-gender EER")
    return eer(np.asarray(scores)[kept], marks[kept], direction=direction).eer


def chance_eer(
    scores: ArrayLike,
    labels: ArrayLike,
    voice_identity: ArrayLike | None,
    face_identity: ArrayLike | None,
    *,
    direction: Direction,
    n: int = 20,
    seed: int = 0,
) -> float:
    """Mean EER after random permutations of the identities: about 50 %; another value points to an error.

    Each draw permutes the identities of the voices at random; a trial is positive where the new identity of its voice
    is that of its face. All permutations are equally likely, so every pair of identities is positive equally often.
    Without identities the labels themselves are permuted. Draws that leave one class empty do not count. Not from the
    papers.

    Args:
        scores: (t,) finite scores.
        labels: (t,) 1 = same person; only used without identities.
        voice_identity: (t,) identity of each trial's voice, or None where unknown.
        face_identity: (t,) identity of each trial's face, or None where unknown.
        direction: which way the scores point.
        n: number of draws.
        seed: of the draws.

    Raises:
        ValueError: as :func:`postproc.metrics.roc.eer`.
        TooFewIdentities: every draw left one class empty.
    """
    rng = np.random.default_rng(seed)
    shuffle: Callable[[], NDArray[np.bool_]]
    if voice_identity is None or face_identity is None:
        marks = np.asarray(labels).astype(bool)

        def shuffle() -> NDArray[np.bool_]:
            return rng.permutation(marks)

    else:
        identities, codes = np.unique(np.concatenate([voice_identity, face_identity]), return_inverse=True)
        voice, face = np.split(codes, 2)

        def shuffle() -> NDArray[np.bool_]:
            positive: NDArray[np.bool_] = rng.permutation(len(identities))[voice] == face
            return positive

    rates = []
    for _ in range(n):
        draw = shuffle()
        if draw.any() and not draw.all():
            rates.append(eer(scores, draw, direction=direction).eer)
    if not rates:
        raise TooFewIdentities(
            f"none of {n} permutations of the identities leaves trials of both classes: no chance control"
        )
    return float(np.mean(rates))
