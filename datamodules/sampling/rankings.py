"""Draws lists for tests that rank candidates for a probe: 1:N matching and retrieval."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import DataError, Items, Modality, RankingList, Rows


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
    """Draws a 1:N matching list: a probe, a candidate of the same identity, and N - 1 of other identities.

    The identities take turns as the probe. Their clips and the other identities are drawn uniformly.

    Args:
        voices: all voices, with identities.
        faces: all faces, with identities.
        probe: modality of the probes.
        candidates: N.
        probes: number of probes.
        seed: the same seed gives the same list.
        same_gender: all candidates have the probe's gender, so gender does not help.
        cross_video: the matching candidate comes from another video than the probe; identities with one video are not
            used as probes.

    Raises:
        DataError: N < 2, no probe, too few identities, or unknown genders or videos where they are needed.
    """
    if candidates < 2 or probes < 1:
        raise DataError(f"1:{candidates} matching of {probes} probes: needs at least 2 candidates and 1 probe")
    queries, gallery = (voices, faces) if probe == "voice" else (faces, voices)
    identities = _in_both(voices, faces)
    rivals = _rivals(identities, gallery, candidates, same_gender)
    possible = [_positives(queries, gallery, identity, cross_video) for identity in identities]
    turns = np.flatnonzero([len(probe_rows) > 0 for probe_rows, _ in possible])
    if not len(turns):
        raise DataError("matching: no identity has a voice and a face" + " from different videos" * cross_video)
    clips = [np.flatnonzero(gallery.identity == identity) for identity in identities]
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(turns) for _ in range(-(-probes // len(turns)))])[:probes]
    rows = np.empty((probes, 1 + candidates), dtype=np.int64)
    for i, turn in enumerate(order):
        probe_rows, matching_rows = possible[turn]
        pick = rng.integers(len(probe_rows))
        others = rng.choice(rivals[turn], candidates - 1, replace=False)
        rows[i, 0] = probe_rows[pick]
        for place, choice in enumerate([matching_rows[pick], *(clips[other] for other in others)], 1):
            rows[i, place] = choice[rng.integers(len(choice))]
    source = f"1:{candidates} matching from a {probe}, made with seed {seed}"
    return RankingList(probe, np.asarray(queries.ids)[rows[:, 0]], np.asarray(gallery.ids)[rows[:, 1:]], source)


def _in_both(voices: Items, faces: Items) -> NDArray[np.str_]:
    """The sorted identities that have voices and faces."""
    identities: NDArray[np.str_] = np.intersect1d(voices.identity, faces.identity)
    named: NDArray[np.str_] = identities[identities != ""]
    return named


def _rivals(identities: NDArray[np.str_], items: Items, candidates: int, same_gender: bool) -> list[Rows]:
    """For each identity the positions in ``identities`` of those that may be its other candidates."""
    gender = np.full(len(identities), "")
    if same_gender:
        gender = np.array([items.gender[items.identity == identity][0] for identity in identities])
        if (gender == "").any():
            unknown = identities[gender == ""][0]
            raise DataError(f"matching within a gender: the gender of {unknown} is unknown; set data.genders")
    rivals = [np.flatnonzero((gender == gender[i]) & (identities != name)) for i, name in enumerate(identities)]
    for identity, others in zip(identities, rivals, strict=True):
        if len(others) < candidates - 1:
            of_gender = " of the same gender" if same_gender else ""
            raise DataError(
                f"1:{candidates} matching needs {candidates - 1} other identities{of_gender}; "
                f"{identity} has {len(others)}"
            )
    if not len(identities):
        raise DataError(f"1:{candidates} matching: no identity has both voices and faces")
    return rivals


def _positives(queries: Items, gallery: Items, identity: str, cross_video: bool) -> tuple[Rows, list[Rows]]:
    """Rows of an identity's possible probes, and for each the rows of its possible matching candidates."""
    probes, candidates = np.flatnonzero(queries.identity == identity), np.flatnonzero(gallery.identity == identity)
    if not cross_video:
        return probes, [candidates] * len(probes)
    matches = [
        candidates[(gallery.video[candidates] != queries.video[row]) & (gallery.video[candidates] != "")]
        for row in probes
    ]
    kept = [i for i, match in enumerate(matches) if len(match) and queries.video[probes[i]] != ""]
    return probes[kept], [matches[i] for i in kept]


def make_retrieval(voices: Items, faces: Items, probe: Modality) -> RankingList:
    """Makes a retrieval list: every item of one modality is a query, every item of the other is in the gallery.

    Only identities with both voices and faces are used.

    Raises:
        DataError: there are fewer than two such identities.
    """
    identities = _in_both(voices, faces)
    if len(identities) < 2:
        raise DataError(f"retrieval needs two identities with voices and faces; there are {len(identities)}")
    sides = (voices, faces) if probe == "voice" else (faces, voices)
    queries, gallery = (np.asarray(items.ids)[np.isin(items.identity, identities)] for items in sides)
    return RankingList(probe, queries, gallery, f"retrieval from a {probe} over {len(identities)} identities")
