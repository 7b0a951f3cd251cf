"""PadChest (Bustos et al., Medical Image Analysis 2020), in the layout of BIMCV."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pandas as pd

from core.data import splits
from core.data.datasets.files import (
    UNTESTED,
    FileDataset,
    check_files,
    check_splits,
    image_names,
    subfolders,
)
from core.data.datasets.published_tables import each_once, read_table, require_table
from core.data.datasets.registry import DATASETS
from core.data.findings import NIH
from core.data.problems import examples, raise_or_collect, warn
from core.errors import DataError

TABLES = (
    "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv",
    "PADCHEST_chest_x_ray_images_labels_160K.csv",
)
TERMS = {
    "Atelectasis": (
        "atelectasis", "laminar atelectasis", "lobar atelectasis", "segmental atelectasis",
        "round atelectasis", "total atelectasis", "atelectasis basal",
    ),
    "Cardiomegaly": ("cardiomegaly",),
    "Effusion": (
        "pleural effusion", "loculated pleural effusion", "loculated fissural effusion",
        "hydropneumothorax", "empyema", "hemothorax",
    ),
    "Infiltration": (
        "infiltrates", "interstitial pattern", "ground glass pattern",
        "reticular interstitial pattern", "reticulonodular interstitial pattern",
        "miliary opacities", "alveolar pattern", "consolidation", "air bronchogram",
    ),
    "Mass": ("mass", "pulmonary mass", "mediastinal mass", "pleural mass"),
    "Nodule": ("nodule", "multiple nodules"),
    "Pneumonia": ("pneumonia", "atypical pneumonia"),
    "Pneumothorax": ("pneumothorax", "hydropneumothorax"),
    "Consolidation": ("consolidation", "air bronchogram"),
    "Edema": ("pulmonary edema",),
    "Emphysema": ("emphysema",),
    "Fibrosis": ("pulmonary fibrosis",),
    "Pleural_Thickening": (
        "pleural thickening", "apical pleural thickening", "calcified pleural thickening",
    ),
    "Hernia": ("hiatal hernia",),
}  # fmt: skip
"""PadChest's terms for each finding of NIH ChestX-ray14: the term itself and those below it in
PadChest's tree. The mapping is ours; NIH's labels were mined differently."""

FINDINGS = {term: [name for name in NIH if term in TERMS[name]]
            for terms in TERMS.values() for term in terms}  # fmt: skip
"""The findings of each term."""

EXCLUDED = frozenset({"exclude", "suboptimal study"})
"""Terms of images that are not a usable chest radiograph."""

VIEWS = {"PA": "PA", "AP": "AP", "AP_HORIZONTAL": "AP", "L": "LATERAL"}
BY_PHYSICIAN = "Physician"
TEST_SHARE, VALIDATION_SHARE = 0.2, 1 / 8
REMEDY = "Download it from bimcv.cipf.es/bimcv-projects/padchest, or give another folder."


class Padchest(FileDataset):
    """Over 160,000 radiographs of 67,000 patients of one hospital, labelled from Spanish reports.

    Radiologists labelled 27% of the reports, and a network trained on these labelled the others.
    There is no official split: each patient is drawn independently of the others, so that a part of
    the data set is split in the same way as the whole.

    Args:
        root: The folder with the table of labels (plain or with ``.gz``) and the images: in the
            folders ``0`` to ``54`` as they are unpacked, in ``images`` or ``images-224``, or in
            ``root`` itself. Images are found by their name, which is unique. They are 16-bit PNG
            files whose grey levels are stretched. It is not documented whether some are inverted.
        split: ``drawn``; or ``physicians``, with the same patients, whose test split contains only
            images that radiologists labelled.
        views: ``frontal`` (PA, AP, and AP supine), or ``all``.

    Raises:
        DataError: Something is missing or contradictory.
    """

    name = "padchest"
    title = DATASETS[name].title
    licence = DATASETS[name].licence
    citation = "Bustos et al., Medical Image Analysis 2020, doi 10.1016/j.media.2020.101797"

    def __init__(self, root: Path, split: str = "drawn", *, views: str = "frontal") -> None:
        self.root = Path(root)
        self.findings = NIH
        self.notes = (
            "The 14 findings are those of NIH ChestX-ray14, mapped from PadChest's terms by this "
            "software. Most labels come from a network that read the reports.",
            UNTESTED,
        )
        rows = self._rows()
        if views == "frontal":
            rows = rows[rows["view"].isin(["PA", "AP"])]
        rows["split"] = _draw_splits(rows["patient"])
        self.split_name = "drawn by patient" + (", frontal views" if views == "frontal" else "")
        if split == "physicians":
            rows = rows[(rows["split"] != "test") | (rows["method"] == BY_PHYSICIAN)]
            self.split_name += ", tested on labels by physicians"
        self.table = rows.drop(columns="method")
        self.files = self._find_files(list(map(str, rows.index)))
        check_splits(self.title, self.table, f"the table in {self.root}")

    def _rows(self) -> pd.DataFrame:
        """Return the table, indexed by image, without unlabelled and excluded images."""
        path = require_table(self.root, TABLES, self.title, REMEDY)
        columns = ["ImageID", "PatientID", "Projection", "Labels"]
        optional = ["PatientBirth", "PatientSex_DICOM", "StudyDate_DICOM", "MethodLabel"]
        read = read_table(path, columns, self.title, REMEDY, optional=optional)
        read = each_once(read, "ImageID", path).set_index("ImageID")
        read = read.reindex(columns=[*columns[1:], *optional], fill_value="")
        read.index = read.index.astype(str)
        terms = _all_terms(path, read["Labels"])
        excluded = terms.map(lambda cell: not cell or bool(EXCLUDED & cell))
        self._note_excluded(path, list(map(str, read.index[excluded])))
        read, terms = read[~excluded], terms[~excluded]
        _check_patients(path, read["PatientID"])
        table = pd.DataFrame(index=pd.Index(read.index, name="id"))
        table["patient"] = read["PatientID"].str.strip()
        table["split"] = ""
        table["sex"] = read["PatientSex_DICOM"].where(read["PatientSex_DICOM"].isin(["M", "F"]), "")
        table["age"] = _ages(read)
        table["view"] = read["Projection"].str.strip().str.upper().map(VIEWS).fillna("")
        present = terms.map(lambda cell: {name for term in cell for name in FINDINGS.get(term, ())})
        for name in self.findings:
            table[name] = [float(name in positives) for positives in present]
        table["method"] = read["MethodLabel"].str.strip()
        return table

    def _note_excluded(self, path: Path, names: list[str]) -> None:
        if not names:
            return
        note = f"{len(names):,} images without labels, or marked to be excluded, are left out."
        self.notes += (note,)
        warn("unknown labels", names, f"{path.name}: {note}", "Nothing needs to be done.")

    def _find_files(self, ids: list[str]) -> dict[str, str]:
        """Return the path of each image, relative to the root."""
        paths: dict[str, str] = {}
        for folder in (self.root, *subfolders(self.root)):
            prefix = "" if folder == self.root else f"{folder.name}/"
            for name in image_names(folder):
                paths.setdefault(name, f"{prefix}{name}")
        return check_files(
            self.title,
            {study: paths.get(study) for study in ids},
            f"Unpack all image archives in {self.root}, or remove the missing images from the "
            "table.",
        )


def _draw_splits(patients: pd.Series) -> list[str]:
    names = list(map(str, patients))
    if not names:
        return []
    drawn_splits = np.where(splits.draw(names, TEST_SHARE, "padchest test"), "test", "train")
    rest = np.flatnonzero(drawn_splits == "train")
    drawn = splits.draw([names[i] for i in rest], VALIDATION_SHARE, "padchest validation")
    drawn_splits[rest[drawn]] = "val"
    return list(map(str, drawn_splits))


def _all_terms(path: Path, cells: pd.Series) -> pd.Series:
    """Parse the terms of each cell, a list in Python's syntax; each distinct text once."""
    codes, texts = pd.factorize(cells)
    known: list[frozenset[str] | None] = [_terms(str(text)) for text in texts]
    invalid = [str(i) for i, code in zip(cells.index, codes, strict=True) if known[code] is None]
    if invalid:
        raise_or_collect(
            "unknown labels",
            invalid,
            DataError(
                f"{path}: the labels of {len(invalid):,} images are not a list of terms "
                f"({examples(invalid)}).",
                "Restore the file. Labels have the form ['cardiomegaly', 'pleural effusion'].",
                field="data.root",
            ),
        )
    return pd.Series([known[code] or frozenset() for code in codes], index=cells.index)


def _terms(cell: str) -> frozenset[str] | None:
    if not cell.strip() or cell.strip().lower() == "nan":
        return frozenset()
    try:
        terms = ast.literal_eval(cell.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if not isinstance(terms, list) or not all(isinstance(term, str) for term in terms):
        return None
    return frozenset(word for term in terms if (word := term.strip().lower()))


def _check_patients(path: Path, patients: pd.Series) -> None:
    unknown = list(map(str, patients.index[patients.str.strip() == ""]))
    if unknown:
        raise_or_collect(
            "patients unknown",
            unknown,
            DataError(
                f"{path} has no patient for {len(unknown):,} images ({examples(unknown)}).",
                "Restore the file.",
                field="data.root",
            ),
        )


def _ages(read: pd.DataFrame) -> pd.Series:
    """Return the years from the year of birth to the year of the study."""
    birth = pd.to_numeric(read["PatientBirth"], errors="coerce")
    study = pd.to_numeric(read["StudyDate_DICOM"].str.slice(0, 4), errors="coerce")
    years = (study - birth).astype(float)
    return years.where((years >= 0) & (years <= 120))
