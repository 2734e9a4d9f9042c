"""Compares any voices with any faces: files are found, embedded, and every pair gets a distance."""

from __future__ import annotations

import csv
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from datamodules.evaluation.learnt import Learnt
from datamodules.io.text import shown
from datamodules.io.writing import draft_of
from datamodules.schema import MODALITIES, DataError, Modality
from datamodules.workers import make_loader
from experiments.config.files import find_config, read_config
from experiments.console.tables import NameTable, table_console
from experiments.inference.file_encoders import FileEncoder, Files, checked
from experiments.inference.given import list_files
from experiments.inference.trained import Trained, encoder_of, read_trained
from lightning_modules.base import AssociationModule
from lightning_modules.evaluation.scorer import SCORING_CHUNK

SHOWN = 20  # voices whose best matches are printed


@torch.inference_mode()
def embed_files(
    encoder: FileEncoder, paths: NDArray[np.str_], device: torch.device, batch_size: int, num_workers: int
) -> torch.Tensor:
    """Embeddings (n, d) float32 of files; only a batch of files is in memory at a time."""
    files = Files(encoder, paths)
    parts = []
    for batch in make_loader(
        DataLoader, files, num_workers, "--num_workers", batch_size=batch_size, collate_fn=lambda batch: batch
    ):
        embeddings = encoder(move_data_to_device(batch["x"], device))
        parts.append(checked(embeddings, paths[batch["index"].numpy()]))
    return torch.cat(parts)


@torch.inference_mode()
def distance_rows(model: AssociationModule, voices: torch.Tensor, faces: torch.Tensor) -> Iterator[NDArray[np.float32]]:
    """Row by row the distances (faces,) of a voice to all faces, lower = same person, in bounded memory."""
    for voice in voices:
        parts = [model.distance(voice.expand_as(part), part) for part in faces.split(SCORING_CHUNK)]
        yield torch.cat(parts).float().cpu().numpy()


class FileScorer:
    """A trained model with the encoders below it, ready to compare files.

    Args:
        trained: the model.
        encoders: ``encoder/NAME.yaml`` by modality, below a head that does not know its own encoder.

    Raises:
        DataError: an encoder is unknown, or cannot be made.
    """

    def __init__(self, trained: Trained, encoders: Mapping[Modality, str | None]) -> None:
        self.trained = trained
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = trained.model.to(self.device)
        self.encoders: dict[Modality, FileEncoder] = {}
        for modality in MODALITIES:
            name = encoders.get(modality)
            below = None if name is None else encoder_of(read_config(find_config(name)), trust=True)
            self.encoders[modality] = trained.encoder(modality, below).to(self.device).eval()

    @classmethod
    def read(cls, path: Path, encoders: Mapping[Modality, str | None], trust: bool = False) -> FileScorer:
        """Reads the model; see :func:`experiments.inference.trained.read_trained`."""
        return cls(read_trained(path, trust), encoders)

    def embed(
        self, modality: Modality, files: NDArray[np.str_], batch_size: int = 64, num_workers: int = 0
    ) -> torch.Tensor:
        """Embeddings (n, d) of files, on the CPU."""
        return embed_files(self.encoders[modality], files, self.device, batch_size, num_workers)

    def rows(self, voices: torch.Tensor, faces: torch.Tensor) -> Iterator[NDArray[np.float32]]:
        """Row by row the distances (faces,) of a voice to all faces, lower = same person."""
        return distance_rows(self.model, voices.to(self.device), faces.to(self.device))


