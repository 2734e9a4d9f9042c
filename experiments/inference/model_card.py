"""The model card of an export: what it is, what it was trained on, what was measured, what it must not be used for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment

from datamodules.evaluation.learnt import Learnt
from datamodules.schema import visible
from experiments.console.tables import percent
from experiments.runs.records import NOT_CELLS
from postproc.metrics.calibration import CALIBRATION

MARKUP = re.compile(r"[\\`*\[\]<>|&~]")
"""Characters that Markdown reads as markup."""

RATES = {
    "raw": "eer",
    "refined": "eer_refined",
    "same-gender": "eer_same_gender",
    "gender only": "eer_gender_only",
    "chance": "eer_chance",
}

CARD = """\
---
library_name: voiceface
tags: [face-voice-association]
---
# {{ name }}, a model of face-voice association

Says how far a voice and a face are apart; lower = more likely the same person. Made by `python -m experiments.run
export`; `python -m experiments.run score THIS_FOLDER --voices ... --faces ...` compares any files with it; on a hub,
its name is `hf://USER/NAME`.

## Input

{% if media -%}
Recordings and images. Voices: 16 kHz mono, Kaldi filter bank of {{ media.frames }} frames, {{ media.voice_crops }}
crop(s); faces: {{ media.image_size }} x {{ media.image_size }} pixels, {{ media.image_normalisation }} colours.
{%- elif voice and face -%}
Embeddings by {{ voice }} (voices) and {{ face }} (faces){{ ", each scaled to unit length" if normalise }}; `score`
makes them of files.
{%- else -%}
Embeddings of {{ dims[0] }} (voices) and {{ dims[1] }} (faces) numbers. The encoders they came from are not
recorded: name them to `score` by `--voice` and `--face`.
{%- endif %}

ONNX files, where present, take {{ "normalised filter banks (B, T, bins) and images (B, 3, H, W)" if media else
"these embeddings" }} and give the ones that are compared.

## Training data

{{ data_class }}; training languages: {{ languages | join(", ") or "not recorded" }}. The weights
have learnt from {{ identities }} identities, those of validation and of weights they started from among them;
`model.safetensors` holds hashes of their names, so that a test of them is refused.
{%- if unlabelled %} Nothing says in which language some of the clips are, of {{ unlabelled | join(", ") }}.{% endif %}
{%- if unrecorded %} Whom these files had learnt from, nothing says: {{ unrecorded | join(", ") }}.
{%- else %} None of the tested ones was among them; that was checked when the run started.{% endif %}
{{- " The checkpoint was chosen on validation identities." if chosen }}

## Measured

{% if rows -%}
EER in %, lower is better, on identities never seen in training.

| test | {{ rates | join(" | ") }} | trials |
|---|{{ "---|" * (rates | length) }}---|
{% for row in rows -%}
| {{ row | join(" | ") }} |
{% endfor %}
*Gender only* is what knowing the gender of voice and face gives; what lies below it, and the *same-gender* column, is
association beyond gender. *Chance* shuffles who is who. *Refined* scores see the whole test set.
{%- else -%}
Nothing: the run was not tested.
{%- endif %}

## Intended use

Research on what voices and faces have in common. Distances rank candidates; they are not probabilities.
{%- if calibrated_on %} `app` turns them into chances, calibrated on {{ calibrated_on }} validation
identities and rough.{% endif %}

## Limits

- The error rates above mean that it is wrong about many pairs. It must not be used to identify, verify, accuse or
  exclude a person.
- Much of what it knows is gender, and likely age and origin: errors are not equal between groups.
- Languages, microphones and cameras other than those of training were not measured, unless the table names them.
- A voice or a face is personal data: get consent of the people whose media you compare.
"""


def model_card(spec: Mapping[str, Any], config: Mapping[str, Any], results: Mapping[str, Any], learnt: Learnt) -> str:
    """The card as Markdown.

    Args:
        spec: of the export.
        config: ``config.yaml`` of the run.
        results: its ``results.json``; empty where it was not tested.
        learnt: whom and which languages the weights have learnt from.
    """
    inputs, data = spec["inputs"], config["data"]
    rows = [
        [_plain(cell), *(percent(record.get(key)) for key in RATES.values()), f"{record['trials']:,}"]
        for cell, record in results.items()
        if cell not in NOT_CELLS
    ]
    return (
        Environment(autoescape=False, keep_trailing_newline=True)
        .from_string(CARD)
        .render(
            name=_plain(spec["model"]["class_path"].rpartition(".")[2]),
            dims=spec["model"]["init_args"]["dims"],
            media=inputs.get("media"),
            normalise=inputs.get("normalise"),
            voice=_names(inputs.get("voice")),
            face=_names(inputs.get("face")),
            data_class=_plain(data["class_path"]),
            languages=[_plain(name) for name in sorted(learnt.heard)],
            unlabelled=[_plain(name or "a data set without a name") for name in sorted(learnt.unlabelled)],
            unrecorded=[_plain(name) for name in sorted(learnt.unrecorded)],
            identities=learnt.identities,
            rows=rows,
            rates=list(RATES),
            calibrated_on=(spec.get(CALIBRATION) or {}).get("identities"),
            chosen=(data.get("init_args") or {}).get("val_identities", True) != 0,
        )
    )


def _names(encoders: list[Mapping[str, Any]] | None) -> str:
    names = (e["trained"] if "trained" in e else e["class_path"].rpartition(".")[2] for e in encoders or [])
    return " + ".join(_plain(str(name)) for name in names)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    return MARKUP.sub(r"\\\g<0>", visible(" ".join(text.split())))
