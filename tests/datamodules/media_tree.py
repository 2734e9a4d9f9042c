"""Synthetic media in the layouts of MAV-Celeb. An identity's pitch and colour are related: low is blue, high is red.

Made by ``numpy``, ``soundfile`` and Pillow at test time; nothing real in it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

RATE = 16000
SECONDS = 0.5


def place(person: int) -> float:
    """0..1, different for every identity and equal in both modalities."""
    return (person * 0.618034) % 1


def tone(path: Path, person: int, clip: int) -> None:
    """A noisy tone with the identity's pitch."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng((person, clip, 0))
    t = np.arange(int(RATE * SECONDS)) / RATE
    pitch = 200 * 2 ** (4 * place(person))
    wave = 0.3 * np.sin(2 * np.pi * pitch * t + rng.uniform(0, 6)) + 0.01 * rng.standard_normal(len(t))
    soundfile.write(path, wave.astype(np.float32), RATE)


def patch(path: Path, person: int, clip: int) -> None:
    """A noisy square with the identity's colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng((person, clip, 1))
    colour = 30 + 200 * np.array([place(person), 0.5, 1 - place(person)])
    pixels = np.clip(colour + rng.normal(0, 10, (48, 48, 3)), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def voice_and_face(root: Path, voice: str, face: str, person: int = 0) -> None:
    """A voice and a face of one identity."""
    tone(root / voice, person, 0)
    patch(root / face, person, 0)


def clip_names(person: str, language: str, clip: int) -> tuple[str, str]:
    """References of a training list; voice and face come from different videos."""
    video, other = f"vid{clip % 2}", f"vid{(clip + 1) % 2}"
    return f"{person}/{language}/{video}/{clip:05d}.wav", f"{person}/{language}/{other}/{clip:07d}.jpg"


def make_training(
    root: Path, version: str, languages: tuple[str, str], people: int = 8, clips: int = 4, gap: int = 0
) -> None:
    """Training tree and lists. ``gap`` > 0: face ids skip one number after ``gap``, as in v1."""
    base = root / version
    for language in languages:
        lines = []
        for person in range(people):
            voice_id = f"id{person + 1:04d}"
            face_id = f"id{person + 1 + (gap > 0 and person >= gap):04d}"
            for clip in range(clips):
                voice = clip_names(voice_id, language, clip)[0]
                face = clip_names(face_id, language, clip)[1]
                tone(base / "voices" / voice, person, clip)
                patch(base / "faces" / face, person, clip)
                lines.append(f"{voice} {face}")
        (base / f"{language}_train.txt").write_text("\n".join(lines) + "\n")


def make_test(
    base: Path, language: str, voices: str, faces: str, people: int = 4, clips: int = 2, labelled: bool = True
) -> None:
    """Anonymous test items ``NNNNN`` and their list, CRLF and without a final newline; labels in a separate file."""
    lines, labels = [], []
    for i in range(people * clips):
        tone(base / voices / f"{i:05d}.wav", 100 + i % people, i)
        same = i % 2
        patch(base / faces / f"{i:05d}.jpg", 100 + (i if same else i + 1) % people, i)
        lines.append(f"k{language[:2].lower()}{i:05d} voices/{language}/{i:05d}.wav  faces/{language}/{i:05d}.jpg")
        labels.append(f"{lines[-1].split()[0]} {same}")
    (base / f"{language}_test.txt").write_bytes("\r\n".join(lines).encode())
    if labelled:
        (base / f"{language}_labels.txt").write_text("\n".join(labels) + "\n")


def mavceleb(root: Path, version: str = "v1", languages: tuple[str, str] = ("English", "Urdu"), gap: int = 0) -> Path:
    """A whole version in the layout of v1 and v2."""
    make_training(root, version, languages, gap=gap)
    for language in languages:
        make_test(root / version, language, f"voices/{language}", f"faces/{language}")
    return root
