"""``score``: compares any voices with any faces, files or folders, by a run folder, a checkpoint or an export."""

from __future__ import annotations

from pathlib import Path

from datamodules.io.writing import refuse_other
from datamodules.schema import MODALITIES
from experiments.console.arguments import CommandParser, add_model
from experiments.console.early import importing
from experiments.console.warnings import plain_warnings


def main(command: str, argv: list[str]) -> int:
    """``score MODEL --voices FILE|DIR... --faces FILE|DIR... [--out matrix.csv|.npz]``."""
    parser = CommandParser(command, __doc__)
    add_model(parser)
    for modality in MODALITIES:
        text = f"{modality} files and folders"
        parser.add_argument(f"--{modality}s", type=Path, nargs="+", required=True, metavar="PATH", help=text)
    parser.add_argument("--out", type=Path, help="write all distances: .csv or .npz")
    parser.add_argument("--best", type=int, default=3, help="matches of each voice to print")
    parser.add_argument("--batch_size", type=int, default=64, help="files at once")
    parser.add_argument("--num_workers", type=int, default=0, help="loader processes")
    options = parser.parse_args(argv)
    from experiments.inference.given import check_given

    if options.out is not None:
        refuse_other(options.out, "PK\x03\x04" if options.out.suffix == ".npz" else "voice,")
    from experiments.inference.hub import local_folder

    model, paths = local_folder(options.model), {modality: getattr(options, f"{modality}s") for modality in MODALITIES}
    check_given(model, paths)
    with importing():
        from experiments.inference.scoring import score  # imports torch, which what is wrong so far need not wait for
    with plain_warnings():
        score(
            model,
            paths,
            {modality: getattr(options, modality) for modality in MODALITIES},
            options.out,
            options.best,
            options.batch_size,
            options.num_workers,
            options.trust,
        )
    return 0
