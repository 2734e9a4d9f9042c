"""Faces ranked for each voice, as HTML."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datamodules.io.media import read_image
from datamodules.schema import MODALITIES, DataError, Modality, one_line, visible
from experiments.inference.given import list_files
from experiments.inference.scoring import FileScorer
from postproc.metrics.calibration import Calibration

THUMBNAIL = 96  # pixels

STYLE = """
.vf table { width: 100%; border-collapse: collapse; margin: 0 0 1.5rem; table-layout: fixed; border: 0; }
.vf thead, .vf tbody, .vf tr { border: 0; }
.vf caption { text-align: left; font-weight: 600; padding: .5rem 0; overflow-wrap: anywhere; }
.vf th, .vf td { text-align: right; vertical-align: middle; padding: .4rem .3rem; border: 0;
  border-bottom: 1px solid var(--border-color-primary); color: var(--body-text-color);
  font-variant-numeric: tabular-nums; }
.vf th { vertical-align: bottom; line-height: 1.25; }
.vf th:nth-child(1), .vf td:nth-child(1) { width: 2rem; padding-left: 0; }
.vf th:nth-child(2), .vf td:nth-child(2) { text-align: left; width: 30%; overflow-wrap: anywhere; }
.vf img { display: block; width: 64px; height: 64px; object-fit: contain; margin-bottom: .2rem; }
.vf [role=alert] { border-left: .3rem solid #c62828; padding: .5rem .8rem; overflow-wrap: anywhere; }
.vf p { color: var(--body-text-color); max-width: 45rem; }
@media (max-width: 30rem) {
  .vf th { font-size: .75rem; padding: .4rem .15rem; }
  .vf th:nth-child(2), .vf td:nth-child(2) { width: 27%; }
}
"""


def compared(scorer: FileScorer, voices: Sequence[str], faces: Sequence[str]) -> str:
    """A table for each voice, its faces nearest first; or one line that says what is wrong with the files.

    Args:
        scorer: the model.
        voices: audio files.
        faces: image files.
    """
    given: dict[Modality, list[str]] = {"voice": list(voices), "face": list(faces)}
    ways: dict[Modality, str] = {"voice": "record one, or drop a file", "face": "drop a picture"}
    for modality, way in ways.items():
        if not given[modality]:
            return _alert(f"There is no {modality} to compare: {way}.")
    try:
        files = {m: list_files([Path(path) for path in given[m]], m) for m in given}
        rows = scorer.rows(*(scorer.embed(m, files[m], batch_size=8) for m in MODALITIES))
        tables = [
            _table(voice, row, files["face"].tolist(), scorer.trained.calibration)
            for voice, row in zip(files["voice"].tolist(), rows, strict=True)
        ]
    except DataError as error:
        return _alert(_with_names(str(error), [*voices, *faces]))
    return f'<div class="vf">{"".join(tables)}<p>{_how_to_read(scorer.trained.calibration)}</p></div>'


def _table(voice: str, row: NDArray[np.float32], faces: Sequence[str], calibration: Calibration | None) -> str:
    """The faces of one voice."""
    columns = ["distance"]
    values = [[f"{x:.3f}" for x in row]]
    if calibration is not None:
        for title, same_gender in (("same person", False), ("same, if of one gender", True)):
            chances = calibration.chances(row, same_gender)
            columns.append(title)
            values.append(["?"] * len(row) if chances is None else [f"{100 * x:.0f} %" for x in chances])
    heads = "".join(f'<th scope="col">{name}</th>' for name in ["<span aria-label=rank>#</span>", "face", *columns])
    lines = []
    for rank, i in enumerate(np.argsort(row, kind="stable"), 1):
        name = _name(faces[i])
        alt = f"face {name}, rank {rank} of {len(row)}"
        picture = f'<img src="{_thumbnail(faces[i])}" alt="{alt}" width="64" height="64">'
        cells = "".join(f"<td>{column[i]}</td>" for column in values)
        lines.append(f"<tr><td>{rank}</td><td>{picture}{name}</td>{cells}</tr>")
    caption = f"Faces for the voice {_name(voice)}, nearest first"
    return f"<table><caption>{caption}</caption><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _name(path: str) -> str:
    """The name of a file, for HTML."""
    return html.escape(visible(Path(path).name))


def _how_to_read(calibration: Calibration | None) -> str:
    """What the numbers mean."""
    distance = "Distance: lower = more likely the same person; only the order of distances means something."
    if calibration is None:
        return (
            f"{distance} This model has no calibration, so chances are unknown: it was trained without validation "
            "identities, or by an earlier version."
        )
    alike = (
        "The last column is for a voice and a face that are known to be of one gender."
        if calibration.same_gender is not None
        else "For a voice and a face of one gender it is unknown: the validation identities have no genders."
    )
    return (
        f"{distance} Same person: of pairs with such a distance, how many are of one person, if half of all pairs are. "
        f"{alike} Both come from {calibration.identities} validation identities and are rough."
    )


def _thumbnail(path: str) -> str:
    """A small copy of a picture, inside its address."""
    image = read_image(path)
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _alert(text: str) -> str:
    return f'<div class="vf"><p role="alert">{html.escape(visible(one_line(text)))}</p></div>'


def _with_names(text: str, paths: Sequence[str]) -> str:
    """An error with the names of files in place of where the page has put them."""
    for path in sorted(paths, key=len, reverse=True):
        text = text.replace(path, Path(path).name)
    return text
