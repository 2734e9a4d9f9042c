"""Writes a trained model as an export: weights, config and model card, from which ``score`` runs."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from safetensors import SafetensorError
from safetensors.torch import save_file

from datamodules.io.writing import draft_of, remove_file, together, write_text
from datamodules.schema import MODALITIES, DataError
from experiments.config.files import read_config
from experiments.inference.hub import CARD, CONFIG, WEIGHTS
from experiments.inference.model_card import model_card
from experiments.inference.trained import Trained
from experiments.runs.folder import HOLDS_A_RUN
from experiments.runs.records import read_records
from lightning_modules.networks.weights import LEARNT


def export(trained: Trained, out: Path, onnx: bool = False) -> dict[Path, float]:
    """Writes ``model.safetensors``, ``config.yaml`` and the card ``README.md`` into ``out``, which is made.

    They replace an earlier export there as a whole.

    Args:
        trained: the model of a run.
        out: folder of the export.
        onnx: whether to write both branches as ONNX files, too.

    Returns:
        The ONNX files, and how much onnxruntime and torch differ in them.

    Raises:
        DataError: the model is an export already; ``out`` holds a run; the files cannot be written, or an ONNX file
            differs too much.
    """
    if trained.run is None:
        raise DataError(f"{trained.source}: is an export already; name the run folder it was made of")
    results = trained.run / "results.json"
    measured = read_records(results) if results.is_file() else {}
    learnt = trained.model.learnt
    tensors = {key: value.contiguous() for key, value in trained.model.state_dict().items()}
    card = model_card(trained.spec, read_config(trained.run / CONFIG), measured, learnt)
    if held := [name for name in HOLDS_A_RUN if name != CONFIG and (out / name).exists()]:
        raise DataError(f"--out {out}: holds a run ({', '.join(held)}); choose another folder")
    if not (out / WEIGHTS).exists() and (held := [name for name in (CONFIG, CARD) if (out / name).exists()]):
        raise DataError(f"--out {out}: holds other files of these names ({', '.join(held)}); choose another folder")
    with together(out):
        if onnx:
            from experiments.inference.onnx import export_onnx  # an optional extra, and slow to import

            differences = export_onnx(trained, out)
        else:
            differences = {}
            for modality in MODALITIES:
                remove_file(out / f"{modality}.onnx")  # of an earlier export
        write_text(out / CONFIG, yaml.safe_dump(trained.spec, sort_keys=False))
        write_text(out / CARD, card)
        with draft_of(out / WEIGHTS, (SafetensorError,)) as draft:  # the last: with it, it is an export
            save_file(tensors, draft, {LEARNT: json.dumps(learnt.plain())})
    return differences
