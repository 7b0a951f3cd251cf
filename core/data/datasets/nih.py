"""NIH ChestX-ray14 (Wang et al., CVPR 2017), in its official layout or with MED-PEFT's lists."""

from __future__ import annotations

import contextlib
import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from core.data import findings, splits
from core.data.base import Box
from core.data.datasets.files import FileDataset, check_files, check_splits, image_names, subfolders
from core.data.datasets.published_tables import read_table, require_table
from core.data.datasets.registry import DATASETS
from core.data.images.radiograph import Radiograph
from core.data.problems import examples, raise_or_collect, warn
from core.errors import DataError

TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
BOXES = "BBox_List_2017.csv"
OFFICIAL_LISTS = ("train_val_list.txt", "test_list.txt")
PAPER_FOLDER = "NIH_ChestX-ray"
"""Folder of the published split lists, since NIH's own ``test_list.txt`` has the name of one."""

NORMAL = "No Finding"
RENAMED = {"Infiltrate": "Infiltration"}
"""Findings with another name in the list of boxes than in the labels."""

ORIGINAL_SIDE = 1024
"""Side in pixels of the released images, to which the official boxes refer."""

VALIDATION_SHARE = 1 / 8
REMEDY = "Download it from nihcc.app.box.com/v/ChestXray-NIHCC, or give another folder."


