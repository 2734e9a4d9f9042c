"""Controls that stand beside every result: what gender alone gives, what is left without it, and chance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from postproc.metrics.roc import Direction, eer


class TooFewPeople(ValueError):
    """A control over people that this list of trials cannot give."""


def gender_only_eer(voice_gender: ArrayLike, face_gender: ArrayLike, labels: ArrayLike) -> float:
    """EER of a score that knows gender and nothing else: distance 1 where the genders differ, else 0.

    With a share s of same-gender negatives it is s / (1 + s): the floor any association must beat.

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
    """EER with the negatives restricted to same-gender pairs and all positives kept (FLAG's second track).

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
    """Mean EER after shuffling who is who: about 50 %, and telling where it is not.

    Each draw permutes the identities at random and calls a trial positive where the voice's new identity is the face's.
    All permutations are equally likely (true identities may stay in place), so that every voice-face pair of people is
    equally often positive. Without identities the labels themselves are shuffled. Draws that leave one class empty do
    not count. Not from the papers.

    Args:
        scores: (t,) finite scores.
        labels: (t,) 1 = same person; only used without identities.
        voice_identity: (t,) person of each trial's voice, or None where unknown.
        face_identity: (t,) person of each trial's face, or None where unknown.
        direction: which way the scores point.
        n: number of draws.
        seed: of the draws.

    Raises:
        ValueError: as :func:`postproc.metrics.roc.eer`.
        TooFewPeople: every draw left one class empty.
    """
    rng = np.random.default_rng(seed)
    shuffle: Callable[[], NDArray[np.bool_]]
    if voice_identity is None or face_identity is None:
        marks = np.asarray(labels).astype(bool)

        def shuffle() -> NDArray[np.bool_]:
            return rng.permutation(marks)

    else:
        people, codes = np.unique(np.concatenate([voice_identity, face_identity]), return_inverse=True)
        voice, face = np.split(codes, 2)

        def shuffle() -> NDArray[np.bool_]:
            return rng.permutation(len(people))[voice] == face

    rates = []
    for _ in range(n):
        draw = shuffle()
        if draw.any() and not draw.all():
            rates.append(eer(scores, draw, direction=direction).eer)
    if not rates:
        raise TooFewPeople(f"none of {n} shuffles of the identities leaves trials of both classes: no chance control")
    return float(np.mean(rates))
