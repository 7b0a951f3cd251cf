"""PadChest: terms and findings, who labelled, and what is left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.config.run import DataSpec
from core.data.datasets.padchest import FINDINGS, TERMS
from core.data.datasets.registry import open_data, open_dataset
from core.data.findings import NIH
from core.errors import DataError

Fresh = Callable[[str], Any]


def table_of(root: Path) -> Path:
    return next(root.glob("PADCHEST*.csv"))


def edit(root: Path, column: str, value: str) -> str:
    """Change a cell of the first row; its image."""
    read = pd.read_csv(table_of(root), dtype=str, keep_default_na=False)
    read.loc[0, column] = value
    read.to_csv(table_of(root), index=False)
    return str(read.loc[0, "ImageID"])


def test_every_finding_has_terms() -> None:
    assert tuple(TERMS) == NIH
    assert FINDINGS["hydropneumothorax"] == ["Effusion", "Pneumothorax"]
    assert all(term == term.strip().lower() for term in FINDINGS)


def test_facts_come_from_the_table(made: Fresh) -> None:
    root = made("padchest").root
    dataset = open_data(DataSpec(name="padchest", root=root, views="all"))
    read = pd.read_csv(table_of(root)).set_index("ImageID").loc[dataset.table.index]
    assert (dataset.table["sex"] == read["PatientSex_DICOM"]).all()
    assert np.array_equal(dataset.table["age"], 2013 - read["PatientBirth"])
    assert set(dataset.table["view"]) == {"PA", "AP", "LATERAL", ""}
    assert any("4 images without labels" in note for note in dataset.notes)
    frontal = open_data(DataSpec(name="padchest", root=root))
    assert set(frontal.table.index) == set(
        read.index[read["Projection"].isin(["PA", "AP_horizontal"])]
    )


def test_a_part_of_the_set_is_split_as_the_whole_is(fresh: Fresh) -> None:
    root = fresh("padchest").root
    whole = open_dataset("padchest", root, views="all").table["split"]
    read = pd.read_csv(table_of(root), dtype=str, keep_default_na=False)
    read[20:].to_csv(table_of(root), index=False)
    part = open_dataset("padchest", root, views="all").table["split"]
    assert (whole.loc[part.index] == part).all()


def test_physicians_labels_alone_test(made: Fresh) -> None:
    layout = made("padchest-physicians")
    dataset = open_dataset("padchest", layout.root, "physicians")
    everybody = open_dataset("padchest", layout.root)
    assert dataset.ids("train") == everybody.ids("train")
    assert dataset.ids("val") == everybody.ids("val")
    assert set(dataset.ids("test")) < set(everybody.ids("test"))


@pytest.mark.parametrize(
    "cell", ["cardiomegaly", "['a', 1]", "{'a'}", "__import__('os')", "[" * 999]
)
def test_labels_that_are_no_list_are_refused(cell: str, fresh: Fresh) -> None:
    root = fresh("padchest").root
    one = edit(root, "Labels", cell)
    with pytest.raises(DataError, match="not a list of terms") as caught:
        open_dataset("padchest", root)
    assert one in str(caught.value)


def test_paths_and_nobody_are_refused(fresh: Fresh) -> None:
    root = fresh("padchest").root
    (root.parent / "secret.png").write_bytes(b"x")
    edit(root, "ImageID", "../secret.png")
    with pytest.raises(DataError, match="missing"):
        open_dataset("padchest", root)
    edit(root, "PatientID", " ")
    with pytest.raises(DataError, match="has no patient"):
        open_dataset("padchest", root)
