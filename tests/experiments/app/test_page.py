"""The page in a real browser: files dropped, a voice recorded, faces ranked; nothing comes from elsewhere."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile

from experiments.inference.scoring import FileScorer
from experiments.run import main
from tests import REPOSITORY
from tests.experiments.report.test_page import CHROMIUM, CONTRAST, FLAGS

SMALLER = [
    *(
        "--data.identities=12",
        "--data.clips=2",
        "--data.val_identities=4",
        "--data.val_trials=40",
        "--data.batch_size=8",
    ),
    *("--data.steps_per_epoch=4", "--data.num_workers=0", "--trainer.max_epochs=2", "--pictures=false"),
    *("--logger=logger/csv.yaml", "--trainer.enable_progress_bar=false"),
]
MICROPHONE = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


class Shown(NamedTuple):
    """The page of a fit of demo_media.yaml, and clips of it."""

    url: str
    voices: list[str]
    faces: list[str]
    connections: set[str]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium with a microphone that beeps."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}")
    with playwright.sync_playwright() as started:
        flags = [*FLAGS, *MICROPHONE]
        running = started.chromium.launch(executable_path=str(CHROMIUM), args=flags, timeout=120_000)
        yield running
        running.close()


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """The running page; no connection of its process may leave the machine."""
    pytest.importorskip("gradio", reason="gradio is not installed")
    from experiments.app.page import running

    run = tmp_path_factory.mktemp("app") / "run"
    before, connect, connections = dict(os.environ), socket.socket.connect, set()

    def noted(self: socket.socket, address: Any) -> None:
        connections.add(str(address[0]) if isinstance(address, tuple) else "local")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        os.environ["VOICEFACE_CACHE"] = str(run.parent / "cache")
        assert main(["fit", "--config=demo_media.yaml", *SMALLER, f"--run_dir={run}"]) == 0
        os.environ |= {"GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_SHARE": "True", "HTTP_PROXY": "http://127.0.0.1:9"}
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:9"
        patch.setattr(socket.socket, "connect", noted)
        media = run.parent / "cache"
        voices, faces = (sorted(map(str, media.rglob(name))) for name in ("*.wav", "*.jpg"))
        try:
            with running(FileScorer.read(run, {})) as url:
                yield Shown(url, voices, faces, connections)
        finally:
            os.environ.clear()
            os.environ |= before


class Visit:
    """A page, what it asked for, and what its scripts threw."""

    def __init__(self, browser: Any, url: str, width: int = 390, scheme: str = "light") -> None:
        self.page = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme).new_page()
        self.page.set_default_timeout(120_000)
        self.elsewhere: list[str] = []
        self.page.on("request", lambda r: None if r.url.startswith((url, "data:", "blob:")) else self.add(r.url))
        self.page.on("pageerror", lambda error: self.add(f"error: {error}"))
        self.page.goto(url)
        self.button = self.page.get_by_role("button", name="Compare")
        self.button.wait_for()

    def add(self, text: str) -> None:
        self.elsewhere.append(text)

    def drop(self, voices: list[str], faces: list[str]) -> None:
        """Gives files to the two fields and waits until they are listed."""
        for place, files in enumerate((voices, faces)):
            if files:
                self.page.locator("input[type=file]").nth(place).set_input_files(files)
        self.page.wait_for_function(f"document.querySelectorAll('a[download]').length == {len(voices) + len(faces)}")

    def compare(self) -> Any:
        """The result."""
        self.button.click()
        self.page.locator("#result table, #result [role=alert]").first.wait_for()
        return self.page.locator("#result")


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (390, "dark"), (1440, "light"), (1440, "dark")])
def test_faces_are_ranked_on_any_screen(browser: Any, shown: Shown, width: int, scheme: str, tmp_path: Path) -> None:
    visit = Visit(browser, shown.url, width, scheme)
    visit.drop(shown.voices[:2], shown.faces[:4])
    result = visit.compare()
    assert result.locator("table").count() == 2
    assert result.locator("img").count() == 8
    distances = [float(x) for x in result.locator("table >> nth=0").locator("td:nth-child(3)").all_inner_texts()]
    assert distances == sorted(distances)
    assert all(re.fullmatch(r"\d+ %", x) for x in result.locator("td:nth-child(4), td:nth-child(5)").all_inner_texts())
    assert result.locator("img").first.get_attribute("alt").endswith("rank 1 of 4")
    assert result.locator("img").first.evaluate("e => e.naturalWidth") > 0
    assert visit.page.evaluate("document.documentElement.scrollWidth") == width
    beyond = "es => es.filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent)"
    assert result.locator("th, td, caption, p").evaluate_all(beyond) == []
    contrast, text = visit.page.evaluate(
        CONTRAST.replace('"h1, h2, p, td, th, a, b, small, span, svg text"', '"#result *"')
    )
    assert contrast >= 4.5, text
    assert visit.elsewhere == []
    assert shown.connections <= {"127.0.0.1", "local"}
    visit.page.screenshot(path=str(tmp_path / "page.png"), full_page=True)


def test_a_voice_is_recorded(browser: Any, shown: Shown) -> None:
    visit = Visit(browser, shown.url)
    visit.drop([], shown.faces[:3])
    visit.page.get_by_role("button", name="Record").click()
    visit.page.wait_for_timeout(1500)
    with visit.page.expect_response(re.compile("upload")):
        visit.page.get_by_role("button", name="Stop").first.click()
    visit.page.wait_for_timeout(1000)
    assert visit.compare().locator("img").count() == 3


def test_the_keyboard_is_enough(browser: Any, shown: Shown) -> None:
    visit = Visit(browser, shown.url)
    visit.drop(shown.voices[:1], shown.faces[:2])
    reached = []
    for _ in range(40):
        visit.page.keyboard.press("Tab")
        reached.append(visit.page.evaluate("document.activeElement.innerText.trim()"))
        if reached[-1] == "Compare":
            break
    assert reached[-1] == "Compare"
    assert "Record" in reached
    visit.page.keyboard.press("Enter")
    assert visit.page.locator("#result img").first.get_attribute("alt")


def test_bad_files_are_one_line_and_many_good_ones_are_not(browser: Any, shown: Shown, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("not audio")
    (tmp_path / "empty.jpg").touch()
    soundfile.write(tmp_path / "silent.wav", np.zeros(16_000), 16_000)
    soundfile.write(tmp_path / "minute.wav", 0.1 * np.random.default_rng(0).normal(size=960_000), 16_000)
    voice, faces = shown.voices[:1], shown.faces[:40]
    for voices, pictures, line in (
        ([str(tmp_path / "text.wav")], faces[:1], "text.wav: not readable as audio"),
        ([str(tmp_path / "silent.wav")], faces[:1], "silent.wav: silent audio"),
        (voice, [str(tmp_path / "empty.jpg")], "empty.jpg: not readable as an image"),
        (voice, [], "There is no face to compare"),
    ):
        visit = Visit(browser, shown.url)
        visit.drop(voices, pictures)
        (text,) = visit.compare().inner_text().strip().splitlines()
        assert line in text
        assert "/tmp" not in text
    visit = Visit(browser, shown.url)
    visit.drop([str(tmp_path / "minute.wav")], faces)
    assert visit.compare().locator("img").count() == len(faces) == 40


@pytest.mark.processes
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_at_once_in_one_line_and_leaves_no_upload(number: int, status: int, tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="gradio is not installed")
    encoders = []
    for modality, name in (("voice", "SpectrumVoice"), ("face", "ColourFace")):
        (tmp_path / f"{modality}.yaml").write_text(f"class_path: tests.experiments.tiny_encoders.{name}\n")
        encoders += [f"--{modality}", str(tmp_path / f"{modality}.yaml")]
    (tmp_path / "temporary").mkdir()
    command = [sys.executable, "-m", "experiments.run", "app", "tests/compat/run", *encoders]
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=os.environ | {"TMPDIR": str(tmp_path / "temporary")},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        assert list((tmp_path / "temporary").glob("voiceface-app-*"))
        process.send_signal(number)
        _, error = process.communicate(timeout=60)
    said = [line for line in error.splitlines() if not line.startswith("warning: tests/compat")]  # of its old names
    assert (process.returncode, said) == (status, ["stopped"])
    assert not list((tmp_path / "temporary").glob("voiceface-app-*"))
