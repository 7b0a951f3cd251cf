"""Section ``data`` of a specification: data set, split and labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from core.config.section import Section

LABEL_FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Label fractions that the launch form offers; any other value in (0, 1] can be typed."""

OPTIONS = ("findings", "uncertainty", "views", "patient", "table", "columns", "labels")
"""Fields of ``DataSpec`` that only some data sets support (see ``core.data.datasets.registry``)."""

PHANTOM_EDITION = 2
"""Edition of the generated data sets. It is raised when their pixels change, so that cached images
and features, fingerprints of runs and checkpoints of two editions are never mixed."""

MIN_FOLDS, MAX_FOLDS = 3, 50

LATER = (*OPTIONS, "fold", "split_file", "called")
"""Fields of ``DataSpec`` that are left out of its JSON where they are not set."""


class DataSpec(Section):
    """Data set, split and labels of a run."""

    name: str = Field("phantom-14", description="Name of the data set.")
    root: Path | None = Field(
        None, description="Folder of the data set in its official layout; not used for phantoms."
    )
    split: str | None = Field(
        None,
        description="Split of the data set, where it has several; by default the first one listed.",
    )
    label_fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1, description="Fraction of the training patients whose labels are used, in (0, 1]."
    )
    subset_seed: int | None = Field(
        None, ge=0, description="Seed for drawing the labelled subset; by default the run's seed."
    )
    fold: str | None = Field(
        None,
        pattern=r"^\d+/\d+$",
        description="Fold of a cross-validation over patients, such as 1/5: its patients are the "
        "test split, those of the next fold the validation split, the others are trained on.",
    )
    split_file: Path | None = Field(
        None,
        description="File that lists the labelled training studies (names only, or with labels as "
        "in MED-PEFT's lists), such as subset.txt of an earlier run; label fraction and subset "
        "seed are then not used.",
    )
    findings: str | None = Field(
        None, description="Set of findings, where the data set has several, such as 5 or 14."
    )
    uncertainty: str | None = Field(
        None,
        description="How uncertain labels are used, where the data set has them: mixed (the "
        "paper's rule), ones, zeros or ignore.",
    )
    views: str | None = Field(
        None, description="Views to use, where the data set has lateral ones: all or frontal."
    )
    patient: str | None = Field(
        None,
        description="Regular expression that finds the patient in an image's path, for a custom "
        "folder.",
    )
    table: str | None = Field(
        None, description="Name of the CSV file with the labels, in a custom folder."
    )
    columns: str | None = Field(
        None,
        description="Meaning of the CSV file's columns, where it does not follow from their names: "
        "path=File,patient=PatID,split=Fold (also sex, age, view, label).",
    )
    labels: str | None = Field(
        None,
        description="Columns or class folders that are findings, in a custom folder: "
        "Edema,Fx=Fracture; by default all that hold labels.",
    )
    called: str | None = Field(
        None, description="Display name of the data set, such as the name it is registered under."
    )

    skip_bad: bool = Field(
        False,
        description="Skip missing or unreadable images and list them in the result; otherwise the "
        "run fails.",
    )

    shuffle_labels: bool = Field(
        False,
        description="Control experiment: train on labels shuffled among the studies, so that "
        "nothing can be learned about the findings.",
    )

    @model_validator(mode="after")
    def _fold_exists(self) -> DataSpec:
        if self.fold is None:
            return self
        number, count = map(int, self.fold.split("/"))
        if not MIN_FOLDS <= count <= MAX_FOLDS:
            raise ValueError(
                f"{count} folds are not possible: one is scored, another selects the epoch, and "
                f"the others are trained on; give {MIN_FOLDS} to {MAX_FOLDS}"
            )
        if not 1 <= number <= count:
            raise ValueError(f"there is no fold {self.fold}; give 1/{count} to {count}/{count}")
        if self.split_file is not None:
            raise ValueError(
                "a list of training studies does not fit the folds of a cross-validation; give "
                "either the list or the fold"
            )
        return self

    def options(self) -> dict[str, str]:
        """Those of ``OPTIONS`` that are set, by name."""
        chosen = {name: getattr(self, name) for name in OPTIONS}
        return {name: value for name, value in chosen.items() if value is not None}

    def title(self) -> str:
        """A short display name: ``nih 10%``, or ``nih train_1.txt`` where a list is given."""
        part = self.split_file.name if self.split_file else f"{self.label_fraction * 100:g}%"
        fold = f", fold {self.fold}" if self.fold else ""
        shuffled = ", shuffled" if self.shuffle_labels else ""
        return f"{self.called or self.name} {part}{fold}{shuffled}"

    def edition(self) -> int | None:
        """Edition of the generated data set; None for data sets that are not generated."""
        return PHANTOM_EDITION if self.name.startswith("phantom-") else None

    def source(self) -> DataSpec:
        """The whole data set: equal for runs that use different labels of it."""
        drawn = {"label_fraction": 1.0, "subset_seed": None, "split_file": None, "called": None}
        return self.model_copy(update={**drawn, "fold": None, "shuffle_labels": False})

    @model_serializer(mode="wrap")
    def _without_open_options(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # An option that is not set is left out, so that runs stored before the option existed keep
        # their JSON and their fingerprint.
        written: dict[str, Any] = write(self)
        closed = {k for k in LATER if written.get(k) is None}
        closed |= {k for k in ("skip_bad", "shuffle_labels") if not getattr(self, k)}
        return {k: v for k, v in written.items() if k not in closed}