class Nih(FileDataset):
    """112,120 frontal radiographs of 30,805 patients with 14 findings mined from reports.

    Args:
        root: Folder with ``Data_Entry_2017_v2020.csv``, the lists, and the images in ``images``,
            ``images_001/images`` to ``images_012/images``, or ``all_classes``. A part of the data
            set can be read with lists of that part.
        split: ``official`` (NIH's lists; a validation split is drawn by patient from the training
            part) or ``paper`` (the lists of Lian et al., with their labels).

    Raises:
        DataError: Something is missing or contradictory.
    """

    name = "nih"
    title = DATASETS[name].title
    licence = DATASETS[name].licence
    citation = "Wang et al., ChestX-ray8, CVPR 2017, arXiv 1705.02315"

    def __init__(self, root: Path, split: str = "official") -> None:
        self.root = Path(root)
        self.findings = findings.NIH
        known = self._entries()
        if split == "paper":
            self.split_name = "paper (Lian et al. 2024)"
            self.table = self._by_paper(known)
        else:
            self.split_name = "official (NIH), validation drawn by patient"
            self.table = self._official(known)
            splits.check_shared_patients(self.table, self.title)
        self.files = self._find_files(list(self.table.index))
        check_splits(self.title, self.table, f"the lists in {self.root}")
        self._boxes: dict[str, tuple[Box, ...]] | None = None
        self._originals: dict[str, tuple[tuple[float, float], tuple[float, float]]] | None = None

    def boxes(self, study_id: str) -> tuple[Box, ...]:
        """The boxes of one study, in pixels of the existing image.

        The official boxes refer to images of 1024 px and are scaled if the images are smaller.
        """
        if self._boxes is None:
            self._boxes = self._read_boxes()
        return self._boxes.get(study_id, ())

    def radiograph(self, study_id: str) -> Radiograph:
        """Read one radiograph. Its spacing is computed from the spacing and size of the original
        image in NIH's table; it is None if the table has no such columns.
        """
        radiograph = super().radiograph(study_id)
        if self._originals is None:
            self._originals = self._read_originals()
        original = self._originals.get(study_id)
        if original is None:
            return radiograph
        (width, height), (across, down) = original
        rows, columns = radiograph.levels.shape
        spacing = (down * height / rows, across * width / columns)
        return replace(radiograph, spacing=spacing, at_detector=True)

    def _read_originals(self) -> dict[str, tuple[tuple[float, float], tuple[float, float]]]:
        """Return width and height of the originals in pixels, and their spacing in mm, by file."""
        columns = ["Image Index", "OriginalImage[Width", "Height]"]
        columns += ["OriginalImagePixelSpacing[x", "y]"]
        with contextlib.suppress(ValueError, OSError):
            read = pd.read_csv(self._table_path(), usecols=columns)[columns]
            valid = read[(read[columns[1:]].apply(pd.to_numeric, errors="coerce") > 0).all(axis=1)]
            return {
                str(name): ((float(width), float(height)), (float(across), float(down)))
                for name, width, height, across, down in valid.itertuples(index=False)
            }
        return {}

    def _table_path(self) -> Path:
        return require_table(self.root, TABLES, self.title, REMEDY)

    def _entries(self) -> pd.DataFrame:
        """Return the official table, indexed by file, with one column per finding."""
        path = self._table_path()
        columns = {
            "Image Index": "id",
            "Finding Labels": "labels",
            "Patient ID": "patient",
            "Patient Age": "age",
            "Patient Gender": "sex",
            "View Position": "view",
        }
        read = read_table(path, columns, self.title, REMEDY).rename(columns=columns)
        _warn_of_rows(path, read)
        read = read.drop_duplicates("id").set_index("id")
        table = pd.DataFrame(index=read.index.astype(str))
        table["patient"] = read["patient"].str.lstrip("0")
        table["split"] = ""
        table["sex"] = read["sex"].where(read["sex"].isin(["M", "F"]), "")
        years = pd.to_numeric(read["age"].str.extract(r"^0*(\d+)Y?$")[0], errors="coerce").astype(
            float
        )
        table["age"] = years.where(years <= 120)  # the first release has ages of 150 and 412
        table["view"] = read["view"].where(read["view"].isin(["PA", "AP"]), "")
        return table.join(_indicators(read["labels"], self.findings, path))

    def _official(self, known: pd.DataFrame) -> pd.DataFrame:
        lists = []
        for name in OFFICIAL_LISTS:
            path = self.root / name
            if not path.is_file():
                raise DataError(
                    f"{self.title}: {name} is not in {self.root}.", REMEDY, field="data.root"
                )
            lists.append(splits.read_list(path))
            if lists[-1].labels.shape[1]:
                raise DataError(
                    f"{path} contains labels: it is the paper's list, not NIH's.",
                    "Choose the split “paper”, or replace the file by NIH's own list.",
                    field="data.split",
                )
        train_val, test = lists
        both = sorted(set(train_val.files) & set(test.files))
        if both:
            raise_or_collect(
                "patients in two splits",
                both,
                DataError(
                    f"{self.title}: {len(both):,} files are in both lists ({examples(both)}).",
                    "Restore the official lists.",
                ),
            )
        table = self._rows(known, [*train_val.files, *test.files])
        training = table.index.intersection(list(dict.fromkeys(train_val.files)), sort=False)
        drawn = splits.draw(
            list(table.loc[training, "patient"]), VALIDATION_SHARE, "nih validation"
        )
        table["split"] = "test"
        table.loc[training, "split"] = np.where(drawn, "val", "train")
        return table

    def _by_paper(self, known: pd.DataFrame) -> pd.DataFrame:
        parts = []
        count = len(self.findings)
        for name, read in splits.published(self.root, PAPER_FOLDER, self.title, count).items():
            part = self._rows(known, read.files).copy()
            part["split"] = name
            # Lian et al. trained on the labels of the lists; NIH's revision of 2020 changed some.
            labels = pd.DataFrame(read.labels, index=read.files, columns=list(self.findings))
            labels = labels[~labels.index.duplicated()]
            part[list(self.findings)] = labels.loc[part.index].astype(float)
            parts.append(part)
        table = pd.concat(parts)
        return table[~table.index.duplicated()]

    def _rows(self, known: pd.DataFrame, files: tuple[str, ...] | list[str]) -> pd.DataFrame:
        """Return the table's rows of some files, in their order, each once."""
        listed = pd.Index(list(dict.fromkeys(files)))
        unknown = list(map(str, listed[~listed.isin(known.index)]))
        if unknown:
            raise_or_collect(
                "unknown labels",
                unknown,
                DataError(
                    f"{self.title}: {len(unknown):,} of {len(listed):,} listed images have no "
                    f"row in the table of labels ({examples(unknown)}).",
                    "Restore the table and the lists from the same release.",
                    field="data.root",
                ),
            )
        return known.loc[listed.intersection(known.index, sort=False)]

    def _find_files(self, ids: list[str]) -> dict[str, str]:
        """Return the path of each image, relative to the root."""
        paths: dict[str, str] = {}
        for folder in self._image_folders():
            for name in image_names(self.root / folder):
                paths.setdefault(name, f"{folder}/{name}")
        return check_files(
            self.title,
            {study: paths.get(study) for study in ids},
            f"Complete the folder {self.root} (images/, images_001/images/ …, or all_classes/), or "
            "remove the missing files from the lists.",
        )

    def _image_folders(self) -> list[str]:
        names = [folder.name for folder in subfolders(self.root)]
        parts = [f"{name}/images" for name in names if name.startswith("images_")]
        folders = [
            name for name in ["images", "all_classes", *parts] if (self.root / name).is_dir()
        ]
        if not folders:
            raise DataError(
                f"{self.title}: {self.root} contains no folder of images (images/, "
                "images_001/images/ …, or all_classes/).",
                "Unpack the image archives there.",
                field="data.root",
            )
        return folders

    def _read_boxes(self) -> dict[str, tuple[Box, ...]]:
        path = self.root / BOXES
        if not path.is_file():
            return {}
        listed: list[tuple[str, Box]] = []
        try:
            with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
                rows = csv.reader(file)
                next(rows, None)  # the header contains unquoted commas
                for number, row in enumerate(rows, 2):
                    if row:
                        listed.append(_box(path, number, row))
        except (OSError, csv.Error) as error:
            raise DataError(f"{path} cannot be read ({error}).", REMEDY) from error
        existing = [(study, box) for study, box in listed if study in self.files]
        scale = self._box_scale(existing)
        boxes: dict[str, tuple[Box, ...]] = {}
        for study, box in existing:
            x, y, width, height = (scale * value for value in (box.x, box.y, box.width, box.height))
            boxes[study] = (*boxes.get(study, ()), Box(box.finding, x, y, width, height))
        return boxes

    def _box_scale(self, boxes: list[tuple[str, Box]]) -> float:
        """Return the factor from pixels of the released images to those of smaller copies, or 1."""
        if not boxes:
            return 1.0
        try:
            with Image.open(self.path(boxes[0][0])) as opened:
                side = max(opened.size)
        except OSError:
            return 1.0
        furthest = max(max(box.x + box.width, box.y + box.height) for _, box in boxes)
        return 1.0 if furthest <= side + 1 else side / ORIGINAL_SIDE


