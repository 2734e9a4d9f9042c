"""Every reader of files that people bring, fed by the bytes of one file: only a DataError may come out."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datamodules.datasets.mavceleb.layout import read_training_list
from datamodules.features.table import open_feature_file
from datamodules.io.feature_files import FeatureFile, read_feature_file
from datamodules.io.identities import read_genders, read_identities
from datamodules.io.media import read_audio, read_image
from datamodules.io.trials import read_trials
from datamodules.media.manifest import ManifestDataModule
from datamodules.schema import DataError
from experiments.config.build import read_steps
from experiments.config.files import read_config
from experiments.config.overrides import expand_arguments
from experiments.submission.check import check

INDEX = b"item,identity,language,video,gender\na,p1,English,v,F\nb,p1,English,v,F\nc,p2,Urdu,w,M\n"
X = np.arange(6, dtype=np.float32).reshape(3, 2) / 7


@dataclass(frozen=True)
class Reader:
    """One kind of file.

    Attributes:
        name: of the file, with the suffix that says its kind.
        seeds: contents that are right, or nearly.
        read: what a user's file goes through; given the path.
    """

    name: str
    seeds: tuple[bytes, ...]
    read: Callable[[Path], Any]


def _bytes(write: Callable[[io.BytesIO], Any]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def _npz(folder_file: io.BytesIO) -> None:
    table = {
        "identity": ["p1", "p1", "p2"],
        "language": ["E", "E", "U"],
        "video": ["v", "v", "w"],
        "item": ["0", "1", "2"],
    }
    np.savez(folder_file, x=X, **{name: np.array(values) for name, values in table.items()})


def _archive(folder_file: io.BytesIO) -> None:
    with zipfile.ZipFile(folder_file, "w") as archive:
        for language in ("English", "Urdu"):
            for cell in ("heard", "unheard"):
                archive.writestr(f"sub_score_{language}_{cell}.txt", "k0 0.1\nk1 0.25\nk2 -1e-3\n")


def _beside(path: Path, name: str, content: bytes) -> str:
    other = path.with_name(name)
    other.write_bytes(content)
    return str(other)


def _submission(path: Path) -> None:
    lists = [_beside(path, f"{language}_test.txt", b"k0 a b\nk1 c d\nk2 e f\n") for language in ("English", "Urdu")]
    check(path, lists if path.suffix == ".zip" else lists[:1], None, None, None)


def _npy(path: Path) -> None:
    open_feature_file(FeatureFile(str(path), _beside(path, "index.csv", INDEX)), "voice")


def _index(path: Path) -> None:
    buffer = path.with_name("x.npy")
    np.save(buffer, X)
    read_feature_file(FeatureFile(str(buffer), str(path)), "voice")


def _manifest(path: Path) -> None:
    for name in ("a.wav", "b.wav", "a.jpg", "b.jpg"):
        path.with_name(name).touch()
    ManifestDataModule(str(path), ["English"], val_identities=0).training_set()


LIST = b"key,voice,face,label\nk0,a.wav,b.jpg,1\nk1,c/d.wav,e.jpg,0\n"
MANIFEST = b"voice,face,identity,language,split\na.wav,a.jpg,p1,English,train\nb.wav,b.jpg,p2,English,train\n"
CONFIG = b"seed_everything: 0\nvars: {people: 16}\nmodel: model/scc.yaml\ntrainer: {max_epochs: 2}\nlist: [1, null]\n"
STEPS = b"steps:\n  - class_path: postproc.ChainingCluster\n    init_args: {alpha: 0.3, t_m: {quantile: 0.9}}\n"

READERS = {
    "trial list": Reader(
        "list.csv", (LIST, b"k0 a.wav b.jpg\r\nk1  c.wav d.jpg", b"0 1 a.wav b.jpg\n1 0 c.wav d.jpg\n"), read_trials
    ),
    "labels": Reader(
        "labels.txt", (b"1\n0\n", b"k0 1\nk1 0\n"),
        lambda path: read_trials(_beside(path, "list.txt", b"k0 a b\nk1 c d\n"), path),
    ),
    "training list": Reader(
        "English_train.txt", (b"v1/id0001/English/v/0.wav v1/id0001/English/w/0.jpg\n",),
        lambda path: read_training_list(path, "English"),
    ),
    "manifest": Reader("manifest.csv", (MANIFEST,), _manifest),
    "parquet manifest": Reader(
        "manifest.parquet", (_bytes(lambda f: pd.read_csv(io.BytesIO(MANIFEST)).to_parquet(f)),), _manifest
    ),
    "npz file": Reader("file.npz", (_bytes(_npz),), lambda path: open_feature_file(str(path), "voice")),
    "npy file": Reader("file.npy", (_bytes(lambda f: np.save(f, X)),), _npy),
    "index": Reader("m.csv", (INDEX, INDEX.replace(b",", b"\t")), _index),
    "csv file": Reader(
        "file.csv", (b"1.5,2,0\n0.25,-1e-3,1\n", b"1,2,id7\n"), lambda path: open_feature_file(str(path), "face")
    ),
    "identities": Reader(
        "folds.json", (b'{"0": ["p1", "p2"], "1": []}', b'["p1"]'), lambda path: read_identities(f"{path}#0", "people")
    ),
    "genders": Reader("genders.csv", (b"identity,gender\np1,m\np2,Female\n",), lambda path: read_genders(str(path))),
    "score file": Reader("scores.txt", (b"k0 0.1\nk1 0.25\nk2 -1e-3\n",), _submission),
    "archive": Reader("s.zip", (_bytes(_archive),), _submission),
    "config": Reader("config.yaml", (CONFIG, STEPS), lambda path: expand_arguments(["--config", str(path)])),
    "group file": Reader("model.yaml", (CONFIG,), read_config),
    "refinement": Reader("postproc.yaml", (STEPS,), read_steps),
    "audio": Reader("a.wav", (), lambda path: read_audio(path, 400, [0.0, 1.0])),
    "image": Reader("a.jpg", (), read_image),
}  # fmt: skip


def attempt(reader: Reader, content: bytes, folder: Path) -> bool:
    """Whether the reader takes the content; a refusal is one line that is a DataError.

    Raises:
        Exception: any other: what the fuzzer looks for.
    """
    path = folder / reader.name
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            reader.read(path)
        except DataError as error:
            if "\n" in str(error):
                raise AssertionError(f"more than one line: {str(error)!r}") from error
            return False
    return True
