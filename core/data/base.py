"""What every data set offers: studies with findings, and their pictures."""

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
"""Why a study is left out whose picture is not there."""


@dataclass(frozen=True)
class Box:
    """A rectangle that a reader (or a phantom) drew around a finding.

    Attributes:
        finding: The finding's name, one of the data set's.
        x: Left edge in pixels of the original picture.
        y: Top edge in pixels of the original picture.
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
    """One radiograph with all that is known about it.

    Attributes:
        id: Name of the study, unique in its data set.
        patient: Name of the patient, unique in the data set; never a real identifier.
        split: ``train``, ``val`` or ``test``.
        findings: 1 present, 0 absent, NaN not known; by finding.
        sex: ``M``, ``F`` or empty.
        age: In years, or None.
        view: ``PA``, ``AP``, ``LATERAL`` or empty.
        boxes: Boxes in pixels of the original picture.
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
    """A data set: a table of studies, and a reader of their pictures.

    Attributes:
        name: Its name in the catalogue.
        title: Its name for people.
        findings: Names of the labels, in the order of the model's outputs.
        licence: Under which terms the pictures may be used.
        citation: The paper or page that describes it.
        split_name: Which of the set's splits is in use, said with every result.
        notes: What a user should know before trusting a result, in sentences.
        reader_version: Raised whenever ``read`` would give other pixels for the same source.
        skipped: Why studies of the lists are not in the table, if they were left out on purpose.
        table: One row a study, indexed by study id (str), with the columns ``patient`` (str),
            ``split`` (train, val, test), ``sex``, ``age``, ``view``, and one float column a finding
            (1, 0, NaN).
    """

    name: str
    title: str
    licence: str
    citation: ClassVar[str]
    reader_version: ClassVar[int] = 1
    findings: tuple[str, ...]
    split_name: str
    notes: tuple[str, ...] = ()
    skipped: Mapping[str, str] = MappingProxyType({})
    table: pd.DataFrame

    @abstractmethod
    def read(self, study_id: str, short_side: int | None = None) -> NDArray[np.uint8]:
        """Read one picture.

        Args:
            study_id: The study.
            short_side: Resize so that the shorter side has this many pixels; None keeps the size.

        Returns:
            Grey levels of shape (height, width), 0 to 255, black is air.

        Raises:
            DataError: The picture is missing or cannot be read.
        """

    def is_quick(self, study_id: str, short_side: int) -> bool:
        """Whether reading a picture at this size takes next to no time; as a rule it does not."""
        return False

    def plate(self, study_id: str) -> Radiograph:
        """Read one picture with all its grey levels and, where known, the pixels' spacing.

        Raises:
            DataError: The picture is missing or cannot be read.
        """
        return from_grey(self.read(study_id))

    @abstractmethod
    def source_key(self, study_id: str) -> str:
        """Say what the cached pixels depend on: for files size and time of change, for phantoms
        the seed. A cache entry whose key differs is read anew.
        """

    def listed_as(self, study_id: str) -> str:
        """How a published list of files names a study; by its id, where nothing else is known."""
        return study_id

    def boxes(self, study_id: str) -> tuple[Box, ...]:
        """The boxes of one study, in pixels of the original picture; none by default."""
        return ()

    def mask(self, study_id: str, finding: str) -> NDArray[np.bool_] | None:
        """The pixels of one finding in the original picture, where the data set knows them."""
        return None

    def marked(self, study_id: str, finding: str) -> bool:
        """Whether the place of a finding is known, told without reading the picture."""
        return any(box.finding == finding for box in self.boxes(study_id))

    def counterfactual(self, study_id: str, finding: str) -> NDArray[np.uint8] | None:
        """The same patient without one finding, where the data set can know it."""
        return None

    def distractors(self, study_id: str) -> dict[str, NDArray[np.bool_]]:
        """Pixels of the original picture that are no part of the patient, by what they show, such
        as ``marker``; where the data set knows them.
        """
        return {}

    def leave_out_missing(self, named: Sequence[str]) -> None:
        """Go on with the pictures that are there; ``skipped`` says which are not.

        Args:
            named: Pictures that the lists name and the reader has found missing.
        """
        self.skipped = dict.fromkeys(named, MISSING)

    def ids(self, split: str) -> list[str]:
        """The ids of one split's studies, in the data set's order.

        Raises:
            DataError: There is no such split.
        """
        if split not in SPLITS:
            raise DataError(f"There is no split “{split}”.", f"Known: {', '.join(SPLITS)}.")
        return [str(one) for one in self.table.index[self.table["split"] == split]]

    def labels(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Labels of shape (studies, findings): 1, 0 or NaN, in the order of ``findings``."""
        return self.table.loc[list(ids), list(self.findings)].to_numpy(np.float32)

    def study(self, study_id: str) -> Study:
        """Everything known about one study.

        Raises:
            DataError: There is no such study.
        """
        if study_id not in self.table.index:
            raise DataError(
                f"{self.title} has no study “{study_id}”.",
                "Give an id from the Data tab or from the data set's own list.",
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
