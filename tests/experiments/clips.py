"""A folder of synthetic clips with a manifest, for the commands that take files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from tests.datamodules.media_tree import patch, tone

PEOPLE, CLIPS, TEST_PEOPLE = 12, 3, 4
VOICE = "--voice=tests.experiments.tiny_encoders.SpectrumVoice"
FACE = "--face=tests.experiments.tiny_encoders.ColourFace"


def make_clips(root: Path) -> Path:
    """Writes wav and png of 12 people, the last four to be tested; a clip's face serves two rows. The manifest."""
    rows = []
    for person in range(PEOPLE):
        for clip in range(CLIPS):
            voice, face = f"voices/p{person}/{clip}.wav", f"faces/p{person}/{clip // 2}.png"
            tone(root / voice, person, clip)
            patch(root / face, person, clip // 2)
            split = "test" if person >= PEOPLE - TEST_PEOPLE else "train"
            fields = {"identity": f"p{person}", "language": "English", "video": f"v{clip // 2}"}
            rows.append({"voice": voice, "face": face, **fields, "gender": "FM"[person % 2], "split": split})
    pd.DataFrame(rows).to_csv(root / "manifest.csv", index=False)
    return root / "manifest.csv"
