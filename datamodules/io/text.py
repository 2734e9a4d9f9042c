"""Text files: opening and splitting them, with errors that name the file, the line and the remedy."""

from __future__ import annotations

import csv
import difflib
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from datamodules.schema import DataError

LONGEST = 1 << 20
"""Bytes of a line. A row of a feature file with ten thousand numbers has a fifth of it."""
WIDEST = 1 << 15
"""Columns of a row."""
NUMBERED = re.compile(r"(\D*)0*([0-9]+?)(?:\.0+)?")
UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""What is not seen beside the format characters (Cf): joiners, fillers and selectors of variants."""
ALIKE = str.maketrans("авекмнорстухіјѕαβεικορτχν", "abekmhopctyxijsabeikoptxv")
"""Latin letters by the Cyrillic and Greek ones that look like them, small or large."""


def nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """``; did you mean X?`` for an error message, or "" when nothing known is close.

    Args:
        name: what was written.
        known: what is there.
        prefix: put in front of the suggestion.
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {prefix}{close[0]}?" if close else ""


def plain_name(name: str) -> str:
    """A name in one Unicode form (NFC), so that composed and decomposed letters of file systems are the same."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def printable(text: str) -> str:
    """Text in which line ends and other letters that are not printed are escaped, as bytes that are no UTF-8."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def name_key(name: str, alike: bool = True) -> str:
    """What two spellings of one name have in common.

    They may differ in case, in Unicode form (NFC, NFD, full width, ligatures), in letters that are not seen, in
    Cyrillic and Greek letters that look like Latin ones, in the digits of other scripts, and in blanks or underscores
    between words.

    Args:
        name: what was written.
        alike: whether letters that look alike are the same, and digits of all scripts.
    """
    text = name.casefold()
    if not name.isascii():
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
        text = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
        if alike:
            text = "".join(str(unicodedata.decimal(letter, letter)) for letter in UNSEEN.sub("", text).translate(ALIKE))
    return " ".join(text.replace("_", " ").split())


def numbered(key: str) -> tuple[str, str]:
    """A name in two parts, of which the second is its number without leading zeros; "" where it has none.

    ``id07`` is ``id7``, and ``7.0``, as a table of numbers may be written, is ``7``.
    """
    match = NUMBERED.fullmatch(key)
    return (match[1], match[2]) if match else (key, "")


def shown(names: Sequence[str], most: int = 5) -> str:
    """The first names of many, for an error message: ``a, b, c, d, e, ...``."""
    return ", ".join(names[:most]) + ", ..." * (len(names) > most)


