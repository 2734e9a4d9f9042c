"""Feature files that are nearly right: refused in one line, or read as they were meant."""

from __future__ import annotations

import resource
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from datamodules.features.table import open_feature_file
from datamodules.io.feature_files import FeatureFile
from datamodules.io.tables import read_table
from datamodules.schema import DataError

RNG = np.random.default_rng(0)
X = RNG.standard_normal((12, 4)).astype(np.float32)
NAMES = np.array([f"p{i}" for i in range(12)])


def text(x: np.ndarray, first: list | None = None, last: list | None = None) -> str:
    """Lines of a CSV, numbers as repr writes them; a column in front and one behind."""
    rows = []
    for i, row in enumerate(x):
        fields = [repr(float(v)) for v in row]
        rows.append(",".join([*([str(first[i])] if first else []), *fields, *([str(last[i])] if last else [])]))
    return "\n".join(rows) + "\n"


def opened(folder: Path, content: str | bytes, name: str = "x.csv", **options: object):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return open_feature_file(FeatureFile(str(path), **options), "voice")


def index(folder: Path) -> str:
    """A list of twelve voices."""
    path = folder / "list.csv"
    path.write_text("voice\n" + "".join(f"{name}.wav\n" for name in NAMES))
    return str(path)


@pytest.mark.parametrize("first", [
    [*range(6), *range(6)], [5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7, 8], [0, 3, 4, 9], [7, 2, 5], [0], [41],
])  # fmt: skip
@pytest.mark.parametrize("labelled", [True, False])
def test_row_numbers_of_any_kind_are_refused(tmp_path: Path, first: list[int], labelled: bool) -> None:
    last = [f"p{i}" for i in first] if labelled else None
    with pytest.raises(DataError, match=r"x\.csv: the first column numbers the rows"):
        opened(tmp_path, text(X[: len(first)], first, last), labelled=labelled)


@pytest.mark.parametrize("first", [[0.0] * 12, [0.0, 1.0] * 6, [1.0] * 12, (RNG.random(12) * 3).tolist()])
def test_features_that_are_whole_here_and_there_are_read(tmp_path: Path, first: list[float]) -> None:
    x = np.column_stack([first, X]).astype(np.float32)
    file = opened(tmp_path, text(x), labelled=False)
    np.testing.assert_allclose(file.x, x, rtol=1e-6)
    last = np.column_stack([X, [0.0] * 12])  # a feature that never fires
    np.testing.assert_allclose(opened(tmp_path, text(last), labelled=False).x, last, rtol=1e-6)


