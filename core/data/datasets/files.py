"""Data sets whose images are files in a folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.data.base import MISSING, SPLITS, ChestDataset, Study
from core.data.images.radiograph import Radiograph
from core.data.images.reader import SUFFIXES, VERSION, read_image, read_radiograph
from core.data.problems import examples, raise_or_collect
from core.errors import DataError

UNTESTED = (
    "This reader follows the public description of the data set. It is tested on generated copies "
    "of the layout, not on the real images."
)
"""A note of the data sets whose reader has not been tested on the real files."""


class FileDataset(ChestDataset):
    """Reads each study from a file; a subclass fills ``table`` and ``files``.

    Attributes:
        root: The data set's folder, absolute.
        files: Path of each study's image, relative to ``root``, by study id.
    """

    reader_version = VERSION
    root: Path
    files: dict[str, str]

    def path(self, study_id: str) -> Path:
        """Return the path of a study's image.

        Raises:
            DataError: There is no such study.
        """
        if study_id not in self.files:
            raise DataError(
                f"{self.title} has no study “{study_id}”.",
                "Give an id from the Data page or from the data set's own list.",
            )
        return self.root / self.files[study_id]

    def read(self, study_id: str, short_side: int | None = None) -> NDArray[np.uint8]:
        """Read one radiograph with 8 bits; see ``ChestDataset.read``."""
        return read_image(self.path(study_id), short_side)

    def radiograph(self, study_id: str) -> Radiograph:
        """Read one radiograph at full depth; see ``ChestDataset.radiograph``."""
        return read_radiograph(self.path(study_id))

    def source_key(self, study_id: str) -> str:
        """Size and time of change of the file, and a hash of the folder's path.

        Raises:
            DataError: The file does not exist.
        """
        path = self.path(study_id)
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(
                f"The image {path} cannot be found ({error.strerror}).", "Restore the file."
            ) from error
        # Files in two folders may have equal names, sizes and, after unpacking, times.
        folder = hashlib.blake2b(os.fspath(self.root).encode(), digest_size=6).hexdigest()
        return f"{status.st_size} {status.st_mtime_ns} {folder}"

    def leave_out_missing(self, named: Sequence[str]) -> None:
        """Keep only the studies whose file exists; see ``ChestDataset.leave_out_missing``."""
        existing = existing_files(self.root, self.files)
        missing = [str(study) for study in self.table.index if study not in existing]
        self.files = existing
        self.table = self.table[self.table.index.isin(list(existing))]
        self.skipped = dict.fromkeys(missing or named, MISSING)


class DicomDataset(FileDataset):
    """Reads sex, age and view of a study from the header of its file."""

    def study(self, study_id: str) -> Study:
        """All labels and attributes of one study; see ``ChestDataset.study``."""
        from core.data.images.dicom import read_attributes  # pydicom takes 0.4 s to load

        attributes = read_attributes(self.path(study_id))
        return replace(
            super().study(study_id), sex=attributes.sex, age=attributes.age, view=attributes.view
        )


def dataset_folder(root: Path, marker: str, below: Sequence[str], title: str, remedy: str) -> Path:
    """Return the folder into which a data set was unpacked: ``root`` or a folder below it.

    Args:
        root: The folder that the user gave.
        marker: A path that exists in the right folder only.
        below: Possible folders of the data set, relative to ``root``.
        title: The displayed name of the data set.
        remedy: What to do if no folder contains ``marker``.

    Raises:
        DataError: No folder contains ``marker``.
    """
    for folder in (root, *(root / name for name in below)):
        if (folder / marker).exists():
            return folder
    raise DataError(
        f"{title}: {marker} is neither in {root} nor in its folders {' or '.join(below)}.",
        remedy,
        field="data.root",
    )


def subfolders(folder: Path) -> list[Path]:
    """List the folders in a folder, sorted by name; hidden ones are left out.

    Raises:
        DataError: The folder cannot be read.
    """
    try:
        folders = [entry for entry in folder.iterdir() if entry.is_dir()]
    except OSError as error:
        raise _unreadable(folder, error) from error
    return sorted(entry for entry in folders if entry.name[0] not in "._")


def image_names(folder: Path) -> Iterator[str]:
    """Yield the names of the images in a folder, by suffix; hidden files are left out.

    Raises:
        DataError: The folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - 112,120 Paths
                if suffix in SUFFIXES and not entry.name.startswith("."):
                    yield entry.name
    except OSError as error:
        raise _unreadable(folder, error) from error


def images_below(folder: Path) -> Iterator[Path]:
    """Yield the paths of the images in a folder and its subfolders, relative to it, sorted.

    Raises:
        DataError: A folder cannot be read.
    """
    for name in sorted(image_names(folder)):
        yield Path(name)
    for child in subfolders(folder):
        if not child.is_symlink():
            for below in images_below(child):
                yield child.name / below


def existing_files(root: Path, files: Mapping[str, str]) -> dict[str, str]:
    """Return the entries whose file, a path relative to ``root``, exists."""
    top = os.fspath(root)
    return {study: path for study, path in files.items() if os.path.isfile(f"{top}/{path}")}  # noqa: PTH113 - 377,110 Paths


def check_files(title: str, files: Mapping[str, str | None], remedy: str) -> dict[str, str]:
    """Check that all listed files exist; return the paths of those that do.

    Args:
        title: The displayed name of the data set.
        files: Path by study id; None if the file does not exist.
        remedy: What to do if files are missing.

    Raises:
        DataError: Files are missing, with counts and examples.
    """
    missing = [study for study, path in files.items() if path is None]
    check_missing(title, missing, len(files), remedy)
    return {study: path for study, path in files.items() if path is not None}


def check_missing(title: str, missing: Sequence[str], listed: int, remedy: str) -> None:
    """Raise an error if listed files are missing.

    Raises:
        DataError: Files are missing, with counts and examples.
    """
    if missing:
        names = sorted(missing)
        raise_or_collect(
            "missing files",
            names,
            DataError(
                f"{title}: {len(names):,} of {listed:,} listed images are missing "
                f"({examples(names)}).",
                remedy,
                field="data.root",
            ),
        )


def check_splits(title: str, table: pd.DataFrame, source: str) -> None:
    """Check that every split has studies.

    Args:
        title: The displayed name of the data set.
        table: The studies, with the column ``split``.
        source: What determines the splits, for the remedy.

    Raises:
        DataError: A split is empty.
    """
    empty = [split for split in SPLITS if not (table["split"] == split).any()]
    if empty:
        raise_or_collect(
            "empty splits",
            empty,
            DataError(
                f"{title}: there are no studies for {' and '.join(empty)}.",
                f"Check {source}.",
                field="data.root",
            ),
        )


def _unreadable(folder: Path, error: OSError) -> DataError:
    return DataError(
        f"The folder {folder} cannot be read ({error.strerror}).",
        "Check that it exists and that you may read it.",
        field="data.root",
    )