def expanded(path: str | Path) -> Path:
    """The path with ``~`` replaced by the home folder; an unknown user's ``~name`` stays."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def counted(number: int, word: str, several: str | None = None) -> str:
    """``1 run``, ``2 runs``; ``several`` is the plural where it is not the word and an s."""
    return f"{number} {word if number == 1 else several or f'{word}s'}"


def is_file(path: Path) -> bool:
    """Whether the path is a file; false for a name that is too long, where ``Path.is_file`` raises."""
    try:
        return path.is_file()
    except OSError:
        return False


def plain_file(path: Path, what: str = "", remedy: str = "") -> Path:
    """The path of a file to open. A pipe or a socket would be waited for, and a device may never end.

    Args:
        path: the file; it need not exist.
        what: its role, for the message.
        remedy: what to do where it is something else.

    Raises:
        DataError: it is a folder, pipe, socket or device.
    """
    if not path.is_file() and path.exists():  # a file is looked at once
        raise DataError(f"{what} {path}: is no file{remedy and '; '}{remedy}".lstrip())
    return path


def split_fragment(path: str | Path) -> tuple[str, str]:
    """Splits ``folds.json#0`` into the file and the part of it that is meant.

    Names of folders and files may contain a # themselves.
    """
    path = str(path)
    ends = [i for i, letter in enumerate(path) if letter == "#"]
    for end in (*ends, len(path)):
        if is_file(expanded(path[:end])):
            return path[:end], path[end + 1 :]
    end = next((i for i in ends if i > path.rfind("/")), len(path))
    return path[:end], path[end + 1 :]


def existing(path: str | Path, what: str) -> Path:
    """The path of a file that must exist.

    Args:
        path: the file.
        what: its role, for the message: ``trial list``.

    Raises:
        DataError: there is no such file; names the nearest in its folder, or the part of the path that is missing.
    """
    path = expanded(path)
    if is_file(path):
        return path
    if _is_folder(path):
        raise DataError(f"{what} {path}: is a folder, a file is expected")
    if _is_folder(path.parent):
        hint = nearest(path.name, (p.name for p in path.parent.iterdir()))
        raise DataError(f"{what} {path}: no such file{hint}")
    missing = path
    while missing.parent != missing and not _is_folder(missing.parent):
        missing = missing.parent
    raise DataError(
        f"{what} {path}: no such file; the folder {missing} does not exist; check the path and data.root"
        " (packaged configs take it from VOICEFACE_DATA or MAVCELEB_FEATURES)"
    )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def check_lines(path: Path, what: str) -> None:
    """Refuses a file with a line that is too long for any list or table, before it is read into memory.

    Raises:
        DataError: unreadable, or a line of more than a MiB; names it.
    """
    line, length = 1, 0
    try:
        with path.open("rb") as file:
            while block := file.read(LONGEST):
                first, last = _line_end(block, block.find), _line_end(block, block.rfind)
                if length + (len(block) if first < 0 else first) > LONGEST:
                    raise DataError(f"{what} {path}, line {line}: longer than {LONGEST >> 20} MiB; is it damaged?")
                length = length + len(block) if last < 0 else len(block) - last - 1
                line += block.count(b"\n")
    except OSError as error:
        raise DataError(f"{what} {path}: cannot be read ({error.strerror})") from error


def _line_end(block: bytes, find: Callable[[bytes], int]) -> int:
    r"""Position of the first or last ``\n``, or of ``\r`` where there is none; -1 without a line end."""
    at = find(b"\n")
    return at if at >= 0 else find(b"\r")


def read_text(path: str | Path, what: str) -> str:
    r"""Text of a UTF-8 file, without byte order mark, lines ended by ``\n``.

    Raises:
        DataError: missing, unreadable or not UTF-8 (names the line).
    """
    path = existing(path, what)
    if Path(path).suffix.lower() != ".json":
        check_lines(path, what)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{what} {path}: cannot be read ({error.strerror})") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{what} {path}, line {line}: not UTF-8; save the file as UTF-8 text") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{what} {path}, line {line}: contains a zero byte; this is not a text file")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def csv_rows(text: str, where: str) -> tuple[list[list[str]], list[int]]:
    """Rows of comma-separated text, and the line (from 1) that each row ends on.

    Fields are stripped; blank rows are left out.

    Raises:
        DataError: broken quoting; names the line.
    """
    reader = csv.reader(_lines(text), strict=True)
    rows, lines = [], []
    try:
        for row in reader:
            row = [field.strip() for field in row]
            if len(row) > WIDEST:
                raise DataError(f"{where}, line {reader.line_num}: more than {WIDEST:,} columns; is it damaged?")
            if any(row):
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(f"{where}, line {reader.line_num}: {error}; check the quotes") from error
    return rows, lines


def _lines(text: str) -> Iterator[str]:
    """The lines of a text with their ends, one at a time: a StringIO takes four bytes for each letter."""
    start = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        yield text[start:end]
        start = end


def other_separator(head: str) -> str:
    """The separator of columns other than a comma, by name, of a line that has no comma; "" where it has none."""
    names = {";": "semicolons", "\t": "tabs", "|": "bars"}
    return "" if "," in head else next((name for sign, name in names.items() if sign in head), "")


def blank_separated_rows(text: str) -> tuple[list[list[str]], list[int]]:
    """Rows of text whose columns are separated by blanks, and the line (from 1) of each; blank rows are left out."""
    return _without_blank_rows([line.split() for line in text.split("\n")])


def tab_separated_rows(text: str) -> tuple[list[list[str]], list[int]]:
    """Rows of text whose columns are separated by tabs, and the line (from 1) of each; blank rows are left out."""
    return _without_blank_rows([[field.strip() for field in line.split("\t")] for line in text.split("\n")])


def _without_blank_rows(rows: list[list[str]]) -> tuple[list[list[str]], list[int]]:
    kept = [i for i, row in enumerate(rows) if any(row)]
    return [rows[i] for i in kept], [i + 1 for i in kept]
