"""``app``: a page in the browser that ranks faces for a voice by a run, a checkpoint or an export.

It listens on 127.0.0.1 alone and loads nothing from elsewhere. Needs gradio: pip install 'voiceface[app]'.
"""

from __future__ import annotations

from datamodules.schema import MODALITIES
from experiments.console.arguments import CommandParser, add_model
from experiments.console.warnings import plain_warnings


def main(command: str, argv: list[str]) -> int:
    """``app MODEL [--voice encoder/NAME.yaml] [--face encoder/NAME.yaml] [--port N]``."""
    parser = CommandParser(command, __doc__)
    add_model(parser)
    parser.add_argument("--port", type=int, help="port of 127.0.0.1; default: the first free one from 7860")
    options = parser.parse_args(argv)
    from experiments.inference.given import check_given
    from experiments.inference.hub import local_folder

    model = local_folder(options.model)
    check_given(model, {})
    # imports torch, which what is wrong so far need not wait for
    from experiments.app.page import require_gradio, serve

    require_gradio()
    with plain_warnings():
        encoders = {modality: getattr(options, modality) for modality in MODALITIES}
        serve(model, encoders, options.port, options.trust)
    return 0
