"""A data set whose pictures are files in a folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.data.base import MISSING, ChestDataset, Study
from core.data.images.radiograph import Radiograph
from core.data.images.reader import SUFFIXES, VERSION, read_image, read_radiograph
from core.data.problems import examples, refuse
from core.errors import DataError

UNSEEN = (
    "This reader follows the set's public description and was tried on generated copies of its "
    "layout, not on the real pictures."
)
"""A note of every data set whose real files its reader has not met yet."""


class FileDataset(ChestDataset):
    """Reads each study from a file; a subclass fills ``table`` and ``files``.

    Attributes:
        root: The data set's folder, absolute.
        files: Path of each study's picture, relative to ``root``, by study id.
    """

    reader_version = VERSION
    root: Path
    files: dict[str, str]

    def path(self, study_id: str) -> Path:
        """Where a study's picture is.

        Raises:
            DataError: There is no such study.
        """
        if study_id not in self.files:
            raise DataError(
                f"{self.title} has no study “{study_id}”.",
                "Give an id from the Data tab or from the data set's own list.",
            )
        return self.root / self.files[study_id]

    def read(self, study_id: str, short_side: int | None = None) -> NDArray[np.uint8]:
        """Read one picture; see ``ChestDataset.read``."""
        return read_image(self.path(study_id), short_side)

    def plate(self, study_id: str) -> Radiograph:
        """Read one picture at full depth; see ``ChestDataset.plate``."""
        return read_radiograph(self.path(study_id))

    def source_key(self, study_id: str) -> str:
        """Size and time of change of the file, and a hash of the folder's path.

        Raises:
            DataError: The file is gone.
        """
        path = self.path(study_id)
        try:
            found = path.stat()
        except OSError as error:
            raise DataError(
                f"The picture {path} is gone ({error.strerror}).", "Restore the file."
            ) from error
        # Two folders may hold files of equal names, sizes and, once unpacked, times.
        place = hashlib.blake2b(os.fspath(self.root).encode(), digest_size=6).hexdigest()
        return f"{found.st_size} {found.st_mtime_ns} {place}"

    def leave_out_missing(self, named: Sequence[str]) -> None:
        """Go on with the pictures that are there; see ``ChestDataset.leave_out_missing``."""
        there = present(self.root, self.files)
        lost = [str(one) for one in self.table.index if one not in there]
        self.files = there
        self.table = self.table[self.table.index.isin(list(there))]
        self.skipped = dict.fromkeys(lost or named, MISSING)


class DicomDataset(FileDataset):
    """Reads sex, age and view of a study from its file's header, where no table has them."""

    def study(self, study_id: str) -> Study:
        """Everything known about one study; see ``ChestDataset.study``."""
        from core.data.images.dicom import read_facts  # pydicom loads when it is needed

        found = super().study(study_id)
        facts = read_facts(self.path(study_id))
        return replace(found, sex=facts.sex, age=facts.age, view=facts.view)


def unpacked(root: Path, marker: str, below: Sequence[str], title: str, remedy: str) -> Path:
    """The folder in which a data set was unpacked: the one that was named, or one below it.

    Args:
        root: What the user named.
        marker: A path that is there in the right folder, and in no other.
        below: Names of folders in which the set may lie below ``root``.
        title: The data set's name for people.
        remedy: What to do if it is nowhere.

    Raises:
        DataError: It is nowhere.
    """
    for folder in (root, *(root / one for one in below)):
        if (folder / marker).exists():
            return folder
    raise DataError(
        f"{title}: there is no {marker} in {root}, nor in {' or '.join(below)} there.",
        remedy,
        field="data.root",
    )


def pictures(folder: Path) -> Iterator[str]:
    """Names of the pictures directly in a folder, by their suffix; hidden files are left out.

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
        raise DataError(
            f"The folder {folder} cannot be read ({error.strerror}).",
            "Check that it exists and that you may read it.",
            field="data.root",
        ) from error


def pictures_below(folder: Path) -> Iterator[Path]:
    """Paths of the pictures in a folder and all those below it, relative to it, in order.

    Raises:
        DataError: A folder cannot be read.
    """
    for name in sorted(pictures(folder)):
        yield Path(name)
    for one in sorted(folder.iterdir()):
        if one.is_dir() and not one.is_symlink() and one.name[0] not in "._":
            for below in pictures_below(one):
                yield one.name / below


def present(root: Path, files: Mapping[str, str]) -> dict[str, str]:
    """Those of some files that are there.

    Args:
        root: The data set's folder.
        files: Paths relative to it, by study id.
    """
    top = os.fspath(root)
    return {one: path for one, path in files.items() if os.path.isfile(f"{top}/{path}")}  # noqa: PTH113 - 377,110 Paths


def check_missing(title: str, missing: Sequence[str], listed: int, remedy: str) -> None:
    """Refuse to go on without pictures that the data set's lists name.

    Args:
        title: The data set's name for people.
        missing: Names of the pictures that are not there.
        listed: How many the lists name.
        remedy: What to do about it.

    Raises:
        DataError: Something is missing; counts and examples are given.
    """
    if missing:
        names = sorted(missing)
        refuse(
            "missing files",
            names,
            DataError(
                f"{title}: {len(names):,} of {listed:,} listed pictures are missing "
                f"({examples(names)}).",
                remedy,
                field="data.root",
            ),
        )


def check_empty(title: str, counts: dict[str, int], where: Iterable[str]) -> None:
    """Refuse a data set with an empty split.

    Args:
        title: The data set's name for people.
        counts: Studies by split.
        where: What decides the splits, for the remedy.

    Raises:
        DataError: A split is empty.
    """
    empty = [name for name, count in counts.items() if count == 0]
    if empty:
        refuse(
            "empty splits",
            empty,
            DataError(
                f"{title}: no study is left for {' and '.join(empty)}.",
                f"Check {' and '.join(where)}.",
                field="data.root",
            ),
        )
