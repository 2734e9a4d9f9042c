"""Equal numbers of clips whatever the training language, for ablations over it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import DataError


def draw_equal(
    identity: NDArray[np.str_],
    language: NDArray[np.str_],
    compared: Sequence[str],
    chosen: Sequence[str],
    seed: int,
) -> NDArray[np.bool_]:
    """Draws of each person as many clips as there are in the compared language where they have fewest.

    They are shared out evenly among the chosen languages, so that training sets of any of the compared languages have
    the same people and the same number of clips of each. Whoever lacks one of the compared languages drops out. Not
    from the paper.

    Args:
        identity: (n,) person of each clip.
        language: (n,) language of each clip.
        compared: languages of the ablation.
        chosen: those of this training set.
        seed: of the draw.

    Returns:
        (n,) which clips are kept.

    Raises:
        DataError: a chosen language is not among the compared ones.
    """
    if missing := sorted(set(chosen) - set(compared)):
        raise DataError(f"data.equal_clips: {', '.join(compared)}; train_languages has {', '.join(missing)} too")
    rng = np.random.default_rng(seed)
    keep = np.zeros(len(identity), dtype=bool)
    for turn, person in enumerate(np.unique(identity)):
        rows = {spoken: np.flatnonzero((identity == person) & (language == spoken)) for spoken in compared}
        size = min(map(len, rows.values()))
        for position, spoken in enumerate(chosen):
            # where the number is odd, the odd clip is of another language from person to person
            share = (size + (position + turn) % len(chosen)) // len(chosen)
            keep[rng.permutation(rows[spoken])[:share]] = True
    return keep


def draw_balanced(people: NDArray[np.str_], genders: dict[str, str], size: int, seed: int) -> NDArray[np.str_]:
    """Draws ``size`` people, as many of each gender as possible; where genders are unknown, of all alike.

    Returns:
        (size,) sorted identities; the same for the same people, genders and seed.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.unique(people))
    gender = np.array([genders.get(person, "") for person in order])
    turn = np.empty(len(order), dtype=np.int64)  # the how-manieth of its gender each person is
    for letter in np.unique(gender):
        turn[gender == letter] = np.arange((gender == letter).sum())
    return np.sort(order[np.argsort(turn, kind="stable")[:size]])
