"""PadChest (Bustos et al., Medical Image Analysis 2020), as BIMCV publishes it."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pandas as pd

from core.data import splits
from core.data.base import SPLITS
from core.data.datasets.files import UNSEEN, FileDataset, check_empty, check_missing, pictures
from core.data.datasets.published_tables import each_once, find_table, read_table
from core.data.findings import NIH
from core.data.problems import examples, refuse, warn
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
"""Which of PadChest's terms stand for each finding of NIH ChestX-ray14: the term itself and
those below it in PadChest's tree. The choice is ours; NIH's labels were mined otherwise."""

OF = {term: [name for name in NIH if term in TERMS[name]]
      for terms in TERMS.values() for term in terms}  # fmt: skip
"""The findings that a term stands for."""

LEFT_OUT = frozenset({"exclude", "suboptimal study"})
"""Terms of pictures that are no usable radiograph of a chest."""

VIEWS = {"PA": "PA", "AP": "AP", "AP_HORIZONTAL": "AP", "L": "LATERAL"}
BY_PEOPLE = "Physician"
TEST_SHARE, VALIDATION_SHARE = 0.2, 1 / 8
REMEDY = "Download it from bimcv.cipf.es/bimcv-projects/padchest, or name another folder."


class Padchest(FileDataset):
    """Over 160,000 radiographs of 67,000 patients of one hospital, labelled from Spanish reports.

    Radiologists labelled 27% of the reports, a network trained on these the others. There is no
    official split: patients are drawn, each by itself, so that a part of the set is split as the
    whole is.

    Args:
        root: The folder with the table of labels (plain or with ``.gz``) and the pictures: in the
            folders ``0`` to ``54`` as they are unpacked, in ``images`` or ``images-224``, or beside
            the table. Pictures are found by their name, which is unique. They are 16-bit PNG;
            their grey levels are stretched. Whether some are stored inverted is not documented.
        split: ``drawn``; or ``physicians``, the same patients with the test split cut to pictures
            that radiologists labelled.
        views: ``frontal`` (PA, AP, and AP lying), or ``all``.

    Raises:
        DataError: Something is missing or contradictory.
    """

    title = "PadChest"
    licence = "BIMCV PadChest Dataset Research Use Agreement: research only, no sharing"
    citation = "Bustos et al., Medical Image Analysis 2020, doi 10.1016/j.media.2020.101797"

    def __init__(self, root: Path, split: str = "drawn", *, views: str = "frontal") -> None:
        self.name = "padchest"
        self.root = Path(root)
        self.findings = NIH
        self.notes = (
            "The 14 findings are those of NIH ChestX-ray14; each stands for terms of PadChest that "
            "were chosen here. Most labels come from a network that read the reports.",
            UNSEEN,
        )
        rows = self._rows()
        if views == "frontal":
            rows = rows[rows["view"].isin(["PA", "AP"])]
        rows["split"] = _drawn(rows["patient"])
        self.split_name = "drawn by patient" + (", frontal views" if views == "frontal" else "")
        if split == "physicians":
            rows = rows[(rows["split"] != "test") | (rows["method"] == BY_PEOPLE)]
            self.split_name += ", tested on labels by physicians"
        self.table = rows.drop(columns="method")
        self.files = self._located([str(one) for one in rows.index])
        counts = {one: int((self.table["split"] == one).sum()) for one in SPLITS}
        check_empty(self.title, counts, [f"the table in {self.root}"])

    def _rows(self) -> pd.DataFrame:
        """The table's rows, indexed by picture; unlabelled and excluded pictures are left out."""
        path = find_table([self.root], TABLES)
        if path is None:
            raise DataError(
                f"{self.title}: there is no {TABLES[0]} in {self.root}.", REMEDY, field="data.root"
            )
        columns = ["ImageID", "PatientID", "Projection", "Labels"]
        optional = ["PatientBirth", "PatientSex_DICOM", "StudyDate_DICOM", "MethodLabel"]
        read = read_table(path, columns, self.title, REMEDY, optional=optional)
        read = each_once(read, "ImageID", path).set_index("ImageID")
        read = read.reindex(columns=[*columns[1:], *optional], fill_value="")
        read.index = read.index.astype(str)
        words = _words(path, read["Labels"])
        out = words.map(lambda one: not one or bool(LEFT_OUT & one))
        self._tell_left_out(path, [str(one) for one in read.index[out]])
        read, words = read[~out], words[~out]
        _check_nobody(path, read["PatientID"])
        table = pd.DataFrame(index=pd.Index(read.index, name="id"))
        table["patient"] = read["PatientID"].str.strip()
        table["split"] = ""
        table["sex"] = read["PatientSex_DICOM"].where(read["PatientSex_DICOM"].isin(["M", "F"]), "")
        table["age"] = _ages(read)
        table["view"] = read["Projection"].str.strip().str.upper().map(VIEWS).fillna("")
        having = words.map(lambda one: {name for term in one for name in OF.get(term, ())})
        for name in self.findings:
            table[name] = [float(name in found) for found in having]
        table["method"] = read["MethodLabel"].str.strip()
        return table

    def _tell_left_out(self, path: Path, names: list[str]) -> None:
        if not names:
            return
        what = f"{len(names):,} pictures without labels, or marked to be excluded, are left out."
        self.notes += (what,)
        warn("unknown labels", names, f"{path.name}: {what}", "Nothing needs to be done.")

    def _located(self, ids: list[str]) -> dict[str, str]:
        """Where each picture is, relative to the root."""
        places: dict[str, str] = {}
        for folder in (self.root, *_folders(self.root)):
            below = "" if folder == self.root else f"{folder.name}/"
            for name in pictures(folder):
                places.setdefault(name, f"{below}{name}")
        missing = [one for one in ids if one not in places]
        check_missing(
            self.title,
            missing,
            len(ids),
            f"Unpack all archives of pictures in {self.root}, or cut the table to the pictures "
            "that are there.",
        )
        return {one: places[one] for one in ids if one in places}


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(one for one in root.iterdir() if one.is_dir() and one.name[0] not in "._")
    except OSError as error:
        raise DataError(
            f"The folder {root} cannot be read ({error.strerror}).",
            "Check that you may read it.",
            field="data.root",
        ) from error


