"""The frames of an mp3 or mp2 file, and a header that says how many there are.

Libsndfile guesses the length of a file without one from its first frame: of a file of variable rate it reads a part.
"""

from __future__ import annotations

from typing import NamedTuple

# ISO 11172-3 2.4.2.3 and ISO 13818-3 2.4.2.3
_KBIT = {
    3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),  # MPEG-1
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),  # MPEG-2, and 0: MPEG-2.5
}
_KBIT_2 = {
    **_KBIT,  # of layer II
    3: (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
}
_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8000)}
_ROOMY = 8  # rate of the added frame: 112 or 64 kbit/s, which leaves room for its contents
_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3", b"3DI")
"""What may follow the last frame."""


class Frames(NamedTuple):
    """What the frames of an mp3 file say.

    Attributes:
        first: where the first frame begins.
        whole: number of whole frames, without one that holds the header.
        declared: the number that a header declares; None without one.
        cut: the last frame ends after the file.
        second: they are of layer II, as in an mp2 file.
    """

    first: int
    whole: int
    declared: int | None
    cut: bool
    second: bool


def scan(content: bytes) -> Frames | None:
    """Walks over the frames of an mp3 or mp2 file; None where it is none, or where other bytes are among them."""
    first = at = _after_tags(content)
    whole, cut, kind = 0, False, content[at + 1 : at + 2]
    while content[at + 1 : at + 2] == kind and (length := _length(content[at : at + 4])):
        if cut := at + length > len(content):
            break
        whole, at = whole + 1, at + length
    rest = content[at : at + 16]
    if len(rest) < 4:
        cut = rest.startswith(b"\xff")
    elif not cut and rest.strip(b"\0") and not rest.startswith(_TAGS):
        return None
    if not whole:
        return None
    declared = _declared(content[first : first + _length(content[first : first + 4])])
    return Frames(first, whole - (declared is not None), declared, cut, _layer(kind[0]) == 2)


def described(content: bytes, frames: Frames) -> bytes:
    """The file with a header that declares its length, as encoders of variable rate write it."""
    head = bytearray(content[frames.first : frames.first + 4])
    head[1] |= 1  # no checksum
    head[2] = (head[2] & 0x0C) | _ROOMY << 4
    length = _length(bytes(head))
    size = length + len(content) - frames.first
    words = b"Xing" + (3).to_bytes(4, "big") + frames.whole.to_bytes(4, "big") + size.to_bytes(4, "big")
    added = bytes(head) + bytes(_side_information(bytes(head))) + words
    return added.ljust(length, b"\0") + content[frames.first :]


def _after_tags(content: bytes) -> int:
    at = 0
    while content[at : at + 3] == b"ID3" and len(content) >= at + 10:
        size = content[at + 6 : at + 10]  # seven bits a byte
        at += 10 + (size[0] << 21 | size[1] << 14 | size[2] << 7 | size[3]) + 10 * bool(content[at + 5] & 16)
    return at


def _length(head: bytes) -> int:
    """Bytes of a frame of layer III or II that begins with these; 0 for anything else and for free rates."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0 or (layer := _layer(head[1])) not in (2, 3):
        return 0
    version, rate, frequency = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or rate in (0, 15) or frequency == 3:
        return 0
    bits = 1000 * (_KBIT if layer == 3 else _KBIT_2)[version or 2][rate - 1]
    return (144 if version == 3 or layer == 2 else 72) * bits // _HZ[version][frequency] + (head[2] >> 1 & 1)


def _layer(second: int) -> int:
    """The layer that the second byte of a frame names; 4 for none."""
    return 4 - (second >> 1 & 3)


def _side_information(head: bytes) -> int:
    """Bytes between the head of a frame and its contents."""
    mono, first = head[3] >> 6 == 3, head[1] >> 3 & 3 == 3
    return (17 if mono else 32) if first else (9 if mono else 17)


def _declared(frame: bytes) -> int | None:
    """The number of frames that the first frame declares: by Xing, LAME and ffmpeg, or by Fraunhofer."""
    at = 4 + _side_information(frame)
    if frame[at : at + 4] in (b"Xing", b"Info"):
        return int.from_bytes(frame[at + 8 : at + 12], "big") if frame[at + 7] & 1 else None
    return int.from_bytes(frame[50:54], "big") if frame[36:40] == b"VBRI" else None
