"""``export``: a trained model as safetensors, config and model card, from which ``score`` runs; ``--onnx`` as well."""

from __future__ import annotations

from pathlib import Path

from experiments.console.arguments import CommandParser
from experiments.console.warnings import plain_warnings


def main(command: str, argv: list[str]) -> int:
    """``export RUN --out DIR [--onnx]``."""
    parser = CommandParser(command, __doc__)
    text = "run folder (its best checkpoint), or a checkpoint in one"
    parser.add_argument("run", type=Path, metavar="RUN", help=text)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the export")
    text = "voice.onnx and face.onnx as well, checked against torch"
    parser.add_argument("--onnx", action="store_true", help=text)
    parser.add_argument("--trust", action="store_true", help="the model may be of any class and name files")
    options = parser.parse_args(argv)
    # these import torch, which --help and a wrong option need not wait for
    from experiments.inference.exporting import export
    from experiments.inference.trained import read_trained

    with plain_warnings():
        trained = read_trained(options.run, options.trust)
        export(trained, options.out)
        if options.onnx:
            from experiments.inference.onnx import export_onnx  # an optional extra, and slow to import

            for path, difference in export_onnx(trained, options.out).items():
                print(f"{path}: onnxruntime and torch differ by at most {difference:.1e}")
    print(f"written: {options.out}")
    return 0