def _drawn(patients: pd.Series) -> list[str]:
    names = [str(one) for one in patients]
    if not names:
        return []
    dealt = np.where(splits.draw(names, TEST_SHARE, "padchest test"), "test", "train")
    rest = np.flatnonzero(dealt == "train")
    drawn = splits.draw([names[i] for i in rest], VALIDATION_SHARE, "padchest validation")
    dealt[rest[drawn]] = "val"
    return [str(one) for one in dealt]


def _words(path: Path, cells: pd.Series) -> pd.Series:
    """The terms of each cell, which reads as a list of Python does; few cells are different."""
    codes, texts = pd.factorize(cells)
    known: list[frozenset[str] | None] = [_terms(str(one)) for one in texts]
    odd = [str(one) for one, code in zip(cells.index, codes, strict=True) if known[code] is None]
    if odd:
        refuse(
            "unknown labels",
            odd,
            DataError(
                f"{path}: the labels of {len(odd):,} pictures are no list of terms "
                f"({examples(odd)}).",
                "Restore the file; labels read ['cardiomegaly', 'pleural effusion'].",
                field="data.root",
            ),
        )
    return pd.Series([known[code] or frozenset() for code in codes], index=cells.index)


def _terms(cell: str) -> frozenset[str] | None:
    if not cell.strip() or cell.strip().lower() == "nan":
        return frozenset()
    try:
        found = ast.literal_eval(cell.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        return None
    return frozenset(word for one in found if (word := one.strip().lower()))


def _check_nobody(path: Path, patients: pd.Series) -> None:
    nobody = [str(one) for one in patients.index[patients.str.strip() == ""]]
    if nobody:
        refuse(
            "patients unknown",
            nobody,
            DataError(
                f"{path} names no patient for {len(nobody):,} pictures ({examples(nobody)}).",
                "Restore the file.",
                field="data.root",
            ),
        )


def _ages(read: pd.DataFrame) -> pd.Series:
    """Years from the year of birth to that of the study."""
    born = pd.to_numeric(read["PatientBirth"], errors="coerce")
    seen = pd.to_numeric(read["StudyDate_DICOM"].str.slice(0, 4), errors="coerce")
    years = (seen - born).astype(float)
    return years.where((years >= 0) & (years <= 120))
