"""``embed``: turns the files of a manifest into feature files, over any number of processes.

The same command continues one that was stopped. Options of the encoders and of Lightning's trainer are given as in a
config: ``--voice encoder/torchaudio.yaml --voice.init_args.weights=FILE --trainer.devices=4``.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from datamodules.schema import DataError
from experiments.console.arguments import CommandParser
from experiments.console.early import importing
from experiments.console.warnings import plain_warnings


def main(command: str, argv: list[str]) -> int:
    """``embed --manifest M --voice encoder/X.yaml --face encoder/Y.yaml --out DIR [--trainer.devices N ...]``."""
    parser = CommandParser(command, __doc__)
    text = "CSV or parquet with columns voice, face, identity, language[, video, gender]"
    parser.add_argument("--manifest", type=Path, required=True, metavar="FILE", help=text)
    text = "folder of the feature files; the same again continues"
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=text)
    text = "folder of the media files; default: that of the manifest"
    parser.add_argument("--root", metavar="DIR", help=text)
    text = "column names of the manifest by ours: {voice: audio}"
    parser.add_argument("--columns", type=_columns, default={}, metavar="NAMES", help=text)
    text = "encode by a trained model: run folder or export"
    parser.add_argument("--ckpt", type=Path, metavar="MODEL", help=text)
    text = "the model of --ckpt may be of any class and name files"
    parser.add_argument("--trust", action="store_true", help=text)
    parser.add_argument("--batch_size", type=int, default=64, metavar="N", help="files at once on each process")
    parser.add_argument("--num_workers", type=int, default=0, metavar="N", help="loader processes of each process")
    group = parser.add_argument_group("encoders and trainer, without --ckpt")
    for modality in ("voice", "face"):
        text = f"frozen {modality} encoder; --{modality}.init_args.NAME=VALUE sets its options"
        group.add_argument(f"--{modality}", action="append", default=[], metavar="encoder/NAME.yaml", help=text)
    options, more = parser.parse_known_args(argv)
    # imports pandas, which --help need not wait for
    from datamodules.io.text import existing

    existing(options.manifest, "manifest")
    with importing():
        from experiments.inference.embedding import embed_manifest  # imports Lightning, which --help need not wait for

    files = [f"--{modality}={name}" for modality in ("voice", "face") for name in getattr(options, modality)]
    with plain_warnings():
        embed_manifest(
            options.manifest,
            options.out,
            files + more,
            options.root,
            options.columns,
            options.ckpt,
            options.batch_size,
            options.num_workers,
            options.trust,
        )
    return 0


def _columns(text: str) -> dict[str, str]:
    columns = yaml.safe_load(text)
    if not isinstance(columns, dict):
        raise DataError(f"--columns {text}: give names as in {{voice: audio}}")
    return columns
