"""The page and its server: gradio, which loads nothing from elsewhere and tells nobody anything."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from datamodules.schema import DataError, Modality
from experiments.app.ranking import STYLE, compared
from experiments.console.tables import percent
from experiments.inference.scoring import FileScorer
from experiments.runs.records import NOT_CELLS, read_records

HOST = "127.0.0.1"  # this machine alone: the page asks nobody for a password
LARGEST = "100mb"  # of a file that is dropped
POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'"
)


def require_gradio() -> None:
    """Looks for the optional package.

    Raises:
        DataError: it is not installed.
    """
    if find_spec("gradio") is None:
        raise DataError("app needs gradio: pip install 'voiceface[app]'")


def serve(path: Path, encoders: Mapping[Modality, str | None], port: int | None = None, trust: bool = False) -> None:
    """Shows the page until it is interrupted.

    Args:
        path: run folder, checkpoint in one, or export.
        encoders: ``encoder/NAME.yaml`` by modality, below a head that does not know its own encoder.
        port: of 127.0.0.1; None = the first free one from 7860.
        trust: as :func:`experiments.inference.trained.read_trained`.

    Raises:
        DataError: a bad model, an unknown encoder, a port that is taken.
    """
    scorer = FileScorer.read(path, encoders, trust)
    with running(scorer, port) as url:
        print(f"{url}: open it in a browser on this machine; Ctrl-C ends", flush=True)
        threading.Event().wait()


@contextmanager
def running(scorer: FileScorer, port: int | None = None) -> Iterator[str]:
    """A server of the page; its address. Uploads lie in a folder that goes with it.

    Raises:
        DataError: the port is taken.
    """
    with tempfile.TemporaryDirectory(prefix="voiceface-app-", ignore_cleanup_errors=True) as uploads:
        _settle(uploads)
        page = make_page(scorer)
        try:
            _, url, _ = page.launch(server_name=HOST, server_port=port, **LAUNCH, **_looks())
        except (OSError, OverflowError) as error:
            raise DataError(f"{HOST}: port {port or '7860-7959'} cannot be had; name another by --port") from error
        try:
            yield url
        finally:
            page.server.should_exit = True  # its thread ends when open pages have gone, or with the process


LAUNCH: dict[str, Any] = {
    "prevent_thread_lock": True,
    "share": False,
    "quiet": True,
    "ssr_mode": False,
    "pwa": False,
    "mcp_server": False,
    "enable_monitoring": False,
    "footer_links": [],
    "max_file_size": LARGEST,
}


def make_page(scorer: FileScorer) -> Any:
    """The page as gradio's blocks; reads the model's measured error rates for what it says of limits."""
    import gradio as gr  # an optional extra, and slow to import

    def compare(recorded: str | None, voices: list[str] | None, faces: list[str] | None) -> str:
        return compared(scorer, [*([recorded] if recorded else []), *(voices or [])], faces or [])

    with gr.Blocks(title="Voices and faces", analytics_enabled=False) as page:
        gr.Markdown("# Voices and faces")
        gr.Markdown(
            "Which face is most likely of the person who speaks? Record or drop one or more voices, drop faces, and "
            "compare. Nothing leaves this machine."
        )
        gr.Markdown(f"**Limits.** {limits(scorer)}")
        with gr.Row():
            with gr.Column():
                recorded = gr.Audio(sources=["microphone"], type="filepath", label="Record a voice")
                dropped: dict[str, Any] = {"file_count": "multiple", "type": "filepath", "height": 180}
                voices = gr.File(
                    file_count="multiple", type="filepath", label="Voices: wav, flac, ogg, mp3", height=140
                )
            with gr.Column():
                faces = gr.File(label="Faces: jpg, png, webp", **dropped)
        button = gr.Button("Compare", variant="primary")
        result = gr.HTML(elem_id="result", min_height=40)
        inputs = [recorded, voices, faces]
        button.click(compare, inputs, result, api_visibility="private", scroll_to_output=True, show_progress="minimal")
    return page


def limits(scorer: FileScorer) -> str:
    """What the model must not be taken for, in two sentences, with what a test of the run has measured."""
    rates = ""
    results = scorer.trained.run / "results.json" if scorer.trained.run is not None else None
    if results is not None and results.is_file():
        records = {name: record for name, record in read_records(results).items() if name not in NOT_CELLS}
        record: dict[str, Any] = records.get("overall") or next(iter(records.values()), {})
        if record.get("eer") is not None:
            same = record.get("eer_same_gender")
            alike = f", between people of one gender {percent(same)} %" if same is not None else ""
            rates = f" (error rate in its test: {percent(record['eer'])} %{alike})"
    return (
        f"The model is wrong about many pairs{rates}, and much of what it knows is gender, and likely age and origin. "
        "It must not be used to identify, verify, accuse or exclude a person."
    )


def _looks() -> dict[str, Any]:
    """Theme with fonts of the machine, style of the tables, and the content security policy."""
    import gradio as gr  # see above
    from starlette.middleware import Middleware

    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    return {"theme": theme, "css": STYLE, "app_kwargs": {"middleware": [Middleware(_OwnOrigin)]}}


class _OwnOrigin:
    """Adds the content security policy to all answers.

    Args:
        app: the ASGI application behind it.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY.encode())]
            await send(message)

        await self.app(scope, receive, with_policy)


def _settle(uploads: str) -> None:
    """Replaces what gradio and its server read from the environment: addresses to listen on and to report to."""
    for name in [name for name in os.environ if name.startswith(("GRADIO_", "OTEL_"))]:
        del os.environ[name]
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_RUN_HISTORY": "False",  # results would stay in the browser
        "GRADIO_TEMP_DIR": uploads,
    }
    proxied = {os.environ.get("NO_PROXY", ""), os.environ.get("no_proxy", ""), HOST} - {""}
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(sorted(proxied))  # gradio asks itself whether it runs
