"""Draws identities for validation, and equal numbers of clips for ablations over the training language."""

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
    """Draws equally many clips of each identity, whatever the training languages (not from the papers).

    Of each identity as many clips are drawn as it has in that compared language in which it has fewest. They are
    divided evenly among the chosen languages. So training sets of different languages have the same identities and the
    same number of clips of each. Identities without clips in one of the compared languages are left out.

    Args:
        identity: (n,) identity of each clip.
        language: (n,) language of each clip.
        compared: languages of the ablation.
        chosen: languages of this training set.
        seed: seed of the draw.

    Returns:
        (n,) whether each clip is kept.

    Raises:
        DataError: a chosen language is not among the compared ones.
    """
    if missing := sorted(set(chosen) - set(compared)):
        raise DataError(f"data.equal_clips: {', '.join(compared)}; train_languages also has {', '.join(missing)}")
    rng = np.random.default_rng(seed)
    keep = np.zeros(len(identity), dtype=bool)
    for turn, name in enumerate(np.unique(identity)):
        rows = {other: np.flatnonzero((identity == name) & (language == other)) for other in compared}
        size = min(map(len, rows.values()))
        for position, other in enumerate(chosen):
            # clips that cannot be divided evenly fall to another language for each identity
            share = (size + (position + turn) % len(chosen)) // len(chosen)
            keep[rng.permutation(rows[other])[:share]] = True
    return keep


def draw_balanced(identities: NDArray[np.str_], genders: dict[str, str], size: int, seed: int) -> NDArray[np.str_]:
    """Draws ``size`` identities, as many of each gender as possible. An unknown gender counts as a third one.

    Returns:
        (size,) sorted identities; the same for the same identities, genders and seed.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.unique(identities))
    gender = np.array([genders.get(identity, "") for identity in order])
    turn = np.empty(len(order), dtype=np.int64)  # rank of each identity within its gender
    for letter in np.unique(gender):
        turn[gender == letter] = np.arange((gender == letter).sum())
    return np.sort(order[np.argsort(turn, kind="stable")[:size]])
