"""Writes a trained model as an export: weights, config and model card, from which ``score`` runs."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import yaml
from safetensors import SafetensorError
from safetensors.torch import save_file

from datamodules.io.writing import draft_of
from datamodules.schema import DataError, one_line
from experiments.config.files import read_config
from experiments.inference.hub import CONFIG, FILES, WEIGHTS
from experiments.inference.model_card import model_card
from experiments.inference.trained import Trained
from experiments.runs.folder import HOLDS_A_RUN
from experiments.runs.saved import read_records
from lightning_modules.networks.weights import LEARNT


def export(trained: Trained, out: Path) -> None:
    """Writes ``model.safetensors``, ``config.yaml`` and the card ``README.md`` into ``out``, which is made.

    Raises:
        DataError: the model is an export already; ``out`` holds a run; the files cannot be written.
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
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as files:  # all three take their places when the last is written
        weights, config, page = (files.enter_context(draft_of(out / name)) for name in FILES)
        try:
            save_file(tensors, weights, {LEARNT: json.dumps(learnt.plain())})
        except SafetensorError as error:  # of a full disk too
            raise DataError(f"{out / WEIGHTS}: cannot be written ({one_line(error, 120)})") from error
        config.write_text(yaml.safe_dump(trained.spec, sort_keys=False), encoding="utf-8")
        page.write_text(card, encoding="utf-8")
