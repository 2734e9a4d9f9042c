"""``export``: a trained model as safetensors, config and model card, from which ``score`` runs; ``--onnx`` as well.

``--push USER/NAME`` sends these three files to a Hugging Face hub, where ``score hf://USER/NAME`` finds them.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

from datamodules.schema import DataError
from experiments.console.arguments import CommandParser, command_line
from experiments.console.warnings import plain_warnings
from experiments.inference.hub import LOG_IN, check_target, push


def main(command: str, argv: list[str]) -> int:
    """``export RUN [--out DIR] [--onnx] [--push USER/NAME]``."""
    parser = CommandParser(command, __doc__)
    text = "run folder (its best checkpoint), or a checkpoint in one"
    parser.add_argument("run", type=Path, metavar="RUN", help=text)
    text = "folder of the export; may be left out with --push"
    parser.add_argument("--out", type=Path, metavar="DIR", help=text)
    text = "voice.onnx and face.onnx in DIR as well, checked against torch"
    parser.add_argument("--onnx", action="store_true", help=text)
    text = f"sends the export to a hub; a new repository is private. {LOG_IN[0].upper()}{LOG_IN[1:]}"
    parser.add_argument("--push", metavar="USER/NAME", help=text)
    parser.add_argument("--trust", action="store_true", help="the model may be of any class and name files")
    options = parser.parse_args(argv)
    target = None if options.push is None else check_target(options.push)
    if options.out is None and (target is None or options.onnx):
        raise DataError(f"{command}: --out is missing; name the folder that takes the files")
    # these import torch, which --help and a wrong option need not wait for
    from experiments.inference.exporting import export
    from experiments.inference.trained import read_trained

    with plain_warnings(), ExitStack() as folders:
        trained = read_trained(options.run, options.trust)
        out = options.out or Path(folders.enter_context(tempfile.TemporaryDirectory()))
        for path, difference in export(trained, out, options.onnx).items():
            print(f"{path}: onnxruntime and torch differ by at most {difference:.1e}")
        if options.out is not None:
            print(f"written: {out}")
        if target is not None:
            address = push(out, target)
            print(f"pushed: {address}")
            print("next:", command_line("score", address, "--voices", "...", "--faces", "..."))
    return 0
