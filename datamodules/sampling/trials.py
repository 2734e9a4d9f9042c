"""Labelled trial lists for validation and experiments, drawn from items whose identity is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import DataError, Items, Trials

Kind = Literal["balanced", "natural", "scrambled"]
Index = NDArray[np.int64]


def make_trials(voices: Items, faces: Items, n: int, seed: int, kind: Kind = "balanced") -> Trials:
    """Draws a labelled list, half of it positive, over the people who have voices and faces.

    - ``balanced``: every person has the same share of the positives, and of the voices and of the faces of the
      negatives, as far as their clips reach.
    - ``natural``: as in the official lists, each voice and each face is in one trial, and people keep their natural
      share of clips. A person then has as many voices as faces, so cluster *sizes* alone betray who is who.
    - ``scrambled``: the control for that. Of each person a random part of the voices and, independently, a random part
      of the faces is kept (a fifth to all), then as ``balanced``. (Not from the paper.)

    Args:
        voices: with identities.
        faces: with identities.
        n: number of trials; fewer where there are not as many different ones.
        seed: the same seed gives the same list.
        kind: as above.

    Returns:
        Trials over the item ids, shuffled, no pair twice.

    Raises:
        DataError: fewer than two people have both voices and faces, or ``n`` < 2.
    """
    if kind not in get_args(Kind):
        raise DataError(f"trial kind {kind!r} is unknown; use one of {', '.join(get_args(Kind))}")
    if n < 2:
        raise DataError(f"{n} trials were asked for; give 2 or more")
    people = np.intersect1d(voices.identity, faces.identity)
    people = people[people != ""]
    if len(people) < 2:
        raise DataError(f"trials need two people with voices and faces; there are {len(people)}")
    rng = np.random.default_rng(seed)
    own_voices = [rng.permutation(np.flatnonzero(voices.identity == person)) for person in people]
    own_faces = [rng.permutation(np.flatnonzero(faces.identity == person)) for person in people]
    if kind == "scrambled":
        own_voices = [_part(rows, rng) for rows in own_voices]
        own_faces = [_part(rows, rng) for rows in own_faces]
    if kind == "natural":
        positive, negative = _each_once(own_voices, own_faces, rng)
    else:
        positive, negative = _balanced(own_voices, own_faces, n, rng)
    half = min(n // 2, len(positive), len(negative))
    positive, negative = positive[:half], negative[: min(n - half, half + 1)]
    pairs = np.concatenate([positive, negative])
    labels = np.repeat(np.array([1, 0], dtype=np.int8), [len(positive), len(negative)])
    order = rng.permutation(len(pairs))
    keys = np.array([f"{kind[0]}{i:07d}" for i in range(len(pairs))], dtype=np.str_)
    return Trials(
        keys=keys,
        voices=np.asarray(voices.ids)[pairs[order, 0]],
        faces=np.asarray(faces.ids)[pairs[order, 1]],
        labels=labels[order],
        source=f"{kind} trials, seed {seed}",
    )


def _part(rows: Index, rng: np.random.Generator) -> Index:
    return rows[: max(1, round(len(rows) * rng.uniform(0.2, 1)))]


def _balanced(voices: list[Index], faces: list[Index], n: int, rng: np.random.Generator) -> tuple[Index, Index]:
    """Different positive and negative pairs, (p, 2) and (q, 2), people taking turns."""
    people = len(voices)
    possible = np.array([len(v) * len(f) for v, f in zip(voices, faces, strict=True)])
    turns = -(-n // (2 * people))
    while np.minimum(possible, turns).sum() < n // 2 and turns < possible.max():
        turns *= 2  # people with many clips make up for those with few
    positives, turn = [], []
    for person in rng.permutation(people):
        code = rng.choice(possible[person], min(turns, possible[person]), replace=False)
        voice, face = np.divmod(code, len(faces[person]))
        positives.append(np.stack([voices[person][voice], faces[person][face]], axis=1))
        turn.append(np.arange(len(code)))
    positive = np.concatenate(positives)[np.argsort(np.concatenate(turn), kind="stable")]

    negative = np.empty((0, 2), dtype=np.int64)
    for _ in range(20):  # pairs that came up before are drawn anew, unless they have run out
        if len(negative) >= n - n // 2:
            break
        speaker = np.concatenate([rng.permutation(people) for _ in range(turns)])
        other = (speaker + rng.integers(1, people, len(speaker))) % people
        drawn = np.stack([_any_of(voices, speaker, rng), _any_of(faces, other, rng)], axis=1)
        negative = np.concatenate([negative, drawn])
        _, first = np.unique(negative, axis=0, return_index=True)
        negative = negative[np.sort(first)]
    return positive, negative


def _any_of(groups: list[Index], which: Index, rng: np.random.Generator) -> Index:
    """A random member of each named group."""
    size = np.array([len(group) for group in groups])
    start = np.cumsum(size) - size
    return np.concatenate(groups)[start[which] + rng.integers(size[which])]


def _each_once(voices: list[Index], faces: list[Index], rng: np.random.Generator) -> tuple[Index, Index]:
    """Pairs in which no voice and no face occurs twice, half of each person's clips in positives."""
    positives, rest_voices, rest_faces, person = [], [], [], []
    for i, (own_voices, own_faces) in enumerate(zip(voices, faces, strict=True)):
        clips = min(len(own_voices), len(own_faces))
        half = (clips + rng.integers(2)) // 2  # odd clips fall to either side
        positives.append(np.stack([own_voices[:half], own_faces[:half]], axis=1))
        rest_voices.append(own_voices[half:clips])
        rest_faces.append(own_faces[half:clips])
        person.append(np.full(clips - half, i))
    who = np.concatenate(person)
    other = _derange(who, rng)
    kept = rng.permutation(np.flatnonzero(who != who[other]))
    negative = np.stack([np.concatenate(rest_voices)[kept], np.concatenate(rest_faces)[other[kept]]], axis=1)
    return rng.permutation(np.concatenate(positives)), negative


