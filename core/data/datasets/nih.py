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
from core.data.base import SPLITS, Box
from core.data.datasets.files import FileDataset, check_empty, check_missing, pictures
from core.data.images.radiograph import Radiograph
from core.data.problems import examples, refuse, warn
from core.errors import DataError

TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
BOXES = "BBox_List_2017.csv"
OFFICIAL_LISTS = ("train_val_list.txt", "test_list.txt")
PAPER_FOLDER = "NIH_ChestX-ray"
"""Where the published split lists may lie: NIH's own ``test_list.txt`` has the same name as one."""

NORMAL = "No Finding"
RENAMED = {"Infiltrate": "Infiltration"}
"""The list of boxes calls one finding otherwise than the labels do."""

ORIGINAL_SIDE = 1024
"""Side of the released pictures, to which the official boxes refer."""

VALIDATION_SHARE = 1 / 8
REMEDY = "Download it from nihcc.app.box.com/v/ChestXray-NIHCC, or name another folder."


class Nih(FileDataset):
    """112,120 frontal radiographs of 30,805 patients with 14 findings mined from reports.

    Args:
        root: Folder with ``Data_Entry_2017_v2020.csv``, the lists, and the pictures in ``images``,
            ``images_001/images`` to ``images_012/images``, or ``all_classes``. A part of the set is
            read as well, with lists that name that part.
        split: ``official`` (NIH's lists; a validation split by patient is drawn from its training
            part) or ``paper`` (the lists of Lian et al., with the labels that stand there).

    Raises:
        DataError: Something is missing or contradictory.
    """

    title = "NIH ChestX-ray14"
    licence = "Free to use with attribution to the NIH Clinical Center"
    citation = "Wang et al., ChestX-ray8, CVPR 2017, arXiv 1705.02315"

    def __init__(self, root: Path, split: str = "official") -> None:
        self.name = "nih"
        self.root = Path(root)
        self.findings = findings.NIH
        known = self._entries()
        if split == "paper":
            self.split_name = "paper (Lian et al. 2024)"
            self.table = self._by_paper(known)
        elif split == "official":
            self.split_name = "official (NIH), validation drawn by patient"
            self.table = self._officially(known)
            splits.check_shared_patients(self.table, self.title)
        else:
            raise DataError(
                f"{self.title} has no split “{split}”.",
                "Known: official, paper.",
                field="data.split",
            )
        self.files = self._located(list(self.table.index))
        counts = {one: int((self.table["split"] == one).sum()) for one in SPLITS}
        check_empty(self.title, counts, ["the lists in " + str(self.root)])
        self._boxes: dict[str, tuple[Box, ...]] | None = None
        self._originals: dict[str, tuple[tuple[float, float], tuple[float, float]]] | None = None

    def boxes(self, study_id: str) -> tuple[Box, ...]:
        """The boxes of one study, in pixels of the picture that is there.

        A list that refers to the released 1024 px pictures is scaled where these are smaller.
        """
        if self._boxes is None:
            self._boxes = self._read_boxes()
        return self._boxes.get(study_id, ())

    def plate(self, study_id: str) -> Radiograph:
        """Read one picture; its spacing is that of the original, told by NIH's table, by the size
        it was resized to. Without those columns none is known.
        """
        found = super().plate(study_id)
        if self._originals is None:
            self._originals = self._read_originals()
        known = self._originals.get(study_id)
        if known is None:
            return found
        (width, height), (across, down) = known
        rows, columns = found.levels.shape
        spacing = (down * height / rows, across * width / columns)
        return replace(found, spacing=spacing, at_detector=True)

    def _read_originals(self) -> dict[str, tuple[tuple[float, float], tuple[float, float]]]:
        """Width and height of the originals in pixels, and their spacing in mm, by file."""
        path = next(self.root / one for one in TABLES if (self.root / one).is_file())
        wanted = ["Image Index", "OriginalImage[Width", "Height]"]
        wanted += ["OriginalImagePixelSpacing[x", "y]"]
        with contextlib.suppress(ValueError, OSError):
            read = pd.read_csv(path, usecols=wanted)[wanted]
            sound = read[(read[wanted[1:]].apply(pd.to_numeric, errors="coerce") > 0).all(axis=1)]
            return {
                str(name): ((float(width), float(height)), (float(across), float(down)))
                for name, width, height, across, down in sound.itertuples(index=False)
            }
        return {}

    def _entries(self) -> pd.DataFrame:
        """The official table, indexed by file, with one column a finding."""
        path = next((self.root / one for one in TABLES if (self.root / one).is_file()), None)
        if path is None:
            raise DataError(
                f"{self.title}: there is no {TABLES[0]} in {self.root}.", REMEDY, field="data.root"
            )
        wanted = {
            "Image Index": "id",
            "Finding Labels": "labels",
            "Patient ID": "patient",
            "Patient Age": "age",
            "Patient Gender": "sex",
            "View Position": "view",
        }
        try:
            read = pd.read_csv(path, usecols=list(wanted), dtype=str, keep_default_na=False)
        except (ValueError, OSError, pd.errors.ParserError) as error:
            raise DataError(
                f"{path} is not the table of {self.title} ({error}).", REMEDY, field="data.root"
            ) from error
        read = read.rename(columns=wanted)
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

    def _officially(self, known: pd.DataFrame) -> pd.DataFrame:
        lists = []
        for name in OFFICIAL_LISTS:
            if not (self.root / name).is_file():
                raise DataError(
                    f"{self.title}: there is no {name} in {self.root}.", REMEDY, field="data.root"
                )
            lists.append(splits.read_list(self.root / name))
            if lists[-1].labels.shape[1]:
                raise DataError(
                    f"{self.root / name} holds labels: it is the paper's list, not NIH's.",
                    "Choose the split “paper”, or put NIH's own list there.",
                    field="data.split",
                )
        train_val, test = lists
        both = sorted(set(train_val.files) & set(test.files))
        if both:
            refuse(
                "patients in two splits",
                both,
                DataError(
                    f"{self.title}: {len(both):,} files stand in both lists ({examples(both)}).",
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
        for name, read in splits.published(self.root, PAPER_FOLDER, self.title).items():
            if read.labels.shape[1] != len(self.findings):
                raise DataError(
                    f"{self.title}: {splits.PUBLISHED[name]} holds {read.labels.shape[1]} labels a "
                    f"line, not {len(self.findings)}: it is not the paper's.",
                    f"Put the published lists into {self.root / PAPER_FOLDER}, "
                    "or choose the split “official”.",
                    field="data.split",
                )
            part = self._rows(known, read.files).copy()
            part["split"] = name
            # The study trained on these labels; the revision of 2020 changed some of the table's.
            labels = pd.DataFrame(read.labels, index=read.files, columns=list(self.findings))
            labels = labels[~labels.index.duplicated()]
            part[list(self.findings)] = labels.loc[part.index].astype(float)
            parts.append(part)
        table = pd.concat(parts)
        return table[~table.index.duplicated()]

    def _rows(self, known: pd.DataFrame, files: tuple[str, ...] | list[str]) -> pd.DataFrame:
        """The table's rows of some files, in their order, each once."""
        wanted = pd.Index(list(dict.fromkeys(files)))
        unknown = wanted[~wanted.isin(known.index)]
        if len(unknown):
            refuse(
                "unknown labels",
                [str(one) for one in unknown],
                DataError(
                    f"{self.title}: {len(unknown):,} of {len(wanted):,} listed pictures have no "
                    f"row in the table of labels ({examples(unknown)}).",
                    "Restore the table and the lists from the same release.",
                    field="data.root",
                ),
            )
        return known.loc[wanted.intersection(known.index, sort=False)]

    def _located(self, ids: list[str]) -> dict[str, str]:
        """Where each picture is, relative to the root."""
        places: dict[str, str] = {}
        for folder in self._picture_folders():
            for name in pictures(self.root / folder):
                places.setdefault(name, f"{folder}/{name}")
        missing = [one for one in ids if one not in places]
        check_missing(
            self.title,
            missing,
            len(ids),
            f"Complete the folder {self.root} (images/, images_001/images/ …, or all_classes/), or "
            "cut the lists to the files that are there.",
        )
        return {one: places[one] for one in ids if one in places}

    def _picture_folders(self) -> list[str]:
        try:
            entries = sorted(one.name for one in self.root.iterdir())
        except OSError as error:
            raise DataError(
                f"The folder {self.root} cannot be read ({error.strerror}).",
                "Check that you may read it.",
                field="data.root",
            ) from error
        parts = [f"{one}/images" for one in entries if one.startswith("images_")]
        found = [one for one in ["images", "all_classes", *parts] if (self.root / one).is_dir()]
        if not found:
            raise DataError(
                f"{self.title}: there is no folder of pictures in {self.root} (images/, "
                "images_001/images/ …, or all_classes/).",
                "Unpack the archives of pictures there.",
                field="data.root",
            )
        return found

    def _read_boxes(self) -> dict[str, tuple[Box, ...]]:
        path = self.root / BOXES
        if not path.is_file():
            return {}
        read: list[tuple[str, Box]] = []
        try:
            with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
                rows = csv.reader(file)
                next(rows, None)  # its header is split by commas that are not quoted
                for number, row in enumerate(rows, 2):
                    if row:
                        read.append(_box(path, number, row))
        except (OSError, csv.Error) as error:
            raise DataError(f"{path} cannot be read ({error}).", REMEDY) from error
        here = [(one, box) for one, box in read if one in self.files]
        scale = self._box_scale(here)
        boxes: dict[str, tuple[Box, ...]] = {}
        for one, box in here:
            x, y, width, height = (scale * value for value in (box.x, box.y, box.width, box.height))
            boxes[one] = (*boxes.get(one, ()), Box(box.finding, x, y, width, height))
        return boxes

    def _box_scale(self, boxes: list[tuple[str, Box]]) -> float:
        """1, or what maps boxes of the released pictures onto smaller copies of them."""
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
    """One column a finding, of texts such as ``Edema|Effusion``."""
    codes, texts = pd.factorize(labels)
    rows = np.zeros((len(texts), len(names)))
    for i, text in enumerate(texts):
        for word in str(text).split("|"):
            if word in names:
                rows[i, names.index(word)] = 1
            elif word != NORMAL:
                refuse(
                    "unknown labels",
                    [str(one) for one in labels.index[codes == i]],
                    DataError(
                        f"{path} names the finding “{word}”, which is none of the 14.", REMEDY
                    ),
                )
    return pd.DataFrame(rows[codes], index=labels.index.astype(str), columns=list(names))


def _warn_of_rows(path: Path, read: pd.DataFrame) -> None:
    """Tell a check of rows that a run passes over: the first row of a picture counts."""
    twice = read[read["id"].duplicated(keep=False)]
    differing = twice.groupby("id")["labels"].nunique()
    unclear = [str(one) for one in differing.index[differing > 1]]
    warn(
        "contradictory labels",
        unclear,
        f"{path} has several rows with different labels for {len(unclear):,} pictures.",
        REMEDY,
        error=True,
    )
    warn(
        "repeated rows",
        list(dict.fromkeys(twice["id"])),
        f"{path} names {twice['id'].nunique():,} pictures several times; the first row counts.",
        "Keep one row a picture.",
    )
    mixed = read["labels"].str.contains(NORMAL, regex=False) & (read["labels"] != NORMAL)
    both = [str(one) for one in read["id"][mixed]]
    warn(
        "contradictory labels",
        both,
        f"{path} calls {len(both):,} pictures “{NORMAL}” and names findings on them.",
        REMEDY,
        error=True,
    )


def _box(path: Path, number: int, row: list[str]) -> tuple[str, Box]:
    try:
        finding = RENAMED.get(row[1], row[1])
        x, y, width, height = (float(one) for one in row[2:6])
        if finding not in findings.NIH or not np.isfinite([x, y, width, height]).all():
            raise ValueError
    except (ValueError, IndexError) as error:
        raise DataError(
            f"Line {number} of {path} is no box: “{','.join(row)[:80]}”.", REMEDY
        ) from error
    return row[0], Box(finding, x, y, width, height)