def write_matrix(
    path: Path | None, rows: Iterator[NDArray[np.float32]], voices: NDArray[np.str_], faces: NDArray[np.str_], best: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Writes the distances as they come, and keeps the smallest of each voice.

    Args:
        path: ``.csv``: a line per voice, a column per face; ``.npz``: arrays ``distance`` (v, f), ``voices``,
            ``faces``; None = nowhere.
        rows: (f,) distances of each voice.
        voices: (v,) names of the rows.
        faces: (f,) names of the columns.
        best: k, how many matches to keep.

    Returns:
        Faces (v, k) and their distances (v, k), nearest first.
    """
    near, values = np.empty((len(voices), best), dtype=np.int64), np.empty((len(voices), best), dtype=np.float32)

    def kept() -> Iterator[NDArray[np.float32]]:
        for i, row in enumerate(rows):
            near[i] = np.argsort(row, kind="stable")[:best]
            values[i] = row[near[i]]
            yield row

    if path is None:
        for _ in kept():
            pass
    elif path.suffix == ".csv":
        with draft_of(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["voice", *faces])
            writer.writerows([voice, *(f"{x:.6f}" for x in row)] for voice, row in zip(voices, kept(), strict=True))
    else:
        _write_npz(path, kept(), voices, faces)
    return near, values


def _write_npz(
    path: Path, rows: Iterator[NDArray[np.float32]], voices: NDArray[np.str_], faces: NDArray[np.str_]
) -> None:
    """What ``np.savez`` writes, row by row."""
    header = {"descr": "<f4", "fortran_order": False, "shape": (len(voices), len(faces))}
    with draft_of(path) as draft, zipfile.ZipFile(draft, "w") as archive:
        with archive.open("distance.npy", "w", force_zip64=True) as matrix:
            np.lib.format.write_array_header_1_0(matrix, header)
            for row in rows:
                matrix.write(row.astype("<f4").tobytes())
        for name, names in (("voices", voices), ("faces", faces)):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as listed:
                np.lib.format.write_array(listed, names, allow_pickle=False)


def matches_table(
    voices: NDArray[np.str_], faces: NDArray[np.str_], near: NDArray[np.int64], values: NDArray[np.float32]
) -> NameTable:
    """The nearest faces of each voice."""
    table = NameTable(caption="distances: lower = more likely the same person; only their order means something")
    table.add_column("voice", overflow="fold")
    for k in range(near.shape[1]):
        table.add_column(f"match {k + 1}", overflow="fold")
    for voice, row, value in zip(voices[:SHOWN], near, values, strict=False):
        table.add_row(voice, *(f"{faces[j]}  {x:.3f}" for j, x in zip(row, value, strict=True)))
    return table


def score(
    path: Path,
    paths: Mapping[Modality, Sequence[Path]],
    encoders: Mapping[Modality, str | None],
    out: Path | None = None,
    best: int = 3,
    batch_size: int = 64,
    num_workers: int = 0,
    trust: bool = False,
) -> None:
    """Prints the nearest faces of each voice, and writes all distances.

    Args:
        path: run folder, checkpoint in one, or export.
        paths: files and folders by modality.
        encoders: ``encoder/NAME.yaml`` by modality, below a head that does not know its own encoder.
        out: ``.csv`` or ``.npz`` for the matrix of distances; None writes none.
        best: matches of each voice to print.
        batch_size: files at once.
        num_workers: loader processes.
        trust: as :func:`experiments.inference.trained.read_trained`.

    Raises:
        DataError: bad input.
    """
    if out is not None and out.suffix not in (".csv", ".npz"):
        raise DataError(f"--out {out}: write .csv or .npz")
    files = {m: list_files(paths[m], m) for m in MODALITIES}
    trained = read_trained(path, trust)
    warn_of_learnt(trained.model.learnt, path, files)
    scorer = FileScorer(trained, encoders)
    rows = scorer.rows(*(scorer.embed(m, files[m], batch_size, num_workers) for m in MODALITIES))
    near, values = write_matrix(out, rows, files["voice"], files["face"], max(1, min(best, len(files["face"]))))
    table_console().print(matches_table(files["voice"], files["face"], near, values))
    if len(files["voice"]) > SHOWN:
        print(f"the first {SHOWN} of {len(files['voice'])} voices; --out has all distances")
    if out is not None:
        print(f"written: {out}")


def warn_of_learnt(learnt: Learnt, model: Path, files: Mapping[Modality, NDArray[np.str_]]) -> None:
    """Warns of files whose folders have names of people that the model has learnt from, and of an unknown record.

    Nothing is measured here, so nothing is refused: a name in a path is only likely to be an identity.
    """
    folders = sorted({part for paths in files.values() for path in paths.tolist() for part in Path(path).parts[:-1]})
    if both := learnt.among(folders, ""):
        print(
            f"warning: {model} has learnt from {len(both)} of the people in these folders: {shown(both)}; their "
            "distances say nothing about how well it does on others",
            file=sys.stderr,
        )
    if learnt.unrecorded:
        print(
            f"warning: {model}: nothing says whom these weights have learnt from; the people here may be among them",
            file=sys.stderr,
        )
