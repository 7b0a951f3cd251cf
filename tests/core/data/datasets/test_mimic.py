"""MIMIC-CXR-JPG: labels by study, views, and what its tables must not say."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.config.run import DataSpec
from core.data.datasets.registry import open_data, open_dataset
from core.data.findings import CHEXPERT, CHEXPERT_14
from core.errors import DataError
from tests.support.layouts import edit_table

Fresh = Callable[[str], Any]
TABLE = "mimic-cxr-2.0.0-{}.csv.gz"


def edit(root: Path, what: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    edit_table(root / TABLE.format(what), change)


@pytest.mark.parametrize("policy", ["mixed", "ones", "zeros", "ignore"])
def test_each_image_has_the_labels_of_its_study(policy: str, made: Fresh) -> None:
    root = made("mimic").root
    asked = DataSpec(name="mimic", root=root, uncertainty=policy, findings="14", views="all")
    dataset = open_data(asked)
    assert dataset.findings == CHEXPERT_14
    tables = {one: pd.read_csv(root / TABLE.format(one)) for one in ("split", "chexpert")}
    read = tables["split"].merge(tables["chexpert"], on="study_id").set_index("dicom_id")
    assert set(read.index) == set(dataset.table.index)
    ones = {"Atelectasis", "Edema", "Pleural Effusion"}
    for name in CHEXPERT_14:
        rule = 1.0 if name in ones else 0.0 if name in CHEXPERT else np.nan
        becomes = {"mixed": rule, "ones": 1.0, "zeros": 0.0, "ignore": np.nan}[policy]
        expected = read[name].fillna(0.0).where(read[name] != -1, becomes)
        found = dataset.table.loc[read.index, name]
        assert np.array_equal(found, expected, equal_nan=True), name
        assert (read[name] == -1).any()


def test_views_splits_and_patients_come_from_the_tables(made: Fresh) -> None:
    layout = made("mimic")
    every = open_data(DataSpec(name="mimic", root=layout.root, views="all"))
    frontal = open_data(DataSpec(name="mimic", root=layout.root))
    assert set(every.table["view"]) == {"PA", "AP", "LATERAL", ""}
    assert set(frontal.table["view"]) == {"PA", "AP"}
    assert "frontal" in frontal.split_name
    assert "frontal" not in every.split_name
    read = pd.read_csv(layout.root / TABLE.format("split")).set_index("dicom_id")
    words = {"train": "train", "validate": "val", "test": "test"}
    assert (read["split"].map(words).loc[every.table.index] == every.table["split"]).all()
    assert set(every.table["patient"]) <= {f"p{one}" for one in read["subject_id"]}
    assert any("2 images of studies without labels" in note for note in every.notes)


@pytest.mark.parametrize(
    ("what", "column", "value"),
    [
        ("split", "dicom_id", "../../etc/passwd"),
        ("split", "study_id", "1/../../2"),
        ("split", "subject_id", "12"),
        ("chexpert", "study_id", ""),
    ],
)
def test_identifiers_that_could_lead_elsewhere_are_refused(
    what: str, column: str, value: str, fresh: Fresh
) -> None:
    root = fresh("mimic").root
    edit(root, what, lambda read: read.assign(**{column: [value, *read[column][1:]]}))
    with pytest.raises(DataError, match=f"not a valid {column}") as caught:
        open_dataset("mimic", root)
    assert caught.value.field == "data.root"


def test_unknown_splits_and_labels_are_refused(fresh: Fresh) -> None:
    root = fresh("mimic").root
    edit(root, "split", lambda read: read.assign(split=["dev", *read["split"][1:]]))
    with pytest.raises(DataError, match="splits other than"):
        open_dataset("mimic", root)
    edit(root, "split", lambda read: read.assign(split=["train", *read["split"][1:]]))
    edit(root, "chexpert", lambda read: read.assign(Edema=["yes", *read["Edema"][1:]]))
    with pytest.raises(DataError, match="are not labels"):
        open_dataset("mimic", root)


def test_a_patient_in_two_splits_is_named(fresh: Fresh) -> None:
    root = fresh("mimic").root
    edit(root, "split", lambda read: read.assign(split=["test", *read["split"][1:]]))
    open_dataset("mimic", root)  # the first patient has one image only
    rows = pd.read_csv(root / TABLE.format("split"), dtype=str)
    two = rows["subject_id"].mode()[0]
    at = rows.index[rows["subject_id"] == two][0]
    rows.loc[at, "split"] = "test" if rows.loc[at, "split"] != "test" else "train"
    rows.to_csv(root / TABLE.format("split"), index=False)
    with pytest.raises(DataError, match=f"p{two}"):
        open_dataset("mimic", root, views="all")


def test_a_missing_or_damaged_table_is_named(fresh: Fresh) -> None:
    root = fresh("mimic").root
    path = root / TABLE.format("metadata")
    path.write_bytes(gzip.compress(b"dicom_id,Rows\nab,1\n"))
    with pytest.raises(DataError, match="no column ViewPosition"):
        open_dataset("mimic", root)
    path.write_bytes(b"\x1f\x8b\x08 not a gzip file")
    with pytest.raises(DataError, match=r"metadata\.csv\.gz cannot be read"):
        open_dataset("mimic", root)
    path.unlink()
    with pytest.raises(DataError, match=r"mimic-cxr-2\.0\.0-metadata\.csv is not in"):
        open_dataset("mimic", root)
