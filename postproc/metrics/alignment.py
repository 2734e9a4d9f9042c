"""Alignment of languages and modalities: nearest-neighbour retrieval between embeddings, for results.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.schema import EvaluationSet, Items, Modality
from postproc.cells import unit
from postproc.metrics.ranking import average_precision

_BLOCK, _MOST = 256, 5_000  # queries compared with the gallery at once; queries used in all
Record = dict[str, Any]


def alignment(evaluation: EvaluationSet, embeddings: Mapping[Modality, NDArray[np.floating]]) -> Record:
    """Retrieval across languages and modalities, before (``input``) and after the model (``model``), by cosine.

    ``[space]["voice_to_voice"]["A->B"]``: voices in language A retrieve the same person's voices in language B.
    ``["model"]["voice_to_face"]["A"]``: voices in A retrieve faces of clips in A (of all clips where faces have no
    language). The spaces of two encoders cannot be compared, so ``input`` has no such record. Each record holds ``r1``,
    ``map``, ``chance`` (the expected ``r1`` of a blind guess), ``queries`` and ``gallery``, the number of items of the
    language in the set. Queries whose identity is not in the gallery do not count. Not from the papers.

    Args:
        evaluation: the items, with identities and languages; input embeddings are their ``features``.
        embeddings: learnt embeddings (n, d) of the items by modality.

    Returns:
        The records; a pair without common identities, or without known identities or languages, is left out.
    """
    voices, faces = evaluation.voices, evaluation.faces
    spaces: dict[str, NDArray[np.floating]] = {"model": embeddings["voice"]}
    if voices.features is not None:
        spaces = {"input": voices.features, **spaces}
    records: Record = {}
    languages = [str(language) for language in np.unique(voices.language) if language]
    by_language = {language: _known(voices) & (voices.language == language) for language in languages}
    for space, x in spaces.items():
        x = unit(np.asarray(x, dtype=np.float64))
        pairs = {}
        for a, query in by_language.items():
            for b, gallery in by_language.items():
                if a != b:
                    pairs[f"{a}->{b}"] = retrieval(
                        x[query], voices.identity[query], x[gallery], voices.identity[gallery]
                    )
        records[space] = {"voice_to_voice": _available(pairs)}
    voice, face = (unit(np.asarray(embeddings[m], dtype=np.float64)) for m in ("voice", "face"))
    if voice.shape[1] == face.shape[1]:
        pairs = {}
        for a, query in by_language.items():
            in_language = faces.language == a
            gallery = _known(faces) & (in_language if in_language.any() else np.ones(len(faces), dtype=bool))
            pairs[a] = retrieval(voice[query], voices.identity[query], face[gallery], faces.identity[gallery])
        records["model"]["voice_to_face"] = _available(pairs)
    return records


def retrieval(
    queries: NDArray[np.float64],
    query_identity: NDArray[np.str_],
    gallery: NDArray[np.float64],
    gallery_identity: NDArray[np.str_],
) -> Record | None:
    """R@1 and mAP of retrieving a query's identity from a gallery, by dot product.

    Of more than 5,000 queries a random 5,000 are used, so that the cost grows only with the gallery.

    Args:
        queries: (q, d).
        query_identity: (q,) identity of each.
        gallery: (g, d).
        gallery_identity: (g,) identity of each.

    Returns:
        ``r1`` (items tied for the nearest share it), ``map``, ``chance``, ``queries``, ``gallery``; None if the gallery
        has none of the identities.
    """
    known, shown = np.unique(gallery_identity, return_inverse=True)  # numbers compare faster than names
    chosen = np.flatnonzero(np.isin(query_identity, known))
    if not len(chosen):
        return None
    if len(chosen) > _MOST:
        chosen = np.sort(np.random.default_rng(0).choice(chosen, _MOST, replace=False))
    queries, identities = queries[chosen], np.searchsorted(known, query_identity[chosen])
    hits = prevalence = precision = 0.0
    for start in range(0, len(queries), _BLOCK):
        rows = slice(start, start + _BLOCK)
        distances = -(queries[rows] @ gallery.T)
        same = identities[rows, None] == shown
        nearest = distances == distances.min(axis=1, keepdims=True)
        hits += float(((same & nearest).sum(axis=1) / nearest.sum(axis=1)).sum())
        prevalence += float(same.mean(axis=1).sum())
        precision += sum(map(average_precision, distances, same))
    return {
        "r1": hits / len(queries),
        "map": precision / len(queries),
        "chance": prevalence / len(queries),
        "queries": len(queries),
        "gallery": len(gallery),
    }


def _known(items: Items) -> NDArray[np.bool_]:
    known: NDArray[np.bool_] = items.identity != ""
    return known


def _available(pairs: Mapping[str, Record | None]) -> Record:
    return {name: record for name, record in pairs.items() if record is not None}
