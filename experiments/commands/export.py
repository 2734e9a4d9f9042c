"""``export``: a trained model as safetensors, config and model card; ``score`` runs from it alone. ``--onnx`` too."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import yaml
from safetensors.torch import save_file

from datamodules.schema import DataError
from experiments.config.files import read_config
from experiments.console.warnings import plain_warnings
from experiments.inference.model_card import model_card
from experiments.inference.trained import CONFIG, WEIGHTS, Trained, read_trained


def export(trained: Trained, out: Path) -> None:
    """Writes ``model.safetensors``, ``config.yaml`` and the card ``README.md`` into ``out``, which is made.

    Raises:
        DataError: the model is an export already.
    """
    if trained.run is None:
        raise DataError(f"{trained.source}: is an export already; name the run folder it was made of")
    results = trained.run / "results.json"
    measured = json.loads(results.read_text(encoding="utf-8")) if results.is_file() else {}
    out.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in trained.model.state_dict().items()}, out / WEIGHTS)
    (out / CONFIG).write_text(yaml.safe_dump(trained.spec, sort_keys=False), encoding="utf-8")
    card = model_card(trained.spec, read_config(trained.run / CONFIG), measured)
    (out / "README.md").write_text(card, encoding="utf-8")


def main(command: str, argv: list[str]) -> int:
    """``export RUN --out DIR [--onnx]``."""
    parser = argparse.ArgumentParser(prog=f"experiments.run {command}", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="run folder (its best checkpoint), or a checkpoint in one"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the export")
    text = "voice.onnx and face.onnx as well, checked against torch"
    parser.add_argument("--onnx", action="store_true", help=text)
    options = parser.parse_args(argv)
    try:
        with plain_warnings():
            trained = read_trained(options.run)
            export(trained, options.out)
            if options.onnx:
                from experiments.inference.onnx import export_onnx  # an extra, and slow to import

                for path, difference in export_onnx(trained, options.out).items():
                    print(f"{path}: onnxruntime and torch differ by at most {difference:.1e}")
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    print(f"written: {options.out}")
    return 0
