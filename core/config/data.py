"""Which radiographs and labels a run learns from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from core.config.section import Section

LABEL_FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
"""The label fractions that the form offers; any other in (0, 1] may be typed."""

OPTIONS = ("findings", "uncertainty", "views", "patient", "table", "columns", "labels")
"""Fields of ``DataSpec`` that only some data sets support (see ``core.data.datasets.registry``)."""

LATER = (*OPTIONS, "split_file", "called")
"""Fields of ``DataSpec`` that are left out of its JSON where they say nothing."""


class DataSpec(Section):
    """Which radiographs and labels a run learns from."""

    name: str = Field("phantom-14", description="Name of the data set.")
    root: Path | None = Field(
        None, description="Folder of the data set in its official layout; phantoms need none."
    )
    split: str | None = Field(
        None,
        description="Which split of the data set, where it has several; by default its own first.",
    )
    label_fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1, description="Share of the training patients whose labels are used, in (0, 1]."
    )
    subset_seed: int | None = Field(
        None, ge=0, description="Seed that draws the labelled subset; by default the run's seed."
    )
    split_file: Path | None = Field(
        None,
        description="List of the labelled training studies (names alone, or with labels as in "
        "MED-PEFT's lists), such as subset.txt of an earlier run; fraction and subset seed then "
        "play no part.",
    )
    findings: str | None = Field(
        None, description="Which set of findings, where a data set has several, such as 5 or 14."
    )
    uncertainty: str | None = Field(
        None,
        description="What a label marked uncertain counts as, where a data set has such labels: "
        "mixed (the paper's rule), ones, zeros or ignore.",
    )
    views: str | None = Field(
        None, description="Which views, where a data set has lateral ones: all or frontal."
    )
    patient: str | None = Field(
        None,
        description="Regular expression that finds the patient in a picture's path, for a folder "
        "of one's own.",
    )
    table: str | None = Field(
        None, description="Name of the CSV file with the labels, in a folder of one's own."
    )
    columns: str | None = Field(
        None,
        description="Columns of that file by what they hold, where their names do not say it: "
        "path=File,patient=PatID,split=Fold (also sex, age, view, label).",
    )
    labels: str | None = Field(
        None,
        description="Columns or class folders that are findings, in a folder of one's own: "
        "Edema,Fx=Fracture; by default all that hold labels.",
    )
    called: str | None = Field(
        None, description="A name of the data set for people, such as that it is registered under."
    )

    skip_bad: bool = Field(
        False,
        description="Go on without pictures that are missing or cannot be read, and record which; "
        "otherwise they end the run.",
    )

    shuffle_labels: bool = Field(
        False,
        description="A control: train on labels that were shuffled among the studies, so that "
        "nothing can be learnt about the findings.",
    )

    def options(self) -> dict[str, str]:
        """What was chosen of ``OPTIONS``, by name."""
        chosen = {name: getattr(self, name) for name in OPTIONS}
        return {name: value for name, value in chosen.items() if value is not None}

    def title(self) -> str:
        """A short name for people: ``nih 10%``, or ``nih train_1.txt`` where a list is given."""
        part = self.split_file.name if self.split_file else f"{self.label_fraction * 100:g}%"
        return f"{self.called or self.name} {part}{', shuffled' if self.shuffle_labels else ''}"

    def source(self) -> DataSpec:
        """The same data set as a whole: equal for runs that draw different labels from it."""
        drawn = {"label_fraction": 1.0, "subset_seed": None, "split_file": None, "called": None}
        return self.model_copy(update={**drawn, "shuffle_labels": False})

    @model_serializer(mode="wrap")
    def _without_open_options(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Runs from before an option existed keep their JSON and with it their fingerprint.
        written: dict[str, Any] = write(self)
        closed = {k for k in LATER if written.get(k) is None}
        closed |= {one for one in ("skip_bad", "shuffle_labels") if not getattr(self, one)}
        return {k: v for k, v in written.items() if k not in closed}
