"""Run folders as a test leaves them, without a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datamodules.schema import Cell, EvaluationSet, Items, Trials
from experiments.results import write_embeddings, write_scores

PEOPLE, CLIPS, WIDTH = 6, 8, 16


def world(cells: dict[str, str], labelled: bool = True, seed: int = 0) -> EvaluationSet:
    """Six people whose voices and faces share a space, and cells by name with their language.

    Every cell pairs all clips of its language, except that it leaves out the first clip of each side, so that its own
    items are not all items. Keys are a hash of language and trial, as in the challenges.
    """
    rng = np.random.default_rng(seed)
    languages = sorted(set(cells.values()))
    person = np.tile(np.repeat(np.arange(PEOPLE), CLIPS), len(languages))
    language = np.repeat(languages, PEOPLE * CLIPS)
    traits = rng.normal(size=(PEOPLE, WIDTH))
    items = {}
    for modality in ("voice", "face"):
        x = traits[person] + rng.normal(size=(len(person), WIDTH))
        ids = np.array([f"{modality}/{i:03d}" for i in range(len(person))])
        names = np.array([f"id{p:02d}" for p in person])
        gender = np.where(person % 2 == 0, "F", "M")
        items[modality] = Items(ids, names, language, gender, np.full(len(person), ""), x.astype(np.float32))
    built = {}
    for name, spoken in cells.items():
        rows = np.flatnonzero(language == spoken)[1:]
        v, f = (rows[index.ravel()] for index in np.indices((len(rows), len(rows))))
        labels = (person[v] == person[f]).astype(np.int8)
        kept = np.sort(rng.choice(len(v), 300, replace=False))
        keys = np.array([f"{spoken[0]}{i * 2654435761 % 2**28:07x}" for i in kept])
        v, f, labels = v[kept], f[kept], labels[kept]
        source = f"{spoken}_test.txt"
        voices, faces = items["voice"].ids[v], items["face"].ids[f]
        built[name] = Cell(name, spoken, Trials(keys, voices, faces, labels if labelled else None, source), v, f)
    return EvaluationSet(items["voice"], items["face"], built)


def embeddings_of(evaluation: EvaluationSet) -> dict[str, np.ndarray]:
    """What a model would give: a rotation of the features, at unit length, float32."""
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(WIDTH, WIDTH)))[0]
    found = {}
    for modality in ("voice", "face"):
        x = evaluation.items(modality).features @ turn
        found[modality] = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    return found


def save_run(folder: Path, evaluation: EvaluationSet, refined: bool = True) -> Path:
    """Writes scores.parquet and embeddings; refined scores are halved raw ones."""
    folder.mkdir(parents=True, exist_ok=True)
    embeddings = embeddings_of(evaluation)
    scores = {
        name: 1
        - np.einsum("td,td->t", embeddings["voice"][c.voice_index], embeddings["face"][c.face_index]).astype(float)
        for name, c in evaluation.cells.items()
    }
    write_scores(
        folder / "scores.parquet", evaluation, scores, {k: v / 2 for k, v in scores.items()} if refined else {}
    )
    write_embeddings(folder / "embeddings", evaluation, embeddings)
    return folder