def _indicators(labels: pd.Series, names: tuple[str, ...], path: Path) -> pd.DataFrame:
    """Convert texts such as ``Edema|Effusion`` to one column per finding."""
    codes, texts = pd.factorize(labels)
    rows = np.zeros((len(texts), len(names)))
    for i, text in enumerate(texts):
        for word in str(text).split("|"):
            if word in names:
                rows[i, names.index(word)] = 1
            elif word != NORMAL:
                raise_or_collect(
                    "unknown labels",
                    list(map(str, labels.index[codes == i])),
                    DataError(
                        f"{path} contains the finding “{word}”, which is not one of the 14.", REMEDY
                    ),
                )
    return pd.DataFrame(rows[codes], index=labels.index.astype(str), columns=list(names))


def _warn_of_rows(path: Path, read: pd.DataFrame) -> None:
    """Note rows for a check that a run tolerates: it uses the first row of each image."""
    repeated = read[read["id"].duplicated(keep=False)]
    counts = repeated.groupby("id")["labels"].nunique()
    contradictory = list(map(str, counts.index[counts > 1]))
    warn(
        "contradictory labels",
        contradictory,
        f"{path} has several rows with different labels for {len(contradictory):,} images.",
        REMEDY,
        error=True,
    )
    warn(
        "repeated rows",
        list(dict.fromkeys(repeated["id"])),
        f"{path} has several rows for {repeated['id'].nunique():,} images; the first row is used.",
        "Keep one row per image.",
    )
    mixed = read["labels"].str.contains(NORMAL, regex=False) & (read["labels"] != NORMAL)
    both = list(map(str, read["id"][mixed]))
    warn(
        "contradictory labels",
        both,
        f"{path} has both “{NORMAL}” and findings for {len(both):,} images.",
        REMEDY,
        error=True,
    )


def _box(path: Path, number: int, row: list[str]) -> tuple[str, Box]:
    try:
        finding = RENAMED.get(row[1], row[1])
        x, y, width, height = map(float, row[2:6])
        if finding not in findings.NIH or not np.isfinite([x, y, width, height]).all():
            raise ValueError
    except (ValueError, IndexError) as error:
        raise DataError(
            f"Line {number} of {path} is not a box: “{','.join(row)[:80]}”.", REMEDY
        ) from error
    return row[0], Box(finding, x, y, width, height)
