"""``embed`` behind its options: encoders from YAML, what is embedded already, the processes that embed the rest."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser
from lightning_utilities.core.rank_zero import rank_zero_only

from datamodules.evaluation.learnt import ENCODERS, FILE
from datamodules.io.text import plain_file
from datamodules.io.writing import together, write_json, write_text
from datamodules.media.manifest import ManifestDataModule
from datamodules.media.table import MediaTable
from datamodules.schema import MODALITIES, DataError, Modality
from experiments.config.errors import explained
from experiments.config.files import find_config, read_config
from experiments.config.renamed import Renamer
from experiments.console.arguments import command_line
from experiments.inference.feature_writer import FeatureWriter, changed_since, embed, feature_index, say
from experiments.inference.file_encoders import FileEncoder, FrozenFiles
from experiments.inference.trained import Spec, read_trained
from experiments.runs.folder import refuse_run
from experiments.runs.lock import exclusive
from lightning_modules.encoders.base import FrozenEncoder
from lightning_modules.networks.weights import learnt_by

TRAINER = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,  # a line every ten seconds says more, and suits a log
    "enable_model_summary": False,
    "use_distributed_sampler": False,
}


def incomplete(out: Path, specs: dict[Modality, Spec], tables: dict[Modality, MediaTable]) -> list[Modality]:
    """The modalities whose feature file ``out`` lacks. Existing ones must be of the same encoders and files.

    Raises:
        DataError: it holds something else.
    """
    refuse_run(out)
    before: dict[Any, Spec] = read_config(out / ENCODERS) if (out / ENCODERS).is_file() else {}
    for modality, spec in specs.items():
        if before.get(modality, spec) != spec:
            raise DataError(f"{out / ENCODERS}: its {modality}s were embedded by another encoder; choose another --out")
        path = out / f"{modality}s.npy"
        if path.is_file():
            if modality not in before:
                raise DataError(f"{path}: is a feature file that embed has not made; choose another --out")
            have = pd.read_csv(plain_file(path.with_suffix(".csv")), dtype=str, keep_default_na=False)["item"]
            if have.tolist() != feature_index(tables[modality])["item"].tolist():
                raise DataError(f"{path}: holds other files than the manifest; choose another --out")
            if (changed := changed_since(tables[modality].paths, path.stat().st_mtime_ns)).any():
                raise DataError(
                    f"{path}: {changed.sum()} of its files were written again after it, the first is "
                    f"{tables[modality].paths[changed][0]}; remove {path} to embed all {modality}s again, "
                    "or touch it if they are the same"
                )
        elif modality not in before and path.with_suffix(".csv").exists():
            raise DataError(f"{path.with_suffix('.csv')}: is a file that embed has not made; choose another --out")
    if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        with together(out):  # which leaves no empty folder where the disk is full
            write_text(out / ENCODERS, yaml.safe_dump({**before, **specs}, sort_keys=False))
    return [modality for modality in specs if not (out / f"{modality}s.npy").is_file()]


def _forget_failed_start(out: Path, new: bool) -> None:
    """Removes what names the encoders of a folder that holds no embedding, and the folder if this command made it."""
    if rank_zero_only.rank != 0 or any(out.rglob("*.npy")) or any(out.rglob("*.parquet")):  # type: ignore[attr-defined]
        return
    with contextlib.suppress(OSError):
        (out / ENCODERS).unlink(missing_ok=True)
        if new:
            shutil.rmtree(out)


def encoders_of(
    ckpt: Path | None, options: Namespace, made: Namespace, dumped: Spec, trust: bool = False
) -> dict[Modality, tuple[FileEncoder, Spec]]:
    """The encoders that were asked for, and how ``embed.yaml`` names them.

    Raises:
        DataError: none, or a model that cannot be read.
    """
    if ckpt is not None:
        path = ckpt.resolve()
        trained = read_trained(path, trust)
        return {m: (trained.encoder(m), {"trained": str(path), "modality": m}) for m in MODALITIES}
    encoders = {m: (FrozenFiles(made[m]), dumped[m]) for m in MODALITIES if options.get(m)}
    for modality, (encoder, _) in encoders.items():
        if encoder.encoder.modality != modality:
            raise DataError(f"--{modality}: {type(encoder.encoder).__name__} encodes {encoder.encoder.modality}s")
    if not encoders:
        raise DataError("an encoder is required: --voice, --face or both (--face encoder/dlib.yaml), or --ckpt RUN")
    return dict(encoders)


def make_parser() -> LightningArgumentParser:
    """The options of the encoders and the trainer."""
    parser = LightningArgumentParser(prog="experiments.run embed", parser_mode="omegaconf+", exit_on_error=False)
    for modality in MODALITIES:
        parser.add_subclass_arguments(FrozenEncoder, modality, required=False)
    parser.add_lightning_class_args(Trainer, "trainer")
    parser.set_defaults({f"trainer.{key}": value for key, value in TRAINER.items()})
    return parser


def find_encoders(argv: list[str]) -> list[str]:
    """Arguments with the encoder files found by name, here or packaged."""
    resolved = []
    for before, argument in zip(["", *argv], argv, strict=False):
        flag, equals, value = argument.partition("=")
        if before in ("--voice", "--face") and argument.endswith(".yaml"):
            argument = str(find_config(argument))
        elif flag in ("--voice", "--face") and value.endswith(".yaml"):
            argument = flag + equals + str(find_config(value))
        resolved.append(argument)
    return resolved


def embed_manifest(
    manifest: Path,
    out: Path,
    more: Sequence[str],
    root: str | None = None,
    columns: dict[str, str] | None = None,
    ckpt: Path | None = None,
    batch_size: int = 64,
    num_workers: int = 0,
    trust: bool = False,
) -> None:
    """Embeds the files of a manifest and says where the feature files are.

    Args:
        manifest: CSV or parquet.
        out: folder of the feature files.
        more: command-line arguments of encoders and trainer.
        root: folder of the media files; None = that of the manifest.
        columns: its column names by ours.
        ckpt: run folder or export of a trained model that encodes.
        batch_size: files at once on each process.
        num_workers: loader processes of each process.
        trust: as :func:`experiments.inference.trained.read_trained`.

    Raises:
        DataError: bad input.
    """
    parser, renamer = make_parser(), Renamer()
    with explained(parser):
        options = parser.parse_args([renamer.argument(text) for text in find_encoders(list(more))])
        made: Any = parser.instantiate_classes(options)
    encoders = encoders_of(ckpt, options, made, yaml.safe_load(parser.dump(options, skip_none=False)), trust)
    files = ManifestDataModule(str(manifest), ["any"], root=root, columns=columns or {}).tables
    tables = {modality: files[MODALITIES.index(modality)] for modality in encoders}
    given, out = out, out.resolve()
    new = not out.exists()
    specs = {modality: spec for modality, (_, spec) in encoders.items()}
    with contextlib.ExitStack() as held:
        todo = incomplete(out, specs, tables)
        if todo and rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            held.enter_context(exclusive(out))
            todo = incomplete(out, specs, tables)  # another command may have ended since
        missing = {modality: encoders[modality][0] for modality in todo}
        tables = {modality: tables[modality] for modality in todo}
        try:
            if todo:
                embed(FeatureWriter(missing, tables, out, batch_size, num_workers), Trainer(**made.trainer))
        except BaseException:
            _forget_failed_start(out, new)
            raise
    if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        if ckpt is not None:  # frozen encoders have not learnt from identities of voices and faces
            learnt = reduce(or_, (learnt_by(encoder) for encoder, _ in encoders.values()))
            write_json(out / FILE, learnt.plain())
        for modality in encoders:
            path = out / f"{modality}s.npy"
            rows, width = np.load(path, mmap_mode="r").shape
            say(f"{modality}s: [{{path: {path}, index: {path.with_suffix('.csv')}}}]  # {rows} x {width}")
        if len(encoders) == len(MODALITIES):
            say(f"next: {command_line('split', given)}")
