"""VinDr-CXR: several readers' votes and boxes become one answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.config.run import DataSpec
from core.data.datasets.registry import open_data, open_dataset
from core.data.findings import VINDR, VINDR_27
from core.errors import DataError
from tests.support.layouts import edit_table

Fresh = Callable[[str], Any]


def test_most_readers_decide(made: Fresh) -> None:
    root = made("vindr").root
    dataset = open_data(DataSpec(name="vindr", root=root, findings="27"))
    assert dataset.findings == VINDR_27
    assert set(VINDR) < set(VINDR_27)
    read = pd.read_csv(root / "annotations" / "image_labels_train.csv")
    votes = read.groupby("image_id")[list(VINDR_27)].sum()
    assert {1, 2, 3} <= set(votes.to_numpy().ravel())
    found = dataset.table.loc[votes.index, list(VINDR_27)]
    assert np.array_equal(found, (votes >= 2).astype(float))
    tests = pd.read_csv(root / "annotations" / "image_labels_test.csv").set_index("image_id")
    tests = tests.rename(columns={"Other disease": "Other diseases"})[list(VINDR_27)]
    assert np.array_equal(dataset.table.loc[tests.index, list(VINDR_27)], tests.astype(float))
    assert set(dataset.ids("test")) == set(tests.index)


def test_equal_votes_leave_a_label_open(fresh: Fresh) -> None:
    root = fresh("vindr").root
    table = root / "annotations" / "image_labels_train.csv"
    read = pd.read_csv(table, dtype=str)
    one = read["image_id"].iloc[0]
    read.loc[:1, "Cardiomegaly"] = ["1", "0"]
    pd.concat([read[:2], read[3:]]).to_csv(table, index=False)
    dataset = open_dataset("vindr", root)
    assert np.isnan(dataset.table.loc[one, "Cardiomegaly"])


def test_boxes_of_all_readers_are_kept_for_what_is_present(made: Fresh) -> None:
    layout = made("vindr")
    dataset = open_dataset("vindr", layout.root)
    read = pd.read_csv(layout.root / "annotations" / "annotations_train.csv")
    read = read[read["class_name"] != "No finding"]
    drawn = {(one, name) for one, name in zip(read["image_id"], read["class_name"], strict=True)}
    kept = {(one, box.finding) for one in dataset.table.index for box in dataset.boxes(one)}
    present = {(one, name) for one, marked in layout.labels.items() for name in marked}
    assert kept == present
    assert drawn - kept  # one reader of three alone
    box = dataset.boxes(next(one for one, count in layout.boxes.items() if count == 2))[0]
    assert (box.x, box.y, box.width) == (4.0, 5.5, 16.25)


def test_sex_age_and_view_come_from_the_header(made: Fresh) -> None:
    dataset = open_dataset("vindr", made("vindr").root)
    study = dataset.study(dataset.ids("test")[0])
    assert (study.sex, study.age, study.view) == ("F", 49, "PA")
    assert "secret" not in repr(study)


def test_damaged_tables_are_refused(fresh: Fresh) -> None:
    root = fresh("vindr").root
    table = root / "annotations" / "image_labels_train.csv"
    edit_table(table, lambda read: read.assign(ILD=["2", *read["ILD"][1:]]))
    with pytest.raises(DataError, match="“ILD” are not labels"):
        open_dataset("vindr", root)
    edit_table(table, lambda read: read.assign(ILD="0").drop(columns="Other diseases"))
    open_dataset("vindr", root)
    with pytest.raises(DataError, match="no column Other diseases"):
        open_dataset("vindr", root, findings="27")
    edit_table(table, lambda read: pd.concat([read, read[:1].assign(ILD="1")]))
    with pytest.raises(DataError, match="contradictory rows"):
        open_dataset("vindr", root)


@pytest.mark.parametrize(("column", "value"), [("class_name", "Gout"), ("x_max", "wide")])
def test_lines_that_are_no_box_are_quoted(column: str, value: str, fresh: Fresh) -> None:
    layout = fresh("vindr")
    table = layout.root / "annotations" / "annotations_train.csv"
    read = pd.read_csv(table, dtype=str, keep_default_na=False)
    at = read.index[read["class_name"] != "No finding"][0]
    read.loc[at, column] = value
    read.to_csv(table, index=False)
    dataset = open_dataset("vindr", layout.root)
    with pytest.raises(DataError, match=f"Line {at + 2} of"):
        dataset.boxes(dataset.ids("test")[0])


def test_an_image_in_both_parts_is_a_leak(fresh: Fresh) -> None:
    root = fresh("vindr").root
    tests = root / "annotations" / "image_labels_test.csv"
    trained = pd.read_csv(root / "annotations" / "image_labels_train.csv")["image_id"].iloc[0]
    edit_table(tests, lambda read: read.assign(image_id=[trained, *read["image_id"][1:]]))
    with pytest.raises(DataError, match=trained):
        open_dataset("vindr", root)
