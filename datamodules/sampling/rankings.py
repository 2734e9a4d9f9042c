"""Tests that rank candidates for a probe: 1:N matching and retrieval. Lists read, made, and resolved to items."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import DataError, Items, Modality, RankingList, Rows

pass


def make_matching(
    voices: Items,
    faces: Items,
    probe: Modality,
    candidates: int = 2,
    probes: int = 10_000,
    seed: int = 0,
    same_gender: bool = False,
    cross_video: bool = False,
) -> RankingList:
    """Draws 1:N matching: a probe, a candidate of the same person, and one of each of N - 1 other people.

    People take turns as the probe; their clips, and who stands against them, are drawn uniformly.

    Args:
        voices: with identities.
        faces: with identities.
        probe: modality of the probes.
        candidates: N.
        probes: how many.
        seed: the same seed gives the same list.
        same_gender: all candidates are of the probe's gender, so that gender does not help.
        cross_video: the right candidate is from another video than the probe; who has one video is nobody's probe.

    Raises:
        DataError: N < 2, no probe, too few people, or no genders or videos where they are needed.
    """
    if candidates < 2 or probes < 1:
        raise DataError(f"1:{candidates} matching of {probes} probes: needs 2 candidates and 1 probe at least")
    own, other = (voices, faces) if probe == "voice" else (faces, voices)
    people = np.intersect1d(own.identity, other.identity)
    people = people[people != ""]
    rivals = _rivals(people, other, candidates, same_gender)
    possible = [_positives(own, other, person, cross_video) for person in people]
    turns = np.flatnonzero([len(probe_rows) > 0 for probe_rows, _ in possible])
    if not len(turns):
        raise DataError("matching: nobody has a voice and a face" + " from different videos" * cross_video)
    clips = [np.flatnonzero(other.identity == person) for person in people]
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(turns) for _ in range(-(-probes // len(turns)))])[:probes]
    rows = np.empty((probes, 1 + candidates), dtype=np.int64)
    for i, person in enumerate(order):
        probe_rows, right_rows = possible[person]
        pick = rng.integers(len(probe_rows))
        against = rng.choice(rivals[person], candidates - 1, replace=False)
        rows[i, 0] = probe_rows[pick]
        for place, choice in enumerate([right_rows[pick], *(clips[rival] for rival in against)], 1):
            rows[i, place] = choice[rng.integers(len(choice))]
    source = f"1:{candidates} matching from a {probe}, made with seed {seed}"
    return RankingList(probe, np.asarray(own.ids)[rows[:, 0]], np.asarray(other.ids)[rows[:, 1:]], source)


def _rivals(people: NDArray[np.str_], items: Items, candidates: int, same_gender: bool) -> list[Rows]:
    """Places in ``people`` of those who may stand against each of them."""
    gender = np.full(len(people), "")
    if same_gender:
        gender = np.array([items.gender[items.identity == person][0] for person in people])
        if (gender == "").any():
            raise DataError(f"matching within a gender: that of {people[gender == ''][0]} is unknown; set data.genders")
    rivals = [np.flatnonzero((gender == gender[i]) & (people != person)) for i, person in enumerate(people)]
    for person, others in zip(people, rivals, strict=True):
        if len(others) < candidates - 1:
            whom = " of the same gender" if same_gender else ""
            raise DataError(f"1:{candidates} matching: {len(others)} other people{whom} stand against {person}")
    if not len(people):
        raise DataError(f"1:{candidates} matching: nobody has both voices and faces")
    return rivals


def _positives(own: Items, other: Items, person: str, cross_video: bool) -> tuple[Rows, list[Rows]]:
    """Rows of a person's possible probes, and for each the rows of what may be its right candidate."""
    probes, right = np.flatnonzero(own.identity == person), np.flatnonzero(other.identity == person)
    if not cross_video:
        return probes, [right] * len(probes)
    matches = [right[(other.video[right] != own.video[row]) & (other.video[right] != "")] for row in probes]
    kept = [i for i, match in enumerate(matches) if len(match) and own.video[probes[i]] != ""]
    return probes[kept], [matches[i] for i in kept]


def make_retrieval(voices: Items, faces: Items, probe: Modality) -> RankingList:
    """Every item of one modality looks for its person among all items of the other, over people who have both.

    Raises:
        DataError: fewer than two such people.
    """
    own, other = (voices, faces) if probe == "voice" else (faces, voices)
    people = np.intersect1d(own.identity, other.identity)
    people = people[people != ""]
    if len(people) < 2:
        raise DataError(f"retrieval needs two people with voices and faces; there are {len(people)}")
    queries, gallery = (np.asarray(items.ids)[np.isin(items.identity, people)] for items in (own, other))
    return RankingList(probe, queries, gallery, f"retrieval from a {probe} over {len(people)} people")
