"""Run folders as a test leaves them, without a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

from datamodules.schema import Cell, EvaluationSet, Items, Trials
from experiments.runs.results import write_embeddings, write_results, write_scores
from experiments.runs.saved import SavedRun

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
    for name, spoken in sorted(cells.items(), key=lambda cell: cell[1]):  # heard and unheard may change places
        rows = np.flatnonzero(language == spoken)[1:]
        v, f = (rows[index.ravel()] for index in np.indices((len(rows), len(rows))))
        labels = (person[v] == person[f]).astype(np.int8)
        kept = np.sort(rng.choice(len(v), 300, replace=False))
        keys = np.array([f"{spoken[:1]}{i * 2654435761 % 2**28:07x}" for i in kept])
        v, f, labels = v[kept], f[kept], labels[kept]
        source = f"{spoken}_test.txt"
        voices, faces = items["voice"].ids[v], items["face"].ids[f]
        built[name] = Cell(name, spoken, Trials(keys, voices, faces, labels if labelled else None, source), v, f)
    return EvaluationSet(items["voice"], items["face"], {name: built[name] for name in cells})


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
    halved = {name: values / 2 for name, values in scores.items()} if refined else {}
    run = SavedRun(folder, evaluation, scores, halved, embeddings)
    write_scores(run)
    write_embeddings(run)
    return folder


def save_tested(
    folder: Path,
    train: str,
    network: str,
    fold: int,
    tau: float = 1.0,
    seed: int = 0,
    root: str = "data/mavceleb",
    lists: str = "v1_fold{fold}_{language}.csv",
    cells: dict[str, str] | None = None,
) -> Path:
    """A whole run folder of SCC with chaining-cluster: config, results, traces with clusters, history, environment.

    Runs of one fold and ``root`` have the same trials, whichever language they train on.
    """
    cells = cells or {"heard": train, "unheard": "Urdu" if train == "English" else "English"}
    evaluation = world(cells, seed=fold + 100 * sum(map(ord, root)))
    save_run(folder, evaluation)
    embeddings = embeddings_of(evaluation)
    scores, refined, traces = {}, {}, {}
    for name, cell in evaluation.cells.items():
        v, f = embeddings["voice"][cell.voice_index], embeddings["face"][cell.face_index]
        scores[name] = 1 - np.einsum("td,td->t", v, f).astype(float)
        scores[name] += 0.3 * bool(seed) * np.random.default_rng(seed).normal(size=len(v))
        refined[name] = scores[name] - 0.4 * cell.trials.labels
        traces[name] = [_trace(evaluation, cell)]
    write_results(SavedRun(folder, evaluation, scores, refined, embeddings), traces, {})
    config = {
        "seed_everything": seed,
        "model": {
            "class_path": "lightning_modules.SCC",
            "init_args": {"network": {"class_path": f"lightning_modules.{network}"}, "tau": tau},
        },
        "data": {
            "class_path": "datamodules.FeatureDataModule",
            "init_args": {
                "root": root,
                "train_languages": [train],
                "test": {name: lists.format(fold=fold, language=language) for name, language in cells.items()},
            },
        },
        "vars": {"fold": fold, "version": "v1"},
        "postproc": {"steps": [{"class_path": "postproc.ChainingCluster", "init_args": {"alpha": 0.5}}]},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    rows = "".join(f"{epoch},{10 / (epoch + 1)},{0.5 - 0.01 * epoch}\n" for epoch in range(8))
    (folder / "history.csv").write_text(f"epoch,train/loss,val/eer\n{rows}")
    (folder / "environment.json").write_text('{"git": {"commit": "0123456789abcdef", "dirty": false}, "cpus": 2}')
    return folder


def _trace(evaluation: EvaluationSet, cell: Cell) -> dict[str, object]:
    """What chaining-cluster leaves, with the true genders and people as clusters."""
    assignment = {}
    for modality, index in (("voice", cell.voice_index), ("face", cell.face_index)):
        items, rows = evaluation.items(modality), np.unique(index)
        pair = [np.unique(truth[rows], return_inverse=True)[1] for truth in (items.gender, items.identity)]
        assignment[modality] = np.stack(pair, axis=1).tolist()
    curve = {"chosen": 3, "total_distance": {str(k): 30 / k for k in range(1, 9)}}
    elbow = {f"{modality} gender {gender}": curve for modality in ("voice", "face") for gender in (0, 1)}
    similarity = [np.eye(3).tolist(), np.eye(3).tolist()]
    return {"step": "ChainingCluster", "assignment": assignment, "elbow": elbow, "similarity": similarity}