@pytest.mark.parametrize(
    "last", [[3, 3, 5, 5, 5, 7, 7, 7, 9, 9, 9, 9], [4, 4, 6], [12], [float(i // 2) for i in range(12)]]
)
def test_identities_of_a_file_that_is_said_to_have_none_are_refused(tmp_path: Path, last: list) -> None:
    content = text(X[: len(last)], last=last)
    with pytest.raises(DataError, match=r"x\.csv: the last column holds whole numbers, as identities do"):
        opened(tmp_path, content, labelled=False)
    assert opened(tmp_path, content, labelled=True).items.identity[0] == str(int(last[0]))


@pytest.mark.parametrize(("labels", "cut"), [
    (["p1", "p1", "p12", "p12"], 1), (["a7", "a7", "a70", "a70"], 1), (["10", "11", "12"], 1), (["id1", "id22"], 1),
])  # fmt: skip
def test_a_csv_that_ends_within_its_last_label_is_refused(tmp_path: Path, labels: list[str], cut: int) -> None:
    content = text(X[: len(labels)], last=labels)
    opened(tmp_path, content)
    opened(tmp_path, content.removesuffix("\n"))
    if any(label != labels[-1][:-cut] and label.startswith(labels[-1][:-cut]) for label in labels[:-1]):
        with pytest.raises(
            DataError, match=rf"x\.csv, line {len(labels)}: ends in '{labels[-1][:-cut]}' without a line"
        ):
            opened(tmp_path, content[: -cut - 1])


def test_a_shuffled_csv_without_a_last_line_end_is_read(tmp_path: Path) -> None:
    labels = ["12", "1", "12", "1", "3", "12", "1"]
    assert opened(tmp_path, text(X[:7], last=labels).removesuffix("\n")).items.identity.tolist() == labels


@pytest.mark.parametrize("form", ["%.18e", "%.6f"])
def test_a_csv_that_ends_within_its_last_number_is_refused(tmp_path: Path, form: str) -> None:
    """Numbers of as many decimals, as numpy writes them."""
    rows = "\n".join(",".join(form % value for value in row) for row in RNG.standard_normal((12, 6)))
    assert len(opened(tmp_path, rows, labelled=False, index=index(tmp_path)).items) == 12
    for cut in (1, 2, 5, len(form % 1) - 2):
        said = (
            r"x\.csv(: ends in .* without a line end, with fewer decimals|, line 12, column 6: .* not a finite number)"
        )
        with pytest.raises(DataError, match=said):
            opened(tmp_path, rows[:-cut], labelled=False, index=index(tmp_path))


@pytest.mark.parametrize("digits", [2, 4, 17])
def test_a_csv_of_rounded_numbers_may_end_in_a_short_one(tmp_path: Path, digits: int) -> None:
    rows = text(RNG.standard_normal((12, 6)).round(digits)).removesuffix("\n")
    short = rows.rpartition(",")[0] + ",0.5"
    assert len(opened(tmp_path, short, labelled=False, index=index(tmp_path)).items) == 12


@pytest.mark.parametrize("end", ["\r", "\r\n"])
@pytest.mark.parametrize("rows", [3, 8200])
def test_any_line_ends_are_read(tmp_path: Path, end: str, rows: int) -> None:
    """More numbers than a line may have."""
    content = text(RNG.standard_normal((rows, 4)).astype(np.float32), last=[f"p{i}" for i in range(rows)])
    before = opened(tmp_path, content, "a.csv")
    after = opened(tmp_path, content.replace("\n", end), "b.csv")
    assert after.items.identity.tolist() == before.items.identity.tolist()
    np.testing.assert_array_equal(after.x, before.x)


@pytest.mark.parametrize(("sign", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_other_separators_are_named(tmp_path: Path, sign: str, name: str) -> None:
    with pytest.raises(DataError, match=rf"x\.csv: its columns are separated by {name}; write commas"):
        opened(tmp_path, text(X).replace(",", sign), labelled=False)
    table = tmp_path / "t.csv"
    table.write_text(f"item{sign}identity\na{sign}p1\n")
    if sign == "\t":
        assert read_table(table, "index").iloc[0].tolist() == ["a", "p1"]
    else:
        with pytest.raises(DataError, match=rf"index .*t\.csv: its columns are separated by {name}"):
            read_table(table, "index")


@pytest.mark.parametrize("content", [b"," * 3_000_000, b"1" * 3_000_000, b"0.5,0.25,a\n" * 9 + b'"' + b"x" * 3_000_000])
@pytest.mark.parametrize("kind", ["feature file", "index"])
def test_lines_that_no_file_has_are_refused_at_once(tmp_path: Path, content: bytes, kind: str) -> None:
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=r"x\.csv, line \d+: longer than 1 MiB"):
        opened(tmp_path, content) if kind == "feature file" else read_table(_written(tmp_path / "x.csv", content), kind)
    assert time.perf_counter() - start < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
    wide = _written(tmp_path / "w.csv", b"item," * 40_000 + b"\n")
    with pytest.raises(DataError, match=r"w\.csv.*: more than 32,768 columns"):
        open_feature_file(str(wide), "voice") if kind == "feature file" else read_table(wide, kind)


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


ARRAYS = {
    "identity of another length": ({"identity": NAMES[:5]}, r"identity has shape \(5,\), but there are 12 rows"),
    "identity in two columns": ({"identity": np.stack([NAMES, NAMES], 1)}, r"identity has shape \(12, 2\)"),
    "NaN identity": ({"identity": np.r_[np.ones(6), [np.nan] * 6]}, "identity holds numbers that are not whole"),
    "half identity": ({"identity": np.arange(12) / 2}, "identity holds numbers that are not whole"),
    "rounded identity": ({"identity": np.arange(12) + 2.0**53}, "identity holds numbers that are not whole"),
    "objects": ({"identity": NAMES.astype(object)}, "cannot be read .it holds Python objects"),
    "times": ({"identity": np.arange(12).astype("M8[D]")}, "identity holds datetime64"),
    "structs": ({"identity": np.zeros(12, "i4,i4")}, "identity holds"),
}  # fmt: skip


@pytest.mark.parametrize("fault", ARRAYS)
def test_an_npz_whose_identities_are_none_is_refused(tmp_path: Path, fault: str) -> None:
    changes, said = ARRAYS[fault]
    np.savez(tmp_path / "x.npz", allow_pickle=True, x=X, item=NAMES, **changes)
    with pytest.raises(DataError, match=rf"^feature file .*x\.npz.*{said}") as error:
        open_feature_file(str(tmp_path / "x.npz"), "voice")
    assert "allow_pickle" not in str(error.value)


@pytest.mark.parametrize("make", [
    lambda n: np.arange(n), lambda n: np.arange(n, dtype=float), lambda n: np.arange(n)[:, None],
    lambda n: np.arange(n).astype(bytes), lambda n: np.arange(n, dtype=">u2"),
])  # fmt: skip
def test_identities_of_an_npz_may_be_numbers(tmp_path: Path, make) -> None:
    np.savez(tmp_path / "x.npz", x=X, item=NAMES, identity=make(12), language="English", faces=X[:5], video=NAMES[:5])
    items = open_feature_file(str(tmp_path / "x.npz"), "voice").items
    assert items.identity.tolist() == [str(i) for i in range(12)]
    assert set(items.language) == {"English"}
    assert set(items.video) == {""}  # it describes the faces


def test_names_of_another_kind_of_file_are_said(tmp_path: Path) -> None:
    index = _written(tmp_path / "i.csv", ("item\n" + "\n".join(NAMES) + "\n").encode())
    np.save(tmp_path / "x.npy", X)
    np.savez(tmp_path / "y.npz", x=X)
    shutil.copy(tmp_path / "x.npy", tmp_path / "a.npz")
    shutil.copy(tmp_path / "y.npz", tmp_path / "b.npy")
    shutil.copy(tmp_path / "x.npy", tmp_path / "C.NPY")
    for name, said in (
        ("a.npz", "one array without a name; name the file .npy"),
        ("b.npy", "several arrays; name the"),
    ):
        with pytest.raises(DataError, match=rf"^feature file .*{name}: cannot be read \({said}"):
            open_feature_file(FeatureFile(str(tmp_path / name), str(index)), "voice")
    np.testing.assert_array_equal(open_feature_file(FeatureFile(f"{tmp_path}/C.NPY", str(index)), "voice").x, X)
    np.save(tmp_path / "d.npy", {"a": X[0]}, allow_pickle=True)
    with pytest.raises(DataError, match=r"d\.npy: cannot be read \(it holds Python objects"):
        open_feature_file(FeatureFile(str(tmp_path / "d.npy"), str(index)), "voice")


def test_an_array_that_unpacks_to_a_hundred_times_its_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datamodules.io.documents.MAX_BYTES", 1 << 20)
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros((1 << 16, 8), np.float32))
    with pytest.raises(DataError, match=r"x\.npz: cannot be read \(an array unpacks to a hundred times"):
        open_feature_file(str(tmp_path / "x.npz"), "voice")


def test_an_infinite_half_is_refused(tmp_path: Path) -> None:
    x = X.astype(np.float16)
    x[3, 1] = np.inf
    np.savez(tmp_path / "x.npz", x=x, item=NAMES)
    with pytest.raises(DataError, match="row 4: the embedding of p3 contains NaN or inf"):
        open_feature_file(str(tmp_path / "x.npz"), "voice")


def test_ids_of_a_parquet_table_are_whole_numbers(tmp_path: Path) -> None:
    frame = pd.DataFrame({"item": [b"a", b"b", b"c"], "identity": [7.0, np.nan, 8.0], "video": [1, 2, 3]})
    frame.to_parquet(tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet", "index")
    assert table["item"].tolist() == ["a", "b", "c"]
    assert table["identity"].tolist() == ["7", "", "8"]
    assert table["video"].tolist() == ["1", "2", "3"]
    frame.assign(identity=2.0**53).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"t\.parquet: column identity holds numbers that were rounded"):
        read_table(tmp_path / "t.parquet", "index")


@pytest.mark.parametrize("key", ["item", "identity", "gender"])
def test_text_of_letters_that_do_not_exist_is_refused(tmp_path: Path, key: str) -> None:
    names = {"item": NAMES, "identity": NAMES} | {key: np.full(12, 0x7FFFFFFF, np.uint32).view("U1")}
    np.savez(tmp_path / "x.npz", x=X, **names)
    with pytest.raises(DataError, match=r"feature file .*x\.npz: .*letters that do not exist"):
        open_feature_file(FeatureFile(str(tmp_path / "x.npz")), "voice")
