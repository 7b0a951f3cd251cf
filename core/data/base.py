"""The interface of all data sets: studies with findings, and their radiographs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.data.images.radiograph import Radiograph, from_grey
from core.errors import DataError

SPLITS = ("train", "val", "test")

MISSING = "the file is missing"
"""Reason why a study is skipped if its file does not exist."""


@dataclass(frozen=True)
class Box:
    """A rectangle around a finding, drawn by a radiologist or computed from a phantom's mask.

    Attributes:
        finding: The finding's name, one of the data set's.
        x: Left edge in pixels of the original image.
        y: Top edge in pixels of the original image.
        width: Width in pixels.
        height: Height in pixels.
    """

    finding: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Study:
    """One radiograph with its labels and attributes.

    Attributes:
        id: Name of the study, unique in its data set.
        patient: Pseudonym of the patient, unique in the data set; never a real identifier.
        split: ``train``, ``val`` or ``test``.
        findings: 1 present, 0 absent, NaN not known; by finding.
        sex: ``M``, ``F`` or empty.
        age: In years, or None.
        view: ``PA``, ``AP``, ``LATERAL`` or empty.
        boxes: Boxes in pixels of the original image.
    """

    id: str
    patient: str
    split: str
    findings: dict[str, float]
    sex: str = ""
    age: float | None = None
    view: str = ""
    boxes: tuple[Box, ...] = field(default=())


class ChestDataset(ABC):
    """A data set: a table of studies, and a reader of their radiographs.

    Attributes:
        name: Its key in the registry.
        title: The name that is displayed.
        findings: Names of the labels, in the order of the model's outputs.
        licence: The terms of use of the images.
        citation: The paper or page that describes it.
        split_name: The split in use, reported with every result.
        notes: What a user should know to interpret a result, in sentences.
        reader_version: Raised whenever ``read`` would return other pixels for the same source.
        skipped: Listed studies that are not in the table on purpose, with the reason.
        drawn_test: Whether this software drew the test split; a cross-validation then divides it
            as well.
        table: One row per study, indexed by study id (str), with the columns ``patient`` (str),
            ``split`` (train, val, test), ``sex``, ``age``, ``view``, and one float column per
            finding (1, 0, NaN).
    """

    name: str
    title: str
    licence: str
    citation: ClassVar[str]
    reader_version: ClassVar[int] = 1
    findings: tuple[str, ...]
    split_name: str
    drawn_test: bool = False
    notes: tuple[str, ...] = ()
    skipped: Mapping[str, str] = MappingProxyType({})
    table: pd.DataFrame

    @abstractmethod
    def read(self, study_id: str, short_side: int | None = None) -> NDArray[np.uint8]:
        """Read one radiograph with 8 bits.

        Args:
            study_id: The study.
            short_side: Resize so that the shorter side has this many pixels; None keeps the size.

        Returns:
            Grey levels of shape (height, width), 0 to 255; black is air.

        Raises:
            DataError: The file is missing or cannot be read.
        """

    def is_quick(self, study_id: str, short_side: int) -> bool:
        """Whether reading at this size takes almost no time; false by default."""
        return False

    def radiograph(self, study_id: str) -> Radiograph:
        """Read one radiograph with all its grey levels and, if known, the pixel spacing.

        Raises:
            DataError: The file is missing or cannot be read.
        """
        return from_grey(self.read(study_id))

    @abstractmethod
    def source_key(self, study_id: str) -> str:
        """Return what the cached pixels depend on: for files size and time of change, for phantoms
        the seed. A cache entry with another key is made again.
        """

    def listed_as(self, study_id: str) -> str:
        """The name of a study in the data set's published lists; its id by default."""
        return study_id

    def boxes(self, study_id: str) -> tuple[Box, ...]:
        """The boxes of one study, in pixels of the original image; none by default."""
        return ()

    def mask(self, study_id: str, finding: str) -> NDArray[np.bool_] | None:
        """The mask of one finding, of the original image's shape; None if it is not known."""
        return None

    def marked(self, study_id: str, finding: str) -> bool:
        """Whether the location of a finding is known, without reading the image."""
        return any(box.finding == finding for box in self.boxes(study_id))

    def counterfactual(self, study_id: str, finding: str) -> NDArray[np.uint8] | None:
        """The same patient without one finding; None if the data set cannot provide it."""
        return None

    def distractors(self, study_id: str) -> dict[str, NDArray[np.bool_]]:
        """Masks of what is not part of the patient, such as ``marker``, of the original image's
        shape; empty if they are not known.
        """
        return {}

    def leave_out_missing(self, named: Sequence[str]) -> None:
        """Keep only the studies whose file exists; ``skipped`` lists the others.

        Args:
            named: Files that are listed and that the reader did not find.
        """
        self.skipped = dict.fromkeys(named, MISSING)

    def ids(self, split: str) -> list[str]:
        """The ids of the studies of one split, in the data set's order.

        Raises:
            DataError: There is no such split.
        """
        if split not in SPLITS:
            raise DataError(f"There is no split “{split}”.", f"Known splits: {', '.join(SPLITS)}.")
        return [str(study) for study in self.table.index[self.table["split"] == split]]

    def labels(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Labels of shape (studies, findings): 1, 0 or NaN, in the order of ``findings``."""
        return self.table.loc[list(ids), list(self.findings)].to_numpy(np.float32)

    def study(self, study_id: str) -> Study:
        """All labels and attributes of one study.

        Raises:
            DataError: There is no such study.
        """
        if study_id not in self.table.index:
            raise DataError(
                f"{self.title} has no study “{study_id}”.",
                "Give an id from the Data page or from the data set's own list.",
            )
        row = self.table.loc[study_id].to_dict()
        age = row["age"]
        return Study(
            id=study_id,
            patient=str(row["patient"]),
            split=str(row["split"]),
            findings={name: float(row[name]) for name in self.findings},
            sex=str(row["sex"]),
            age=None if pd.isna(age) else float(age),
            view=str(row["view"]),
            boxes=self.boxes(study_id),
        )
