"""Test sets of held-out identities under the conditions that a test set may have. Not from the papers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import ScoredCell
from postproc.crossval.sets import scored_set
from postproc.reference import Reference

_LARGEST = 40  # clips of an identity where the scenario does not say


@dataclass(frozen=True)
class Scenario:
    """What a test set is like.

    Attributes:
        identities: how many, half of them women where there are enough.
        clips: voices, and faces, of each; or ``scrambled`` (independent random numbers), ``balanced`` (20), ``natural``
            (a sixth of what there is, on both sides) or ``wide`` (1 to 78, independent, most of them few).
        share: of the voices, and of the faces, that one identity has; 0 = as the others.
        only_voices: identities without faces.
        only_faces: identities without voices.
        nobody: clips of other identities, one each, as a share of the voices, and of the faces.
        languages: spoken in the set.
    """

    identities: int
    clips: int | str = "scrambled"
    share: float = 0.0
    only_voices: int = 0
    only_faces: int = 0
    nobody: float = 0.0
    languages: int = 1


SCENARIOS = {
    "scrambled, 4": Scenario(4),
    "scrambled, 6": Scenario(6),
    "scrambled, 12": Scenario(12),
    "scrambled, 24": Scenario(24),
    "balanced, 6": Scenario(6, "balanced"),
    "natural, 6": Scenario(6, "natural"),
    "1-78 clips, 6": Scenario(6, "wide"),
    "1 clip, 6": Scenario(6, 1),
    "1 clip, 24": Scenario(24, 1),
    "2 clips, 12": Scenario(12, 2),
    "4 clips, 6": Scenario(6, 4),
    "8 clips, 12": Scenario(12, 8),
    "32 clips, 6": Scenario(6, 32),
    "32 clips, 16": Scenario(16, 32),
    "one has 30 %, 6": Scenario(6, share=0.3),
    "one has 30 %, 12": Scenario(12, share=0.3),
    "one without faces, 6": Scenario(6, only_voices=1),
    "one without voices, 12": Scenario(12, only_faces=1),
    "one missing on each side, 7": Scenario(7, only_voices=1, only_faces=1),
    "10 % of nobody, 6": Scenario(6, nobody=0.1),
    "2 languages, 6": Scenario(6, languages=2),
    "2 languages, 12": Scenario(12, languages=2),
}
"""By name, which ends with the number of identities."""


def scenario_sets(
    held_out: Reference, scenario: Scenario, count: int, seed: int, trials: int = 1000
) -> Iterator[tuple[ScoredCell, NDArray[np.int8]]]:
    """Test sets of identities that the scorer has not seen.

    Half of the trials are of one person, every person equally often; the others are of two, drawn alike.

    Args:
        held_out: their clips, with ``model`` embeddings of the scorer.
        scenario: what the sets are like.
        count: how many; fewer identities than the scenario asks for give none.
        seed: draws identities, clips and trials.
        trials: voice-face pairs in a set.

    Yields:
        The test set and its labels (t,), 1 = same person.
    """
    rng = np.random.default_rng(seed)
    for _ in range(count):
        languages = rng.permutation(np.unique(held_out.language))[: scenario.languages]
        spoken = np.isin(held_out.language, languages)
        chosen = _identities(held_out.rows(spoken), scenario.identities, rng)
        if len(chosen) < scenario.identities:
            return
        rows_of = [np.flatnonzero(spoken & (held_out.identity == name)) for name in chosen]
        others = np.flatnonzero(spoken & ~np.isin(held_out.identity, chosen))
        rows, owner = zip(*(_side(rows_of, others, scenario, side, rng) for side in (0, 1)), strict=True)
        voice, face, labels = _trials(owner[0], owner[1], trials, rng)
        yield scored_set(held_out, (rows[0], rows[1]), voice, face), labels


def _identities(clips: Reference, count: int, rng: np.random.Generator) -> list[str]:
    """Random identities in random order, half of them women where there are enough."""
    names, first = np.unique(clips.identity, return_index=True)
    gender = clips.gender[first]
    women, others = (rng.permutation(names[of]) for of in (gender == "F", gender != "F"))
    half = max(min(count // 2, len(women)), count - len(others))
    return [str(name) for name in rng.permutation([*women[:half], *others[: count - half]])]


def _side(
    rows_of: list[NDArray[np.int64]],
    others: NDArray[np.int64],
    scenario: Scenario,
    side: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows (n,) of one modality in random order, and the number of the identity of each; -1 and below: nobody."""
    drawn = []
    for rows in rows_of:
        size: float
        if isinstance(scenario.clips, int):
            size = scenario.clips
        elif scenario.clips == "wide":
            size = np.exp(rng.uniform(0, np.log(78)))
        elif scenario.clips == "scrambled":
            size = max(min(len(rows), _LARGEST) * rng.uniform(0.2, 1), 4)
        else:
            size = 20 if scenario.clips == "balanced" else len(rows) / 6
        drawn.append(rng.permutation(rows)[: max(round(size), 1)])
    if scenario.share:
        rest = sum(map(len, drawn[1:]))
        drawn[0] = rng.permutation(rows_of[0])[: round(rest * scenario.share / (1 - scenario.share))]
    # the first identities lack faces, the last ones voices
    missing = range(scenario.only_voices) if side else range(len(drawn) - scenario.only_faces, len(drawn))
    for i in missing:
        drawn[i] = drawn[i][:0]
    rows, owner = np.concatenate(drawn), np.repeat(np.arange(len(drawn)), [len(part) for part in drawn])
    if scenario.nobody:
        noise = rng.permutation(others)[: max(round(scenario.nobody * len(rows)), 1)]
        # numbers that the other side does not have: no voice of nobody is that of a face of nobody
        nobody = -1 - side * len(others) - np.arange(len(noise))
        rows, owner = np.concatenate([rows, noise]), np.concatenate([owner, nobody])
    order = rng.permutation(len(rows))
    return rows[order], owner[order]


def _trials(
    voices: NDArray[np.int64], faces: NDArray[np.int64], trials: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int8]]:
    """Indices (t,) of voices and of faces, and labels (t,)."""
    both = np.intersect1d(voices, faces)
    labels = (np.arange(trials) % 2).astype(np.int8)
    pairs = np.stack([_drawn(np.unique(side), trials, rng) for side in (voices, faces)])
    while (again := (labels == 0) & (pairs[0] == pairs[1])).any():
        pairs[:, again] = [_drawn(np.unique(side), int(again.sum()), rng) for side in (voices, faces)]
    pairs[:, labels == 1] = rng.choice(both, int(labels.sum()))
    voice, face = (_items(side, names, rng) for side, names in zip((voices, faces), pairs, strict=True))
    return voice, face, labels


def _drawn(names: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Identities (count,), all alike; those of nobody, numbered below 0, count as one identity together."""
    weights = np.where(names < 0, 1 / max((names < 0).sum(), 1), 1.0)
    return rng.choice(names, count, p=weights / weights.sum())


def _items(owner: NDArray[np.int64], names: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """A random item (t,) of each of the identities (t,), from the identity (n,) of each item."""
    order = np.argsort(owner, kind="stable")
    first, last = (np.searchsorted(owner[order], names, side) for side in ("left", "right"))
    return order[rng.integers(first, last)]
