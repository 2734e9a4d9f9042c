"""Draws labelled trial lists from items with identities, for validation and experiments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import DataError, Items, Trials

Kind = Literal["balanced", "natural", "scrambled"]
Index = NDArray[np.int64]


def make_trials(voices: Items, faces: Items, n: int, seed: int, kind: Kind = "balanced") -> Trials:
    """Draws a labelled list, half of it positive, over the identities that have voices and faces.

    - ``balanced``: every identity has the same share of the positives, of the voices of the negatives and of the faces
      of the negatives, as far as it has enough clips.
    - ``natural``: as in the official lists, each voice and each face is in one trial, and identities keep their natural
      share of clips. Each identity then has as many voices as faces, so the *sizes* of clusters reveal which belong
      together.
    - ``scrambled``: the control for that. Of each identity a random part of the voices and, independently, of the faces
      is kept (between a fifth and all), then as ``balanced``. (Not from the papers.)

    Args:
        voices: all voices, with identities.
        faces: all faces, with identities.
        n: number of trials; fewer where there are not enough different pairs.
        seed: the same seed gives the same list.
        kind: see above.

    Returns:
        Trials of item ids, shuffled, no pair twice.

    Raises:
        DataError: fewer than two identities have both voices and faces, or ``n`` < 2.
    """
    if kind not in get_args(Kind):
        raise DataError(f"trial kind {kind!r} is unknown; use one of {', '.join(get_args(Kind))}")
    if n < 2:
        raise DataError(f"{n} trials cannot be drawn; ask for 2 or more")
    identities = np.intersect1d(voices.identity, faces.identity)
    identities = identities[identities != ""]
    if len(identities) < 2:
        raise DataError(f"trials need two identities with voices and faces; there are {len(identities)}")
    rng = np.random.default_rng(seed)
    voice_groups = [rng.permutation(np.flatnonzero(voices.identity == identity)) for identity in identities]
    face_groups = [rng.permutation(np.flatnonzero(faces.identity == identity)) for identity in identities]
    if kind == "scrambled":
        voice_groups = [_part(rows, rng) for rows in voice_groups]
        face_groups = [_part(rows, rng) for rows in face_groups]
    if kind == "natural":
        positive, negative = _each_once(voice_groups, face_groups, rng)
    else:
        positive, negative = _balanced(voice_groups, face_groups, n, rng)
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


def why_fewer(trials: Trials, voices: Items, faces: Items, asked: int, kind: Kind) -> str:
    """Why a drawn list is shorter than asked for, in a sentence; "" if it is not.

    Args:
        trials: a list of :func:`make_trials`.
        voices: the voices it was drawn from.
        faces: the faces.
        asked: the number of trials that was asked for.
        kind: of the list.
    """
    if len(trials) >= asked:
        return ""
    if kind == "natural":
        why = f"each voice and each face is in one trial, and there are {len(voices)} voices and {len(faces)} faces"
    else:
        some = "a part of " if kind == "scrambled" else ""
        why = f"{some}{len(voices)} voices and {len(faces)} faces have no more different pairs of one person"
    return f"{len(trials)} {kind} trials where {asked} were asked for: {why}"


def _part(rows: Index, rng: np.random.Generator) -> Index:
    return rows[: max(1, round(len(rows) * rng.uniform(0.2, 1)))]


def _balanced(voices: list[Index], faces: list[Index], n: int, rng: np.random.Generator) -> tuple[Index, Index]:
    """Different positive pairs (p, 2) and negative pairs (q, 2); the identities take turns."""
    identities = len(voices)
    possible = np.array([len(v) * len(f) for v, f in zip(voices, faces, strict=True)])
    turns = -(-n // (2 * identities))
    while np.minimum(possible, turns).sum() < n // 2 and turns < possible.max():
        turns *= 2  # identities with many clips make up for those with few
    positives, turn = [], []
    for i in rng.permutation(identities):
        code = rng.choice(possible[i], min(turns, possible[i]), replace=False)
        voice, face = np.divmod(code, len(faces[i]))
        positives.append(np.stack([voices[i][voice], faces[i][face]], axis=1))
        turn.append(np.arange(len(code)))
    positive = np.concatenate(positives)[np.argsort(np.concatenate(turn), kind="stable")]

    negative = np.empty((0, 2), dtype=np.int64)
    for _ in range(20):  # repeated pairs are replaced by further draws, as long as there are other pairs
        if len(negative) >= n - n // 2:
            break
        speaker = np.concatenate([rng.permutation(identities) for _ in range(turns)])
        other = (speaker + rng.integers(1, identities, len(speaker))) % identities
        drawn = np.stack([_any_of(voices, speaker, rng), _any_of(faces, other, rng)], axis=1)
        negative = np.concatenate([negative, drawn])
        _, first = np.unique(negative, axis=0, return_index=True)
        negative = negative[np.sort(first)]
    return positive, negative


def _any_of(groups: list[Index], which: Index, rng: np.random.Generator) -> Index:
    """A random member of each of the groups ``which``."""
    size = np.array([len(group) for group in groups])
    start = np.cumsum(size) - size
    members: Index = np.concatenate(groups)[start[which] + rng.integers(size[which])]
    return members


def _each_once(voices: list[Index], faces: list[Index], rng: np.random.Generator) -> tuple[Index, Index]:
    """Pairs in which no voice and no face occurs twice; half of the clips of each identity are in positives."""
    positives, rest_voices, rest_faces, owners = [], [], [], []
    for i, (voice_rows, face_rows) in enumerate(zip(voices, faces, strict=True)):
        clips = min(len(voice_rows), len(face_rows))
        half = (clips + rng.integers(2)) // 2  # of an odd number, one half at random is larger
        positives.append(np.stack([voice_rows[:half], face_rows[:half]], axis=1))
        rest_voices.append(voice_rows[half:clips])
        rest_faces.append(face_rows[half:clips])
        owners.append(np.full(clips - half, i))
    owner = np.concatenate(owners)
    other = _derange(owner, rng)
    kept = rng.permutation(np.flatnonzero(owner != owner[other]))
    negative = np.stack([np.concatenate(rest_voices)[kept], np.concatenate(rest_faces)[other[kept]]], axis=1)
    return rng.permutation(np.concatenate(positives)), negative


def _derange(owner: Index, rng: np.random.Generator) -> Index:
    """A random order that gives each place a clip of another identity, where no identity has most of the clips."""
    order = rng.permutation(len(owner))
    for _ in range(100):
        clash = np.flatnonzero(owner == owner[order])
        if clash.size == 0:
            break
        for i, j in zip(clash, rng.integers(len(owner), size=len(clash)), strict=True):
            if owner[order[j]] != owner[i] and owner[order[i]] != owner[j]:
                order[i], order[j] = order[j], order[i]
    return order


MAX_ALL_PAIRS = 20_000_000


def all_pairs(
    name: str,
    voices: Items,
    faces: Items,
    identities: Sequence[str],
    same_gender: bool = False,
    cross_video: bool = False,
) -> Trials:
    """Pairs every voice with every face of some identities, labelled by identity.

    Args:
        name: name of the test condition, for messages.
        voices: all voices.
        faces: all faces.
        identities: whose items to pair.
        same_gender: leave out different-person pairs of different genders.
        cross_video: leave out same-person pairs from one video.

    Raises:
        DataError: the identities have no voices or no faces, no same-person or no different-person pair is left, or
            there are more than 20 million pairs.
    """
    voice = np.flatnonzero(np.isin(voices.identity, identities))
    face = np.flatnonzero(np.isin(faces.identity, identities))
    if not len(voice) or not len(face):
        raise DataError(
            f"data.test.{name}: there are no {'faces' if len(voice) else 'voices'} of its identities; "
            "check identities and language"
        )
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
        raise DataError(
            f"data.test.{name}: the items of these identities leave no same-person or no different-person trial"
        )
    voice, face, same = voice[keep], face[keep], same[keep]
    return Trials(
        keys=np.array([f"p{i:08d}" for i in range(len(voice))], dtype=np.str_),
        voices=np.asarray(voices.ids)[voice],
        faces=np.asarray(faces.ids)[face],
        labels=same.astype(np.int8),
        source=f"all pairs of {len(identities)} identities",
    )
