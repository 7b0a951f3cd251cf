"""CheXpert (Irvin et al., AAAI 2019), small or full size, official split or the paper's lists."""

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
from core.data.datasets.published_tables import each_once, find_table, read_table, require_table
from core.data.datasets.registry import DATASETS
from core.data.datasets.uncertain_labels import SENTENCES, decided
from core.data.findings import CHEXPERT, CHEXPERT_14
from core.data.problems import examples, raise_or_collect
from core.errors import DataError

FOLDERS = ("CheXpert-v1.0-small", "CheXpert-v1.0")
"""Names of the unpacked folder, first the one that Lian et al. used."""

TEST_TABLES = ("test_labels.csv", "groundtruth.csv", "test.csv")
"""Names of the test labels, which were published separately (CheXlocalize, and the authors'
repository of test labels)."""

PAPER_FOLDER = "CheXpert"
PATH = (
    r"^(?:CheXpert[^/]*/)?(?P<id>(?:train|valid|val|test)/(?P<patient>patient\d+)/study\d+"
    r"(?P<view>/view\d+_(?:frontal|lateral)\.(?:jpg|png))?)/?$"
)
"""Path of an image, or of a whole study, in the tables."""

VALIDATION_SHARE = 0.02
"""Share of the training patients (about 1,300) for validation if ``valid.csv`` is for testing."""

ALIASES = {"Airspace Opacity": "Lung Opacity"}
"""Findings with another name in CheXlocalize."""

REMEDY = "Download it from aimi.stanford.edu (CheXpert), or give another folder."


