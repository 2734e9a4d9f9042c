"""How long a recording is: what its header declares, what is there, and a header for those that have none."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import BinaryIO, Literal

import soundfile

from datamodules.io.media.mp3 import described, scan
from datamodules.io.shards import opened

STREAMED = 0x7F000000  # a recording that was written to a pipe declares at least this many bytes, or none
OGG_PAGE, OGG_LAST = 65_307, 4  # largest page in bytes, flag of the last one (RFC 3533)
CHUNKED = {b"RIFF": "little", b"RF64": "little", b"RIFX": "big", b"FORM": "big"}  # wav, wav, wav, aiff: byte orders
SAMPLED = {b"data", b"SSND", b"BODY"}  # their chunks that hold the samples


def examined(path: Path) -> tuple[str, Path | io.BytesIO]:
    """What a truncated recording lacks, "" if it is whole; and what to open: the file, or one in memory.

    Libsndfile reads a truncated file without an error. A recording that does not say how long it is, a wav that was
    written to a pipe or an mp3 without a header, is given a header that does; an mp2 is decoded.
    """
    with opened(path) as file:
        magic = file.read(4)
        file.seek(0)
        if magic[:3] == b"ID3" or (magic[:1] == b"\xff" and magic[1:2] >= b"\xe0"):
            content = file.read()
            lacks, made = _examined_mp3(content)
        else:
            declared = _declared(file)
            lacks = _truncation(file, declared)
            made = _with_length(file, *declared) if magic == b"RIFF" and declared and not lacks else None
        held = io.BytesIO(file.getvalue()) if isinstance(file, io.BytesIO) else path
    return lacks, made or held


def _examined_mp3(content: bytes) -> tuple[str, io.BytesIO | None]:
    """:func:`examined` of an mp3; None for a file that can be opened as it is."""
    frames = scan(content)
    if frames is None:
        return "", None
    if frames.cut:
        return "its last frame is cut", None
    if frames.second:  # it takes no header, and libsndfile guesses its length wrongly
        return "", _decoded(content)
    if frames.declared is None:
        return "", io.BytesIO(described(content, frames))
    lost = frames.declared - frames.whole - 1  # some encoders count the frame of the header
    return f"{lost + 1} frames that its header declares are missing" if lost > 0 else "", None


def _decoded(content: bytes) -> io.BytesIO:
    """A recording as a wav in memory, as long as what can be read of it."""
    made = io.BytesIO()
    with soundfile.SoundFile(io.BytesIO(content)) as file:
        soundfile.write(made, file.read(dtype="float32"), file.samplerate, "FLOAT", format="WAV")
    made.seek(0)
    return made


def _with_length(file: BinaryIO, start: int, length: int) -> io.BytesIO | None:
    """A wav that was written to a pipe, in memory with the length that it has; None for others.

    Args:
        file: the wav.
        start: where its samples begin.
        length: bytes of them that its header declares.
    """
    if length > 0:
        return None
    file.seek(start)
    content = bytearray(file.read())
    if not content or _are_chunks(content):
        return None
    file.seek(0)
    head = bytearray(file.read(start))
    head[start - 4 : start] = len(content).to_bytes(4, "little")
    head[4:8] = (start + len(content) - 8).to_bytes(4, "little")
    return io.BytesIO(bytes(head) + content)


def _are_chunks(content: bytearray) -> bool:
    """Whether the bytes are chunks of a wav to their end: such a wav holds no samples."""
    at = 0
    while at + 8 <= len(content) and content[at : at + 4].isascii():
        at += 8 + int.from_bytes(content[at + 4 : at + 8], "little")
        if at == len(content):
            return True
        at += at % 2
    return at == len(content)


def _declared(file: BinaryIO) -> tuple[int, int] | None:
    """Where the samples of a recording begin and how many bytes of them its header declares; None where it does not."""
    file.seek(0)
    head = file.read(16)
    if order := CHUNKED.get(head[:4]):
        return _sample_chunk(file, order == "little")
    if head[:4] in (b".snd", b"dns."):
        start, length = (int.from_bytes(head[i : i + 4], "big" if head[:1] == b"." else "little") for i in (4, 8))
        return start, length
    if head[:4] == b"caff":
        file.seek(8)
        while len(chunk := file.read(12)) == 12:
            length = int.from_bytes(chunk[4:], "big")
            if chunk[:4] == b"data":
                return file.tell(), length
            file.seek(length, 1)
    elif head[:4] == b"riff":  # W64: names of 16 bytes, lengths include name and length
        file.seek(40)
        while len(chunk := file.read(24)) == 24:
            length = int.from_bytes(chunk[16:], "little") - 24
            if chunk[:4] == b"data" or length < 0:
                return file.tell(), length
            file.seek(length + -length % 8, 1)
    elif head[:8] == b"NIST_1A\n":
        return _nist(head + file.read(4096))
    return None


def _sample_chunk(file: BinaryIO, little: bool) -> tuple[int, int] | None:
    """:func:`_declared` of a file of chunks with names of four letters."""
    order: Literal["little", "big"] = "little" if little else "big"
    file.seek(12)
    long = 0
    while len(chunk := file.read(8)) == 8:
        length = int.from_bytes(chunk[4:], order)
        if chunk[:4] == b"ds64":
            long = int.from_bytes(file.read(16)[8:], order)
            length -= 16
        elif chunk[:4] in SAMPLED:
            return file.tell(), long if length == 0xFFFFFFFF and long else length
        file.seek(max(0, length) + length % 2, 1)
    return None


def _nist(head: bytes) -> tuple[int, int] | None:
    """:func:`_declared` of a SPHERE file: a header in words, and samples that are not compressed."""
    fields = dict(re.findall(rb"^(\w+) -\S+ (\S+)$", head.partition(b"end_head")[0], re.MULTILINE))
    try:
        start = int(head[8:16])
        size = [int(fields[name]) for name in (b"sample_count", b"sample_n_bytes", b"channel_count")]
    except (KeyError, ValueError):
        return None
    return None if b"," in fields.get(b"sample_coding", b"") else (start, size[0] * size[1] * size[2])


def _truncation(file: BinaryIO, declared: tuple[int, int] | None) -> str:
    """What a truncated recording lacks, "" if it is whole. Libsndfile reads such a file without an error."""
    size = file.seek(0, os.SEEK_END)
    if declared:
        start, length = declared
        lost = start + length - size if length < STREAMED else 0
        return f"{lost} bytes that its header declares are missing" if lost > 0 else ""
    file.seek(0)
    if (magic := file.read(4)) == b"OggS":
        file.seek(max(0, size - OGG_PAGE))
        page = file.read()
        page = page[page.rfind(magic) :]
        if len(page) < 27 or not page[5] & OGG_LAST or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]]):
            return "its last page is missing or cut"
    return ""