def _derange(who: Index, rng: np.random.Generator) -> Index:
    """A random order in which nobody stands at a place of their own, unless one person is most of the crowd."""
    order = rng.permutation(len(who))
    for _ in range(100):
        clash = np.flatnonzero(who == who[order])
        if clash.size == 0:
            break
        for i, j in zip(clash, rng.integers(len(who), size=len(clash)), strict=True):
            if who[order[j]] != who[i] and who[order[i]] != who[j]:
                order[i], order[j] = order[j], order[i]
    return order


MAX_ALL_PAIRS = 20_000_000


def all_pairs(
    name: str,
    voices: Items,
    faces: Items,
    people: Sequence[str],
    same_gender: bool = False,
    cross_video: bool = False,
) -> Trials:
    """Every voice with every face of some people, labelled by identity.

    Args:
        name: of the test condition.
        voices: all voices.
        faces: all faces.
        people: whose items to pair.
        same_gender: only such different-person pairs.
        cross_video: only such same-person pairs as are from different videos.

    Raises:
        DataError: no pair is left of one kind, or there are more than 20 million pairs.
    """
    voice = np.flatnonzero(np.isin(voices.identity, people))
    face = np.flatnonzero(np.isin(faces.identity, people))
    if len(voice) * len(face) > MAX_ALL_PAIRS:
        raise DataError(f"data.test.{name}: {len(voice)} x {len(face)} pairs are too many; give a trial list")
    voice, face = (grid.ravel() for grid in np.meshgrid(voice, face, indexing="ij"))
    same = np.asarray(voices.identity)[voice] == np.asarray(faces.identity)[face]
    keep = np.ones(len(same), dtype=bool)
    if same_gender:
        one, other = np.asarray(voices.gender)[voice], np.asarray(faces.gender)[face]
        keep &= same | (one == other) & (one != "")
    if cross_video:
        one, other = np.asarray(voices.video)[voice], np.asarray(faces.video)[face]
        keep &= ~same | (one != other) & (one != "") & (other != "")
    if (same_gender or cross_video) and not ((keep & same).any() and (keep & ~same).any()):
        raise DataError(f"data.test.{name}: these people's items leave no trial of one of the two kinds")
    voice, face, same = voice[keep], face[keep], same[keep]
    return Trials(
        keys=np.array([f"p{i:08d}" for i in range(len(voice))], dtype=np.str_),
        voices=np.asarray(voices.ids)[voice],
        faces=np.asarray(faces.ids)[face],
        labels=same.astype(np.int8),
        source=f"all pairs of {len(people)} people",
    )
