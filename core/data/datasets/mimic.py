"""MIMIC-CXR-JPG (Johnson et al. 2019), in the layout of PhysioNet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from core.data import splits
from core.data.datasets.files import (
    UNTESTED,
    FileDataset,
    check_files,
    check_splits,
    dataset_folder,
    existing_files,
)
from core.data.datasets.published_tables import each_once, read_table, require_table
from core.data.datasets.registry import DATASETS
from core.data.datasets.uncertain_labels import SENTENCES, decided
from core.data.findings import CHEXPERT, CHEXPERT_14
from core.data.problems import examples, raise_or_collect
from core.errors import DataError

FOLDERS = tuple(
    f"{above}{version}"
    for above in ("", "mimic-cxr-jpg/", "physionet.org/files/mimic-cxr-jpg/")
    for version in ("2.1.0", "2.0.0")
)
"""Possible folders of the data set below the folder of a download."""

TABLE = "mimic-cxr-2.0.0-{}.csv"
SPLIT_NAMES = {"train": "train", "validate": "val", "test": "test"}
NUMBERS = {"subject_id": r"\d{8}", "study_id": r"\d{8}", "dicom_id": r"[0-9a-f]+(?:-[0-9a-f]+)*"}
"""Format of the identifiers, which become parts of paths."""

VIEWS = {"PA": "PA", "AP": "AP", "LATERAL": "LATERAL", "LL": "LATERAL"}
REMEDY = "Download it from physionet.org/content/mimic-cxr-jpg, or give another folder."


class Mimic(FileDataset):
    """377,110 radiographs of 65,379 patients, labelled from reports by CheXpert's labeller.

    Labels belong to a study: all of its images have them. A finding that a report does not mention
    counts as absent, as in CheXpert. Studies without a row of labels are left out.

    Args:
        root: The folder with ``files`` and the tables ``mimic-cxr-2.0.0-chexpert.csv``,
            ``-split.csv`` and ``-metadata.csv`` (each plain or with ``.gz``), or one above it.
            Images are ``files/p10/p10000032/s50414267/DICOM_ID.jpg``. Version 2.1.0 is assumed to
            have the same tables under the same names; its additional labels of the test split by a
            radiologist are not read.
        findings: ``5`` as in CheXpert's competition, or all ``14``.
        uncertainty: How to use a label marked uncertain; see
            ``core.data.datasets.uncertain_labels``.
        views: ``frontal`` (``ViewPosition`` PA or AP), or ``all``.

    Raises:
        DataError: Something is missing or contradictory.
    """

    name = "mimic"
    title = DATASETS[name].title
    licence = DATASETS[name].licence
    citation = "Johnson et al., MIMIC-CXR-JPG, arXiv 1901.07042"

    def __init__(
        self, root: Path, *, findings: str = "5", uncertainty: str = "mixed", views: str = "frontal"
    ) -> None:
        self.findings = {"5": CHEXPERT, "14": CHEXPERT_14}[findings]
        self.root = dataset_folder(Path(root), "files", FOLDERS, self.title, REMEDY)
        self.split_name = "official" if views == "all" else "official, frontal views"
        self.notes = (SENTENCES[uncertainty], UNTESTED)
        rows = self._rows()
        if views == "frontal":
            rows = rows[rows["view"].isin(["PA", "AP"])]
        labels = self._labels(uncertainty)
        unlabelled = ~rows["study"].isin(labels.index)
        if unlabelled.any():
            self.notes += (f"{unlabelled.sum():,} images of studies without labels are left out.",)
            rows = rows[~unlabelled]
        table = rows[["patient", "split"]].assign(sex="", age=np.nan, view=rows["view"])
        table[list(self.findings)] = labels.loc[rows["study"]].to_numpy()
        self.table = table
        splits.check_shared_patients(self.table, self.title)
        listed = dict(zip(map(str, rows.index), map(str, rows["file"]), strict=True))
        existing = existing_files(self.root, listed)
        self.files = check_files(
            self.title,
            {image: existing.get(image) for image in listed},
            f"Complete {self.root / 'files'}, or remove the missing images from the split table.",
        )
        check_splits(self.title, self.table, f"the split table in {self.root}")

    def _read(self, kind: str, columns: list[str]) -> tuple[Path, pd.DataFrame]:
        path = require_table(self.root, [TABLE.format(kind)], self.title, REMEDY)
        read = read_table(path, columns, self.title, REMEDY)[columns]
        for column in columns:
            if column in NUMBERS:
                self._check_identifiers(path, column, read[column])
        return path, read

    def _check_identifiers(self, path: Path, column: str, cells: pd.Series) -> None:
        invalid = list(map(str, cells[~cells.str.fullmatch(NUMBERS[column])]))
        if invalid:
            # Raised in a check, too: nothing else can be read without identifiers.
            raise DataError(
                f"{self.title}: {path} contains {len(invalid):,} values that are not a valid "
                f"{column} ({examples(invalid)}).",
                "Restore the file.",
                field="data.root",
            )

    def _rows(self) -> pd.DataFrame:
        """Return one row per image: patient, study, split, view, file."""
        path, read = self._read("split", ["dicom_id", "study_id", "subject_id", "split"])
        read = each_once(read, "dicom_id", path)
        table = pd.DataFrame(index=pd.Index(read["dicom_id"].to_numpy(str), name="id"))
        subject, study = read["subject_id"].to_numpy(str), read["study_id"].to_numpy(str)
        table["patient"] = [f"p{number}" for number in subject]
        table["study"] = study
        table["split"] = read["split"].str.strip().map(SPLIT_NAMES).to_numpy()
        unknown = list(map(str, table.index[table["split"].isna()]))
        if unknown:
            raise_or_collect(
                "unknown splits",
                unknown,
                DataError(
                    f"{path} contains splits other than {', '.join(SPLIT_NAMES)} for "
                    f"{len(unknown):,} images ({examples(unknown)}).",
                    "Restore the file.",
                    field="data.root",
                ),
            )
            table = table[table["split"].notna()]
        table["file"] = [
            f"files/{patient[:3]}/{patient}/s{study}/{image}.jpg"
            for image, patient, study in zip(
                table.index, table["patient"], table["study"], strict=True
            )
        ]
        table["view"] = self._views().reindex(table.index).fillna("")
        return table

    def _views(self) -> pd.Series:
        path, read = self._read("metadata", ["dicom_id", "ViewPosition"])
        read = each_once(read, "dicom_id", path).set_index("dicom_id")
        return read["ViewPosition"].str.strip().str.upper().map(VIEWS).fillna("")

    def _labels(self, policy: str) -> pd.DataFrame:
        """Return the labels by study."""
        path, read = self._read("chexpert", ["study_id", *self.findings])
        read = each_once(read, "study_id", path).set_index("study_id")
        return decided(read, self.findings, policy, path)
