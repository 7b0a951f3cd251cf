"""MIMIC-CXR-JPG (Johnson et al. 2019), as PhysioNet publishes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from core.data import splits
from core.data.base import SPLITS
from core.data.datasets.files import (
    UNSEEN,
    FileDataset,
    check_empty,
    check_missing,
    present,
    unpacked,
)
from core.data.datasets.published_tables import each_once, find_table, read_table
from core.data.datasets.uncertain_labels import SENTENCES, decided
from core.data.findings import CHEXPERT, CHEXPERT_14
from core.data.problems import examples, refuse
from core.errors import DataError

FOLDERS = tuple(
    f"{above}{version}"
    for above in ("", "mimic-cxr-jpg/", "physionet.org/files/mimic-cxr-jpg/")
    for version in ("2.1.0", "2.0.0")
)
"""Where the set may lie below the folder that a download makes."""

TABLE = "mimic-cxr-2.0.0-{}.csv"
SPLIT_NAMES = {"train": "train", "validate": "val", "test": "test"}
NUMBERS = {"subject_id": r"\d{8}", "study_id": r"\d{8}", "dicom_id": r"[0-9a-f]+(?:-[0-9a-f]+)*"}
"""What identifiers look like; they become parts of paths."""

VIEWS = {"PA": "PA", "AP": "AP", "LATERAL": "LATERAL", "LL": "LATERAL"}
REMEDY = "Download it from physionet.org/content/mimic-cxr-jpg, or name another folder."


class Mimic(FileDataset):
    """377,110 radiographs of 65,379 patients, labelled from reports by CheXpert's labeller.

    Labels belong to a study: each of its pictures has them. A finding that a report does not
    mention counts as absent, as in CheXpert. Studies without a row of labels are left out.

    Args:
        root: The folder with ``files`` and the tables ``mimic-cxr-2.0.0-chexpert.csv``,
            ``-split.csv`` and ``-metadata.csv`` (each plain or with ``.gz``), or one above it.
            Pictures are ``files/p10/p10000032/s50414267/DICOM_ID.jpg``. Version 2.1.0 is taken to
            have the same tables under the same names; its further labels of the test split by a
            radiologist are not read.
        findings: ``5`` as in CheXpert's competition, or all ``14``.
        uncertainty: What a label marked uncertain counts as; see
            ``core.data.datasets.uncertain_labels``.
        views: ``frontal`` (``ViewPosition`` PA or AP), or ``all``.

    Raises:
        DataError: Something is missing or contradictory.
    """

    title = "MIMIC-CXR-JPG"
    licence = "PhysioNet Credentialed Health Data License 1.5.0"
    citation = "Johnson et al., MIMIC-CXR-JPG, arXiv 1901.07042"

    def __init__(
        self,
        root: Path,
        *,
        findings: str = "5",
        uncertainty: str = "mixed",
        views: str = "frontal",
    ) -> None:
        self.name = "mimic"
        self.findings = {"5": CHEXPERT, "14": CHEXPERT_14}[findings]
        self.root = unpacked(Path(root), "files", FOLDERS, self.title, REMEDY)
        self.split_name = "official" if views == "all" else "official, frontal views"
        self.notes = (SENTENCES[uncertainty], UNSEEN)
        rows = self._rows()
        if views == "frontal":
            rows = rows[rows["view"].isin(["PA", "AP"])]
        labels = self._labels(uncertainty)
        unlabelled = ~rows["study"].isin(labels.index)
        if unlabelled.any():
            self.notes += (
                f"{unlabelled.sum():,} pictures of studies without labels are left out.",
            )
            rows = rows[~unlabelled]
        table = rows[["patient", "split"]].assign(sex="", age=np.nan, view=rows["view"])
        table[list(self.findings)] = labels.loc[rows["study"]].to_numpy()
        self.table = table
        splits.check_shared_patients(self.table, self.title)
        listed = dict(zip(map(str, rows.index), map(str, rows["file"]), strict=True))
        self.files = present(self.root, listed)
        check_missing(
            self.title,
            [one for one in listed if one not in self.files],
            len(listed),
            f"Complete {self.root / 'files'}, or cut the split table to the pictures that are "
            "there.",
        )
        counts = {one: int((self.table["split"] == one).sum()) for one in SPLITS}
        check_empty(self.title, counts, [f"the split table in {self.root}"])

    def _read(self, what: str, columns: list[str]) -> tuple[Path, pd.DataFrame]:
        name = TABLE.format(what)
        path = find_table([self.root], [name])
        if path is None:
            raise DataError(
                f"{self.title}: there is no {name}.gz in {self.root}.", REMEDY, field="data.root"
            )
        read = read_table(path, columns, self.title, REMEDY)[columns]
        for column in columns:
            if column in NUMBERS:
                self._check_identifiers(path, column, read[column])
        return path, read

    def _check_identifiers(self, path: Path, column: str, cells: pd.Series) -> None:
        odd = [str(one) for one in cells[~cells.str.fullmatch(NUMBERS[column])]]
        if odd:
            # Not to be passed over by a check either: nothing more can be read without them.
            raise DataError(
                f"{self.title}: {path} holds {len(odd):,} values that are no {column} "
                f"({examples(odd)}).",
                "Restore the file.",
                field="data.root",
            )

    def _rows(self) -> pd.DataFrame:
        """One row a picture: patient, study, split, view, file."""
        path, read = self._read("split", ["dicom_id", "study_id", "subject_id", "split"])
        read = each_once(read, "dicom_id", path)
        table = pd.DataFrame(index=pd.Index(read["dicom_id"].to_numpy(str), name="id"))
        subject, study = read["subject_id"].to_numpy(str), read["study_id"].to_numpy(str)
        table["patient"] = [f"p{one}" for one in subject]
        table["study"] = study
        table["split"] = read["split"].str.strip().map(SPLIT_NAMES).to_numpy()
        odd = [str(one) for one in table.index[table["split"].isna()]]
        if odd:
            refuse(
                "unknown splits",
                odd,
                DataError(
                    f"{path} names splits other than {', '.join(SPLIT_NAMES)} for {len(odd):,} "
                    f"pictures ({examples(odd)}).",
                    "Restore the file.",
                    field="data.root",
                ),
            )
            table = table[table["split"].notna()]
        table["file"] = [
            f"files/{patient[:3]}/{patient}/s{one}/{picture}.jpg"
            for picture, patient, one in zip(
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
        """Labels by study."""
        path, read = self._read("chexpert", ["study_id", *self.findings])
        read = each_once(read, "study_id", path).set_index("study_id")
        return decided(read, self.findings, policy, path)
