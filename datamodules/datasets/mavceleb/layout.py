"""The folders of MAV-Celeb v1 to v4, and the places of lists and files in them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from datamodules.io.item_ids import media_fields, unsafe
from datamodules.io.text import blank_separated_rows, existing, is_file, read_text, shown
from datamodules.schema import DataError, Modality

Version = Literal["v1", "v2", "v3", "v4"]
Track = Literal["no_gender", "gender"]
LANGUAGES: dict[Version, tuple[str, str]] = {
    "v1": ("English", "Urdu"),
    "v2": ("English", "Hindi"),
    "v3": ("English", "German"),
    "v4": ("English", "Bangla"),
}


@dataclass(frozen=True)
class Layout:
    """The folder of one version.

    Attributes:
        root: folder of the versions.
        version: v1 to v4.
        track: track of the v4 test sets.
    """

    root: Path
    version: Version
    track: Track

    @property
    def folder(self) -> Path:
        """The folder of the version."""
        return self.root / self.version

    def check(self, train_language: str) -> None:
        """Checks that the folder of this version exists.

        Raises:
            DataError: it does not; the message describes what it must contain.
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
            f"MAVCELEB_ROOT to the folder that contains {self.version}/ with {media}, and the lists "
            f"{train_language}_train.txt ('<wav> <jpg>' per line), {languages[0]}_test.txt and {languages[1]}_test.txt "
            "('<key> <wav> <jpg>' per line)"
        )

    def find_list(self, name: str) -> Path:
        """The path of a list: in the version's folder, in ``{version}_lists`` next to it, or in a folder of v4.

        Raises:
            DataError: there is no such list; names the way out where there is none at all.
        """
        folders = (self.folder, self.root / f"{self.version}_lists", *self._parts())
        for folder in folders:
            for path in (folder / name, folder / name.removesuffix(".txt") / name):
                if is_file(path):
                    return path
        if not any(any(folder.glob(lists)) for folder in folders for lists in ("*_t*.txt", "*_t*/*_t*.txt")):
            first, second = LANGUAGES[self.version]
            raise DataError(
                f"list of MAV-Celeb {self.version} {self.folder / name}: no such file, nor any other list; put {name}, "
                f"{first}_test.txt and {second}_test.txt of the challenge there or in {folders[1]}; where voices and "
                f"faces have the same ids, prepare {self.folder} and then split make lists and a config: see "
                "own_media.yaml"
            )
        return existing(self.folder / name, f"list of MAV-Celeb {self.version}")

    def locate(
        self, references: Sequence[str], modality: Modality, source: Path, test_language: str | None = None
    ) -> list[Path]:
        """Finds the file of each reference of a list.

        Args:
            references: references as written in the list.
            modality: their modality.
            source: the list, for messages.
            test_language: language of a test list, whose files may also be in ``<Language>_test/{voice,face}[s]``,
                named by number.

        Raises:
            DataError: some files are missing; names the first five.
        """
        names = (f"{modality}s", modality)
        bases = [self.folder, self.root, *self._parts()]
        tests = [base / f"{test_language}_test" for base in bases] if test_language else []
        trees = [base / name for base in (*bases, *tests) for name in ("", *names) if (base / name).is_dir()]
        numbered = [base / name for base in tests for name in names if (base / name).is_dir()]
        paths: list[Path] = []
        lost: list[str] = []
        hit = 0  # the candidate that was the last file: most likely also the next one
        for reference in references:
            candidates = [tree / reference for tree in trees]
            candidates += [folder / reference.rpartition("/")[2] for folder in numbered]
            order = [hit, *(i for i in range(len(candidates)) if i != hit)]
            hit = next((i for i in order if is_file(candidates[i])), -1)
            if hit < 0:
                lost.append(reference)
                hit = 0
            else:
                paths.append(candidates[hit])
        if lost:
            raise DataError(
                f"{source}: {len(lost)} of {len(references)} {modality} files are missing under {self.folder}: "
                f"{shown(lost)}"
            )
        return paths

    def _parts(self) -> list[Path]:
        """The folders of v4's training set and test sets."""
        train, test = self.folder / "train_set", self.folder / "dev_set"
        return [train / "train_set", train, test / self.track, test]


def read_training_list(path: Path, language: str) -> pd.DataFrame:
    """Reads a list ``<wav> <jpg>``: columns voice, face (references) and identity, one row per line.

    The identity comes from the face: in v1 the voice ids are renumbered without the test identities, the face ids are
    not.

    Args:
        path: the list.
        language: the only language that may occur: a file of another one would make the test of that language invalid.

    Raises:
        DataError: a line that is not a pair, an unsafe path, a file without an identity, or files of another language.
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
            name, file_language, _ = media_fields(reference)
            if not name:
                raise DataError(
                    f"{path}, line {line}: {reference} names no identity (idNNNN/<Language>/<video>/<file>)"
                )
            if file_language != language:
                foreign.append(f"line {line} {reference}")
        identity.append(name)
    if foreign:
        raise DataError(
            f"{path}: {len(foreign)} files are not {language}, the only training language: {shown(foreign)}; "
            "take them out of the list"
        )
    return pd.DataFrame(rows, columns=["voice", "face"], dtype=object).assign(identity=identity)
