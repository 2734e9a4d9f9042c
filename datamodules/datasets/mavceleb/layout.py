"""Where MAV-Celeb keeps its lists and files, v1 to v4."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from datamodules.io.item_ids import media_fields, unsafe
from datamodules.io.text import blank_separated_rows, existing, read_text
from datamodules.schema import DataError, Modality

Version = Literal["v1", "v2", "v3", "v4"]
Track = Literal["no_gender", "gender"]
LANGUAGES: dict[Version, tuple[str, str]] = {
    "v1": ("English", "Urdu"),
    "v2": ("English", "Hindi"),
    "v3": ("English", "German"),
    "v4": ("English", "Bangla"),
}
SHOWN = 5  # files named in an error before it says "..."


@dataclass(frozen=True)
class Layout:
    """One version on disk.

    Attributes:
        root: folder that holds the versions.
        version: v1 to v4.
        track: of the v4 test sets.
    """

    root: Path
    version: Version
    track: Track

    @property
    def folder(self) -> Path:
        """The folder of the version."""
        return self.root / self.version

    def check(self, train_language: str) -> None:
        """Says what is needed and where, if nothing is there.

        Raises:
            DataError: there is no folder of this version.
        """
        if self.folder.is_dir():
            return
        languages = LANGUAGES[self.version]
        media = f"{{voices,faces}}/idNNNN/{{{','.join(languages)}}}/<video>/NNNNN.{{wav,jpg}} and the test media"
        if self.version == "v4":
            media = (
                "train_set/train_set/{voices,faces}/English/idNNN/NNNNN.{wav,jpg}, "
                "dev_set/{no_gender,gender}/{English,Bangla}_test/{voices,faces}/NNNNN.{wav,jpg}"
            )
        variable = os.environ.get("MAVCELEB_ROOT")
        raise DataError(
            f"MAV-Celeb {self.version} is not at {self.folder} (MAVCELEB_ROOT is {variable or 'not set'}): set "
            f"MAVCELEB_ROOT to the folder that holds {self.version}/ with {media}, and the lists "
            f"{train_language}_train.txt ('<wav> <jpg>' per line), {languages[0]}_test.txt and {languages[1]}_test.txt "
            "('<key> <wav> <jpg>' per line)"
        )

    def find_list(self, name: str) -> Path:
        """A list by its file name: in the version's folder, in ``{version}_lists`` beside it, or where v4 has it."""
        for folder in (self.folder, self.root / f"{self.version}_lists", *self._parts()):
            for path in (folder / name, folder / name.removesuffix(".txt") / name):
                if path.is_file():
                    return path
        return existing(self.folder / name, f"list of MAV-Celeb {self.version}")

    def locate(
        self, references: Sequence[str], modality: Modality, source: Path, test_language: str | None = None
    ) -> list[Path]:
        """The file of each reference of a list, wherever the layout has it.

        Args:
            references: as written in the list.
            modality: what they are.
            source: the list, for messages.
            test_language: of a test list: its files may also lie in ``<Language>_test/{voices,faces}[s]`` by number.

        Raises:
            DataError: some are nowhere; names the first five.
        """
        names = (f"{modality}s", modality)
        bases = [self.folder, self.root, *self._parts()]
        tests = [base / f"{test_language}_test" for base in bases] if test_language else []
        trees = [base / name for base in (*bases, *tests) for name in ("", *names) if (base / name).is_dir()]
        numbered = [base / name for base in tests for name in names if (base / name).is_dir()]
        found: list[Path] = []
        lost: list[str] = []
        hit = 0  # where the last one was: the next one is most likely there too
        for reference in references:
            candidates = [tree / reference for tree in trees]
            candidates += [folder / os.path.basename(reference) for folder in numbered]
            order = [hit, *(i for i in range(len(candidates)) if i != hit)]
            hit = next((i for i in order if candidates[i].is_file()), -1)
            if hit < 0:
                lost.append(reference)
                hit = 0
            else:
                found.append(candidates[hit])
        if lost:
            raise DataError(
                f"{source}: {len(lost)} of {len(references)} {modality} files are missing under {self.folder}: "
                f"{', '.join(lost[:SHOWN])}{', ...' if len(lost) > SHOWN else ''}"
            )
        return found

    def _parts(self) -> list[Path]:
        """Where v4 keeps its training set and its test sets."""
        train, test = self.folder / "train_set", self.folder / "dev_set"
        return [train / "train_set", train, test / self.track, test]


def read_training_list(path: Path, language: str) -> pd.DataFrame:
    """A list ``<wav> <jpg>``: columns voice, face (references) and identity, one row per line.

    The identity is that of the face: in v1 the voice ids are renumbered without the test people, the face ids are not.

    Raises:
        DataError: a line that is no pair, an unsafe path, a file of nobody, or files of another language: a model that
            is said to have heard one language must not have seen a file of another.
    """
    rows, lines = blank_separated_rows(read_text(path, "training list"))
    if not rows:
        raise DataError(f"{path}: is empty")
    foreign: list[str] = []
    identity: list[str] = []
    for row, line in zip(rows, lines, strict=True):
        if len(row) != 2:
            raise DataError(f"{path}, line {line}: {len(row)} columns; expected '<wav> <jpg>'")
        for reference in row:
            if why := unsafe(reference):
                raise DataError(f"{path}, line {line}: {reference} {why}")
            person, spoken, _ = media_fields(reference)
            if not person:
                raise DataError(f"{path}, line {line}: {reference} names no person (idNNNN/<Language>/<video>/<file>)")
            if spoken != language:
                foreign.append(f"line {line} {reference}")
        identity.append(person)
    if foreign:
        raise DataError(
            f"{path}: {len(foreign)} files are not {language}, the only language training may hear: "
            f"{', '.join(foreign[:SHOWN])}{', ...' if len(foreign) > SHOWN else ''}; take them out of the list"
        )
    return pd.DataFrame(rows, columns=["voice", "face"], dtype=object).assign(identity=identity)
