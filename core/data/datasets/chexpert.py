"""CheXpert (Irvin et al., AAAI 2019), small or in full size, with the lists of MED-PEFT too."""

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
from core.errors import DataError, unknown_name

FOLDERS = ("CheXpert-v1.0-small", "CheXpert-v1.0")
"""Names under which the set is unpacked, the one that the study used first."""

TEST_TABLES = ("test_labels.csv", "groundtruth.csv", "test.csv")
"""Names of the test labels, which were published apart from the set (CheXlocalize, and the
authors' repository of test labels)."""

PAPER_FOLDER = "CheXpert"
PICTURE = (
    r"^(?:CheXpert[^/]*/)?(?P<id>(?:train|valid|val|test)/(?P<patient>patient\d+)/study\d+"
    r"(?P<view>/view\d+_(?:frontal|lateral)\.(?:jpg|png))?)/?$"
)
"""How the tables name a picture, or a study as a whole."""

VALIDATION_SHARE = 0.02
"""Share of the training patients (about 1,300) that validate where ``valid.csv`` has to test."""

ALIASES = {"Airspace Opacity": "Lung Opacity"}
"""CheXlocalize calls one finding otherwise."""

REMEDY = "Download it from aimi.stanford.edu (CheXpert), or name another folder."


class Chexpert(FileDataset):
    """224,316 radiographs of 65,240 patients; 14 findings mined from reports, uncertainty marked.

    Args:
        root: The folder with ``train.csv``, ``valid.csv``, ``train`` and ``valid``, or its parent;
            test labels (``test_labels.csv`` or ``groundtruth.csv``) in either, pictures in
            ``test``.
        split: ``official`` (``valid.csv`` validates and the test labels test; without test labels
            ``valid.csv`` tests, and a validation split is drawn by patient) or ``paper`` (the lists
            of Lian et al.; all of ``train.csv`` where the training list is not among them).
        findings: ``5`` of the competition, or all ``14``.
        uncertainty: What a label marked uncertain counts as; see
            ``core.data.datasets.uncertain_labels``.
        views: ``all``, or ``frontal`` alone.

    Raises:
        DataError: Something is missing or contradictory.
    """

    title = "CheXpert"
    licence = "Stanford University Dataset Research Use Agreement: research only, no sharing"
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
        self.name = "chexpert"
        self.findings = {"5": CHEXPERT, "14": CHEXPERT_14}[findings]
        self._given = Path(root)
        self.root = unpacked(self._given, "train.csv", FOLDERS, self.title, REMEDY)
        self._policy = uncertainty
        self.notes = (SENTENCES[uncertainty], UNSEEN)
        if split == "paper":
            self.table = self._by_paper()
        elif split == "official":
            self.table = self._officially()
            splits.check_shared_patients(self.table, self.title)
        else:
            raise unknown_name(
                "split of CheXpert", split, ("official", "paper"),
                error=DataError, field="data.split",
            )  # fmt: skip
        if views == "frontal":
            self.table = self.table[self.table["view"] != "LATERAL"]
            self.split_name += ", frontal views"
        listed = {str(one): str(one) for one in self.table.index}
        self.files = present(self.root, listed)
        check_missing(
            self.title,
            [one for one in listed if one not in self.files],
            len(listed),
            f"Complete {self.root}, or cut the tables to the pictures that are there.",
        )
        counts = {one: int((self.table["split"] == one).sum()) for one in SPLITS}
        check_empty(self.title, counts, [f"the tables in {self.root}"])

    def listed_as(self, study_id: str) -> str:
        """The path from above the release's folder, as in the published lists."""
        return f"{FOLDERS[0]}/{study_id}"

    def _officially(self) -> pd.DataFrame:
        train, valid = self._labels("train.csv"), self._labels("valid.csv")
        train["split"], valid["split"] = "train", "val"
        test = self._test_labels()
        if test is not None:
            self.split_name = "official, tested on the radiologists' test labels"
            test["split"] = "test"
            return pd.concat([train, valid, test])
        self.split_name = "official, tested on valid.csv; validation drawn by patient"
        self.notes += (
            f"There are no test labels ({TEST_TABLES[0]}) in {self.root}: valid.csv, 234 pictures "
            "in the whole set, tests, and a part of the training patients validates.",
        )
        valid["split"] = "test"
        drawn = splits.draw(list(train["patient"]), VALIDATION_SHARE, "chexpert validation")
        train["split"] = np.where(drawn, "val", "train")
        return pd.concat([train, valid])

    def _by_paper(self) -> pd.DataFrame:
        self.split_name = "paper (Lian et al. 2024)"
        self._check_other_labels()
        lists = self._lists()
        tables = [self._labels(one) for one in ("train.csv", "valid.csv")]
        test = self._test_labels()
        known = pd.concat([*tables, *([] if test is None else [test])])
        parts = []
        if "train" not in lists:
            parts.append(tables[0].assign(split="train"))
            self.notes += (
                f"{splits.PUBLISHED['train']} is not there: the training split is all of "
                f"train.csv, {len(tables[0]):,} pictures.",
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
                    f"The paper's lists of {self.title} hold the labels of 5 findings, uncertain "
                    f"ones decided by its mixed rule; {name} cannot be “{given}”.",
                    f"Leave {name} at “{own}”, or choose the split “official”.",
                    field=f"data.{name}",
                )

    def _lists(self) -> dict[str, splits.SplitList]:
        """The published lists, in the folder that was named or in the unpacked one."""
        try:
            found = splits.published(self._given, PAPER_FOLDER, self.title, optional=("train",))
        except DataError:
            if self._given == self.root:
                raise
            found = splits.published(self.root, PAPER_FOLDER, self.title, optional=("train",))
        for name, read in found.items():
            if read.labels.shape[1] != len(CHEXPERT):
                raise DataError(
                    f"{self.title}: {splits.PUBLISHED[name]} holds {read.labels.shape[1]} labels a "
                    f"line, not {len(CHEXPERT)}: it is not the paper's.",
                    f"Put the published lists into {self.root / PAPER_FOLDER}, or choose the split "
                    "“official”.",
                    field="data.split",
                )
        return found

    def _labels(self, name: str) -> pd.DataFrame:
        path = self.root / name
        if not path.is_file():
            raise DataError(
                f"{self.title}: there is no {name} in {self.root}.", REMEDY, field="data.root"
            )
        return self._read(path, ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *self.findings])

    def _test_labels(self) -> pd.DataFrame | None:
        path = find_table([self.root, self.root / "test", self._given], TEST_TABLES)
        return None if path is None else self._read(path, [])

    def _read(self, path: Path, columns: list[str]) -> pd.DataFrame:
        """Rows of one of the set's tables, with an empty ``split``."""
        optional = ["Path", "Study", "Sex", "Age", "AP/PA", *self.findings, *ALIASES]
        read = read_table(path, columns, self.title, REMEDY, optional=optional)
        read = read.rename(columns={a: b for a, b in ALIASES.items() if b not in read.columns})
        key = "Path" if "Path" in read.columns else "Study"
        lacking = [one for one in (key, *CHEXPERT) if one not in read.columns]
        if lacking:
            raise DataError(
                f"{self.title}: {path} has no column {', '.join(lacking)}.", REMEDY,
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
        """The same rows, with one a picture instead of those that name a study as a whole."""
        whole = rows[~rows["picture"]]
        if whole.empty:
            return rows
        found = [
            (f"{one}/{picture.name}", row)
            for one, row in whole["row"].items()
            for picture in sorted((self.root / str(one)).glob("view*_*.*"))
        ]
        seen = _rows(pd.Series([one for one, _ in found], dtype=str), self.root)
        seen["row"] = [found[i][1] for i in seen["row"]]
        return pd.concat([rows[rows["picture"]], seen])


def _rows(paths: pd.Series, path: Path) -> pd.DataFrame:
    """What paths say, indexed by picture: patient, view, number of the row, whether a picture."""
    found = paths.reset_index(drop=True).str.strip().str.extract(PICTURE)
    odd = [str(one) for one in paths[found["id"].isna().to_numpy()]]
    if odd:
        refuse(
            "paths outside the folder",
            odd,
            DataError(
                f"{path} names pictures that are not CheXpert's ({len(odd):,}: {examples(odd)}).",
                "Paths read train/patient00001/study1/view1_frontal.jpg; restore the file.",
                field="data.root",
            ),
        )
    found = found[found["id"].notna()]
    rows = pd.DataFrame(index=pd.Index(found["id"].astype(str), name="id"))
    rows["patient"] = found["patient"].to_numpy()
    lateral = found["view"].str.contains("lateral", na=False)
    rows["view"] = np.where(lateral, "LATERAL", "")
    rows["row"] = found.index.to_numpy()
    rows["picture"] = found["view"].notna().to_numpy()
    return rows