class Chexpert(FileDataset):
    """224,316 radiographs of 65,240 patients; 14 findings mined from reports, with uncertainty.

    Args:
        root: The folder with ``train.csv``, ``valid.csv``, ``train`` and ``valid``, or its parent;
            test labels (``test_labels.csv`` or ``groundtruth.csv``) in either, images in
            ``test``.
        split: ``official`` (``valid.csv`` is the validation and the test labels the test split;
            without test labels ``valid.csv`` is the test split, and the validation split is drawn
            by patient) or ``paper`` (the lists of Lian et al.; all of ``train.csv`` if the training
            list does not exist).
        findings: ``5`` of the competition, or all ``14``.
        uncertainty: How to use a label marked uncertain; see
            ``core.data.datasets.uncertain_labels``.
        views: ``all``, or ``frontal`` only.

    Raises:
        DataError: Something is missing or contradictory.
    """

    name = "chexpert"
    title = DATASETS[name].title
    licence = DATASETS[name].licence
    citation = "Irvin et al., CheXpert, AAAI 2019, arXiv 1901.07031"

    def __init__(
        self,
        root: Path,
        split: str = "official",
        *,
        findings: str = "5",
        uncertainty: str = "mixed",
        views: str = "all",
    ) -> None:
        self.findings = {"5": CHEXPERT, "14": CHEXPERT_14}[findings]
        self._given = Path(root)
        self.root = dataset_folder(self._given, "train.csv", FOLDERS, self.title, REMEDY)
        self._policy = uncertainty
        self.notes = (SENTENCES[uncertainty], UNTESTED)
        if split == "paper":
            self.table = self._by_paper()
        else:
            self.table = self._official()
            splits.check_shared_patients(self.table, self.title)
        if views == "frontal":
            self.table = self.table[self.table["view"] != "LATERAL"]
            self.split_name += ", frontal views"
        listed = list(map(str, self.table.index))
        existing = existing_files(self.root, dict(zip(listed, listed, strict=True)))
        self.files = check_files(
            self.title,
            {study: existing.get(study) for study in listed},
            f"Complete {self.root}, or remove the missing images from the tables.",
        )
        check_splits(self.title, self.table, f"the tables in {self.root}")

    def listed_as(self, study_id: str) -> str:
        """The path including the name of the release's folder, as in the published lists."""
        return f"{FOLDERS[0]}/{study_id}"

    def _official(self) -> pd.DataFrame:
        train, valid = self._labels("train.csv"), self._labels("valid.csv")
        train["split"], valid["split"] = "train", "val"
        test = self._test_labels()
        if test is not None:
            self.split_name = "official, tested on the radiologists' test labels"
            test["split"] = "test"
            return pd.concat([train, valid, test])
        self.split_name = "official, tested on valid.csv; validation drawn by patient"
        self.notes += (
            f"{self.root} contains no test labels ({TEST_TABLES[0]}): valid.csv (234 images) is "
            "the test split, and a part of the training patients is the validation split.",
        )
        valid["split"] = "test"
        drawn = splits.draw(list(train["patient"]), VALIDATION_SHARE, "chexpert validation")
        train["split"] = np.where(drawn, "val", "train")
        return pd.concat([train, valid])

    def _by_paper(self) -> pd.DataFrame:
        self.split_name = "paper (Lian et al. 2024)"
        self._check_other_labels()
        lists = self._lists()
        tables = [self._labels("train.csv"), self._labels("valid.csv")]
        test = self._test_labels()
        known = pd.concat([*tables, *([] if test is None else [test])])
        parts = []
        if "train" not in lists:
            parts.append(tables[0].assign(split="train"))
            self.notes += (
                f"{splits.PUBLISHED['train']} does not exist: the training split is all of "
                f"train.csv, {len(tables[0]):,} images.",
            )
        for name, read in lists.items():
            part = _rows(pd.Series(read.files), self.root / splits.PUBLISHED[name])
            part = part.join(known[["sex", "age"]]).fillna({"sex": ""})
            part["view"] = known["view"].reindex(part.index).fillna(part["view"])
            part["split"] = name
            labels = pd.DataFrame(read.labels, columns=list(self.findings), dtype=float)
            part[list(self.findings)] = labels.loc[part["row"]].to_numpy()
            parts.append(part[tables[0].columns])
        table = pd.concat(parts)
        return table[~table.index.duplicated()]

    def _check_other_labels(self) -> None:
        for name, given, own in (
            ("findings", str(len(self.findings)), "5"), ("uncertainty", self._policy, "mixed")
        ):  # fmt: skip
            if given != own:
                raise DataError(
                    f"The paper's lists of {self.title} contain the labels of 5 findings, with the "
                    f"mixed rule for uncertain ones; {name} cannot be “{given}”.",
                    f"Set {name} to “{own}”, or choose the split “official”.",
                    field=f"data.{name}",
                )

    def _lists(self) -> dict[str, splits.SplitList]:
        """Read the published lists, from the given folder or the unpacked one."""
        try:
            return self._lists_in(self._given)
        except DataError:
            if self._given == self.root:
                raise
            return self._lists_in(self.root)

    def _lists_in(self, folder: Path) -> dict[str, splits.SplitList]:
        return splits.published(
            folder, PAPER_FOLDER, self.title, len(CHEXPERT), optional=("train",)
        )

    def _labels(self, name: str) -> pd.DataFrame:
        path = require_table(self.root, [name], self.title, REMEDY)
        return self._read(path, ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *self.findings])

    def _test_labels(self) -> pd.DataFrame | None:
        path = find_table([self.root, self.root / "test", self._given], TEST_TABLES)
        return None if path is None else self._read(path, [])

    def _read(self, path: Path, columns: list[str]) -> pd.DataFrame:
        """Read one of the tables, with an empty column ``split``."""
        optional = ["Path", "Study", "Sex", "Age", "AP/PA", *self.findings, *ALIASES]
        read = read_table(path, columns, self.title, REMEDY, optional=optional)
        read = read.rename(columns={a: b for a, b in ALIASES.items() if b not in read.columns})
        key = "Path" if "Path" in read.columns else "Study"
        missing = [name for name in (key, *CHEXPERT) if name not in read.columns]
        if missing:
            raise DataError(
                f"{self.title}: {path} has no column {', '.join(missing)}.", REMEDY,
                field="data.root",
            )  # fmt: skip
        read = each_once(read, key, path).reset_index(drop=True)
        rows = self._whole_studies(_rows(read[key], path))
        rows = rows[~rows.index.duplicated()]
        cells = read.reindex(columns=list(self.findings), fill_value="").loc[rows["row"]]
        cells.index = rows.index
        table = rows[["patient"]].assign(split="", sex="", age=np.nan, view=rows["view"])
        source = read.loc[rows["row"]]
        if "Sex" in read.columns:
            table["sex"] = source["Sex"].map({"Male": "M", "Female": "F"}).fillna("").to_numpy()
        if "Age" in read.columns:
            table["age"] = pd.to_numeric(source["Age"], errors="coerce").to_numpy(float)
        if "AP/PA" in read.columns:
            given = source["AP/PA"].where(source["AP/PA"].isin(["AP", "PA"]), "").to_numpy()
            table["view"] = np.where(rows["view"] == "LATERAL", "LATERAL", given)
        labels = decided(cells, self.findings, self._policy, path)
        for name in self.findings:
            if name not in read.columns:
                labels[name] = np.nan  # test labels of fewer findings
        return table.join(labels)

    def _whole_studies(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Replace rows of whole studies by one row for each of their images."""
        whole = rows[~rows["is_image"]]
        if whole.empty:
            return rows
        images = [
            (f"{study}/{file.name}", row)
            for study, row in whole["row"].items()
            for file in sorted((self.root / str(study)).glob("view*_*.*"))
        ]
        expanded = _rows(pd.Series([path for path, _ in images], dtype=str), self.root)
        expanded["row"] = [images[i][1] for i in expanded["row"]]
        return pd.concat([rows[rows["is_image"]], expanded])


def _rows(paths: pd.Series, path: Path) -> pd.DataFrame:
    """Parse paths: patient, view, number of the row, and whether it is an image or a study."""
    parts = paths.reset_index(drop=True).str.strip().str.extract(PATH)
    invalid = list(map(str, paths[parts["id"].isna().to_numpy()]))
    if invalid:
        raise_or_collect(
            "paths outside the folder",
            invalid,
            DataError(
                f"{path} contains {len(invalid):,} paths that are not CheXpert's "
                f"({examples(invalid)}).",
                "Restore the file. Paths have the form "
                "train/patient00001/study1/view1_frontal.jpg.",
                field="data.root",
            ),
        )
    parts = parts[parts["id"].notna()]
    rows = pd.DataFrame(index=pd.Index(parts["id"].astype(str), name="id"))
    rows["patient"] = parts["patient"].to_numpy()
    lateral = parts["view"].str.contains("lateral", na=False)
    rows["view"] = np.where(lateral, "LATERAL", "")
    rows["row"] = parts.index.to_numpy()
    rows["is_image"] = parts["view"].notna().to_numpy()
    return rows
