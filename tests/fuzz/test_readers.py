"""Readers under random and mutated files; the same files at every run. ``atheris_readers.py`` searches on."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.fuzz.readers import READERS, Reader, attempt

pytestmark = pytest.mark.fuzz
EXAMPLES = {"refinement": 60, "parquet manifest": 150}  # a parser of classes is slow to build
TOKENS = [
    b"", b"\n", b"\r\n", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf", b" ", b",", b'"', b"'", b"\t", b"..", b"/", b"#", b"{",
    b"}", b"[", b"]", b":", b"&a ", b"*a", b"!!python/object:os.system ", b"${", b"}", b"nan", b"1e999", b"-0",
    b"99999999999999999999", b"2001-99-99", b"0x", b"=", b"? ", b"<<: ", "\u2028\u202e\u0664".encode(), b"k0",
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """A right file with a few bytes cut, repeated, exchanged or put in."""
    content = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 4))):
        start, end = sorted(draw(st.tuples(*[st.integers(0, len(content))] * 2)))
        middle = content[start:end]
        put = draw(st.sampled_from(TOKENS) | st.binary(max_size=4) | st.just(middle * 2) | st.just(b""))
        content = content[:start] + put + content[end if draw(st.booleans()) else start :]
    return content


def seeded(name: str) -> Reader:
    """The reader; media get their seeds here."""
    reader = READERS[name]
    if name not in ("audio", "image"):
        return reader
    rng, made = np.random.default_rng(0), []
    for kind in ("WAV", "FLAC", "OGG") if name == "audio" else ("JPEG", "PNG"):
        buffer = io.BytesIO()
        if name == "audio":
            soundfile.write(buffer, rng.normal(size=900) / 9, 16000, format=kind)
        else:
            Image.fromarray(rng.integers(0, 256, (12, 9, 3), dtype=np.uint8)).save(buffer, kind)
        made.append(buffer.getvalue())
    return Reader(reader.name, tuple(made), reader.read)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", READERS)
def test_only_their_own_errors_come_out(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEFACE_CACHE", str(tmp_path / "cache"))
    reader = seeded(name)
    for seed in reader.seeds:
        attempt(reader, seed, tmp_path)
    assert any(attempt(reader, seed, tmp_path) for seed in reader.seeds), "no seed is right"
    taken: list[bool] = []

    @settings(
        max_examples=EXAMPLES.get(name, 400), derandomize=True, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(mutated(reader.seeds) | st.binary(max_size=80))
    def search(content: bytes) -> None:
        taken.append(attempt(reader, content, tmp_path))

    search()
    assert taken.count(False) > 10
