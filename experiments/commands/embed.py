"""``embed``: turns the files of a manifest into feature files, over any number of processes; run again, it goes on."""

from __future__ import annotations

import sys
from argparse import ArgumentError
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from datamodules.media.manifest import ManifestDataModule
from datamodules.media.table import MediaTable
from datamodules.schema import MODALITIES, DataError, Modality
from experiments.config.errors import explain, root_cause
from experiments.config.files import find_config, read_config
from experiments.console.warnings import plain_warnings
from experiments.inference.file_encoders import FileEncoder, FrozenFiles
from experiments.inference.pack_maker import PackMaker, embed, pack_index, say
from experiments.inference.trained import ENCODERS, Spec, read_trained
from lightning_modules.encoders.base import FrozenEncoder

TRAINER = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,  # a line every ten seconds says more, and suits a log
    "enable_model_summary": False,
    "use_distributed_sampler": False,
}


def incomplete(out: Path, specs: dict[Modality, Spec], tables: dict[Modality, MediaTable]) -> list[Modality]:
    """The modalities whose pack ``out`` lacks; what it has must be by the same encoders and of the same files.

    Raises:
        DataError: it holds something else.
    """
    before: dict[Any, Spec] = read_config(out / ENCODERS) if (out / ENCODERS).is_file() else {}
    for modality, spec in specs.items():
        if before.get(modality, spec) != spec:
            raise DataError(f"{out / ENCODERS}: the {modality}s were embedded otherwise; choose another --out")
        pack = out / f"{modality}s.npy"
        if pack.is_file():
            have = pd.read_csv(pack.with_suffix(".csv"), dtype=str, keep_default_na=False)["item"]
            if have.tolist() != pack_index(tables[modality])["item"].tolist():
                raise DataError(f"{pack}: holds other files than the manifest; choose another --out")
    if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        out.mkdir(parents=True, exist_ok=True)
        (out / ENCODERS).write_text(yaml.safe_dump({**before, **specs}, sort_keys=False), encoding="utf-8")
    return [modality for modality in specs if not (out / f"{modality}s.npy").is_file()]


def encoders_of(options: Namespace, made: Namespace, dumped: Spec) -> dict[Modality, tuple[FileEncoder, Spec]]:
    """The encoders that were asked for, and how ``embed.yaml`` names them.

    Raises:
        DataError: none, or a model that cannot be read.
    """
    if options.ckpt is not None:
        path = Path(options.ckpt).resolve()
        trained = read_trained(path)
        return {m: (trained.encoder(m), {"trained": str(path), "modality": m}) for m in MODALITIES}
    found = {m: (FrozenFiles(made[m]), dumped[m]) for m in MODALITIES if options.get(m)}
    for modality, (encoder, _) in found.items():
        if encoder.encoder.modality != modality:
            raise DataError(f"--{modality}: {type(encoder.encoder).__name__} encodes {encoder.encoder.modality}s")
    if not found:
        raise DataError("by which encoder? Give --voice, --face or both (--face encoder/dlib.yaml), or --ckpt RUN")
    return dict(found)


def make_parser(command: str) -> LightningArgumentParser:
    """The options of ``embed``."""
    parser = LightningArgumentParser(
        prog=f"experiments.run {command}", description=__doc__, parser_mode="omegaconf+", exit_on_error=False
    )
    text = "CSV or parquet with columns voice, face, identity, language[, video, gender]"
    parser.add_argument("--manifest", type=str, required=True, help=text)
    parser.add_argument("--out", type=str, required=True, help="folder of the packs; the same again goes on")
    parser.add_argument("--root", type=str | None, default=None, help="folder of the files; default: the manifest's")
    parser.add_argument("--columns", type=dict[str, str], default={}, help="its column names by ours: {voice: audio}")
    parser.add_argument("--ckpt", type=str | None, default=None, help="encode by a trained model: run folder or export")
    for modality in MODALITIES:
        parser.add_subclass_arguments(FrozenEncoder, modality, required=False, help=f"{modality} encoder/NAME.yaml")
    parser.add_argument("--batch_size", type=int, default=64, help="files at once on each process")
    parser.add_argument("--num_workers", type=int, default=0, help="loader processes of each process")
    parser.add_lightning_class_args(Trainer, "trainer")
    parser.set_defaults({f"trainer.{key}": value for key, value in TRAINER.items()})
    return parser


def find_encoders(argv: list[str]) -> list[str]:
    """Arguments with the encoder files found by name, here or packaged."""
    found = []
    for before, argument in zip(["", *argv], argv, strict=False):
        flag, equals, value = argument.partition("=")
        if before in ("--voice", "--face") and argument.endswith(".yaml"):
            argument = str(find_config(argument))
        elif flag in ("--voice", "--face") and value.endswith(".yaml"):
            argument = flag + equals + str(find_config(value))
        found.append(argument)
    return found


def run(command: str, argv: list[str]) -> None:
    """Parses, embeds, says where the packs are.

    Raises:
        DataError: bad input.
    """
    parser = make_parser(command)
    try:
        options = parser.parse_args(find_encoders(argv))
        made: Any = parser.instantiate_classes(options)
    except ArgumentError as error:
        raise DataError(explain(error, [action.dest for action in parser._actions])) from error
    except ValueError as error:  # an option its class refuses; the parser wraps what the class said
        raise DataError(str(root_cause(error))) from error
    found = encoders_of(options, made, yaml.safe_load(parser.dump(options, skip_none=False)))
    files = ManifestDataModule(options.manifest, ["any"], root=options.root, columns=options.columns).tables
    tables = {modality: files[MODALITIES.index(modality)] for modality in found}
    out = Path(options.out).resolve()
    todo = incomplete(out, {modality: spec for modality, (_, spec) in found.items()}, tables)
    if todo:
        encoders = {modality: found[modality][0] for modality in todo}
        tables = {modality: tables[modality] for modality in todo}
        embed(PackMaker(encoders, tables, out, options.batch_size, options.num_workers), Trainer(**made.trainer))
    if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        for modality in found:
            pack = out / f"{modality}s.npy"
            rows, width = np.load(pack, mmap_mode="r").shape
            say(f"{modality}s: [{{path: {pack}, index: {pack.with_suffix('.csv')}}}]  # {rows} x {width}")


@plain_warnings()
def main(command: str, argv: list[str]) -> int:
    """``embed --manifest M --voice encoder/X.yaml --face encoder/Y.yaml --out DIR [--trainer.devices N ...]``."""
    try:
        run(command, argv)
    except (DataError, MisconfigurationException) as error:
        # a loader process sends its traceback along
        print(f"error: {explain(error).rpartition('DataError: ')[2]}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename or 'embed'}: {error.strerror}", file=sys.stderr)
        return 2
    return 0
