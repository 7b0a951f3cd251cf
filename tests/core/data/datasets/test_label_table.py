"""Tables of labels as people write them: separators, marks, words, gaps and faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.config.run import DataSpec
from core.data.datasets.folder_description import Description
from core.data.datasets.label_table import read_label_table
from core.data.datasets.registry import open_data, open_dataset
from core.errors import DataError
from tests.support.layouts import body_image, save

NORMAL = {"normal"}


def read(tmp_path: Path, text: str | bytes, **about: Any) -> Any:
    file = tmp_path / "labels.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_label_table(file, Description(folder=tmp_path, **about), NORMAL)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_separators_marks_and_line_ends(
    tmp_path: Path, separator: str, mark: str, end: str
) -> None:
    rows = [["path", "patient", "Edema"], ["a.png", "P1", "1"], ["b c.png", "P2", "0"]]
    table = read(tmp_path, mark + end.join(separator.join(row) for row in rows) + end)
    assert list(table.index) == ["a.png", "b c.png"]
    assert list(table["patient"]) == ["P1", "P2"]
    assert list(table["Edema"]) == [1, 0]


def test_words_for_labels(tmp_path: Path) -> None:
    words = {"yes": 1, "YES": 1, " true ": 1, "present": 1, "1.0": 1, "no": 0, "False": 0,
             "absent": 0, "": np.nan, "-1": np.nan, "uncertain": np.nan, "n/a": np.nan}  # fmt: skip
    rows = "".join(f"{i}.png,{word}\n" for i, word in enumerate(words))
    found = read(tmp_path, f"path,Edema\n{rows}")["Edema"]
    np.testing.assert_array_equal(found.to_numpy(), list(words.values()))


def test_names_in_an_old_encoding_are_read(tmp_path: Path) -> None:
    table = read(tmp_path, "path;Ödem\nä.png;1\nb.png;0\n".encode("latin-1"))
    assert list(table.index) == ["ä.png", "b.png"]
    assert "Ödem" in table.columns


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a table"),
        ("\n\n", "not a table"),
        ("path,Edema\n", "has no rows"),
        ("patient,Edema\nP1,1\n", "no column of paths"),
        ("path,Edema\n,1\n", "no column of paths without empty cells"),
        ("path,patient\na.png,P1\n", "no column of findings"),
        ("path,Edema\n" + "a.png,1\n" * 30 + "b.png,maybe\n", r"line 32: “maybe”"),
        ('path,Edema\n"a.png,1\nb.png,0\n', "not a table|no column of findings"),
        (b"\x00\x01\x02\xff" * 100, "not a table|no column|no rows"),
    ],
)
def test_what_is_no_table_of_labels_is_refused(
    tmp_path: Path, text: str | bytes, words: str
) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read(tmp_path, text)
    assert caught.value.remedy


def test_named_columns_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column “who”"):
        read(tmp_path, "path,Edema\na.png,1\n", columns={"patient": "who"})
    with pytest.raises(DataError, match="no column Mass"):
        read(tmp_path, "path,Edema\na.png,1\n", findings={"Edema": "Edema", "Mass": "Mass"})


def folder(tmp_path: Path, extra: str) -> Path:
    root = tmp_path / "own"
    rows = []
    for number in range(12):
        save(root / f"{number}.png", body_image(number))
        rows.append(
            f"{number}.png,P{number},{('train', 'val', 'test')[number % 3]},{number // 3 % 2}"
        )
    (root / "labels.csv").write_text("path,patient,split,Edema\n" + "\n".join(rows) + "\n" + extra)
    return root


def test_equal_rows_count_once_and_differing_ones_are_refused(tmp_path: Path) -> None:
    root = folder(tmp_path, "0.png,P0,train,0\n")
    assert len(open_dataset("folder", root).table) == 12
    root = folder(tmp_path, "0.png,P0,train,1\n")
    with pytest.raises(DataError, match=r"1 images have several rows .*\(0\.png\)"):
        open_dataset("folder", root)


@pytest.mark.parametrize(
    "path", ["../secret.png", "a/../../secret.png", "/etc/passwd", "..\\secret.png"]
)
def test_paths_that_climb_out_of_the_folder_are_refused(tmp_path: Path, path: str) -> None:
    save(tmp_path / "secret.png", body_image(1))
    root = folder(tmp_path, f"{path},P99,train,1\n")
    with pytest.raises(DataError, match="is outside of the folder"):
        open_dataset("folder", root)


def test_unknown_splits_and_shared_patients_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="contains the split “holdout”"):
        open_dataset("folder", folder(tmp_path, "0.png,P0,train,0\n1.png,P1,holdout,0\n"
                                      .replace("1.png", "./1.png")))  # fmt: skip
    save(tmp_path / "own" / "12.png", body_image(12))
    with pytest.raises(DataError, match=r"patients are in more than one split .*P0"):
        open_dataset("folder", folder(tmp_path, "12.png,P0,test,0\n"))


def test_columns_and_findings_are_named_in_a_line(tmp_path: Path) -> None:
    rows = ["Bild,Wer,Teil,Rö,Fx,Rest"]
    for i in range(18):
        part = ("train", "val", "test")[i % 3]
        save(tmp_path / f"{i}.png", body_image(i))
        rows.append(f"{i}.png,P{i},{part},x,{i // 3 % 2},{i // 3 % 2}")
    (tmp_path / "a.csv").write_text("\n".join(rows), encoding="utf-8")
    (tmp_path / "b.csv").write_text("path\n")
    said = {"table": "a.csv", "columns": "path=Bild, patient = Wer,split=Teil"}

    def opened(**options: str) -> Any:
        return open_data(DataSpec(name="folder", root=tmp_path, **{**said, **options}))

    dataset = opened(labels="Fx=Fracture")
    assert dataset.findings == ("Fracture",)
    assert dataset.study("4.png").patient == "P4"
    assert {one: len(dataset.ids(one)) for one in ("train", "val", "test")} == {
        "train": 6, "val": 6, "test": 6,
    }  # fmt: skip
    assert opened().findings == ("Fx", "Rest")
    for options, words, field in (
        ({"columns": "path:Bild"}, "is not a list of columns", "data.columns"),
        ({"columns": "picture=Bild"}, "Unknown column “picture”", "data.columns"),
        ({"columns": "path=Image"}, "no column “Image”", "data.columns"),
        ({"labels": "Fx,,Rest"}, "is not a list of labels", "data.labels"),
        ({"labels": "Fx, Mass"}, "no column Mass", "data.labels"),
        ({"table": "../a.csv"}, "no table", "data.table"),
    ):
        with pytest.raises(DataError, match=words) as caught:
            opened(**options)
        assert caught.value.field == field
