"""Transfer grid: tuning methods from each shipped backbone and from random weights.

The paper compares two methods on two given backbones. This grid measures what pre-training is
worth: the test AUROC of probes, LoRA and full fine-tuning with few labels, on any data set, of the
same network trained from random weights, and of a ridge regression on the pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.config.defaults import CLOSED_FORM, FROZEN_BACKBONE, WITHOUT_BACKBONE
from core.config.model import ModelSpec
from core.config.run import AdapterSpec, DataSpec, RunSpec, TrainSpec
from core.data.datasets.registry import DATASETS, open_data
from core.errors import ConfigurationError
from core.experiments.cells import cell_key, runs_by_cell, select_run, share_of
from core.formatting import share
from core.metrics.label_efficiency import Curve, Level, curve
from core.models.backbones.registry import backbone_card
from core.models.tuning.registry import TUNING_METHODS
from core.runs.run import Run
from core.workspace import Workspace

FRACTIONS = (0.01, 0.1, 1.0)

IMAGES_PER_RUN = 3_000
"""Approximate number of images that a run processes: methods and label fractions then take similar
times, and the largest data set is processed once."""

MIN_EPOCHS, MAX_EPOCHS = 1, 12
PROBE_EPOCHS = 30
"""Epochs of the linear probe, whose features are computed only once."""

TUNED = " (tuned)"
"""End of the title of a method with tuned settings."""

NO_BACKBONE = "no backbone"
"""Title, in the table, of the initial weights of a method without a backbone."""

MIN_IMAGES = 10
"""Smaller subsets are left out: their AUROC depends on the drawn images, not on the method."""


@dataclass(frozen=True)
class Start:
    """Initial weights of runs, with the methods that are trained from them.

    Attributes:
        backbone: Name of the backbone.
        pretrained: Whether its weights are pre-trained or random.
        methods: Names of methods. From random weights only full fine-tuning is useful; the
            baseline ``pixels`` uses no weights.
    """

    backbone: str
    pretrained: bool
    methods: tuple[str, ...]

    @property
    def title(self) -> str:
        """Title in the table."""
        if WITHOUT_BACKBONE.issuperset(self.methods):
            return NO_BACKBONE
        return backbone_card(self.backbone).title if self.pretrained else "random weights"


METHODS = ("linear", "logistic", "attentive", "lora", "full")
"""Methods that are compared from each pre-trained backbone."""

STARTS = (
    Start("embedded-mae", True, METHODS),
    Start("embedded-mrm", True, METHODS),
    Start("embedded-mae", False, ("full",)),
    Start("embedded-mae", False, ("pixels",)),
)


@dataclass(frozen=True)
class TransferRun:
    """One run of the grid.

    Attributes:
        start: Its initial weights.
        spec: Its specification.
        tuned: Whether its learning rate is chosen for this data set and label fraction (see
            ``core.experiments.transfer.tuned``).
    """

    start: Start
    spec: RunSpec
    tuned: bool = False

    @property
    def name(self) -> str:
        """Name shown with its progress."""
        return f"{self.spec.title()}{TUNED * self.tuned}"

    @property
    def method_title(self) -> str:
        """The method as shown in the table."""
        return f"{TUNING_METHODS[self.spec.adapter.method].title}{TUNED * self.tuned}"


@dataclass(frozen=True)
class TransferResult:
    """Result of a run.

    Attributes:
        auroc: Mean test AUROC, 0 to 1.
        share: Trainable share of the parameters, 0 to 1; None if unknown.
        folder: Folder of the run with its predictions; None for a result of a file.
    """

    auroc: float
    share: float | None
    folder: Path | None = None


@dataclass(frozen=True)
class Row:
    """One method on one data set, a row of the table.

    Attributes:
        data: Title of the data set.
        start: Title of the initial weights.
        method: Title of the method.
        share: Trainable share of the parameters, 0 to 1; None without a run.
        curve: Test AUROC by label fraction, with intervals over seeds.
    """

    data: str
    start: str
    method: str
    share: float | None
    curve: Curve


def transfer_runs(
    data_sets: Iterable[DataSpec], seeds: int, fractions: Sequence[float] = FRACTIONS
) -> list[TransferRun]:
    """Runs of the grid: all of them with the first seed, then with the next.

    Args:
        data_sets: Data sets; their label fraction and subset seed are not used.
        seeds: Seeds 0 to ``seeds - 1``.
        fractions: Label fractions in (0, 1]; those with fewer than ``MIN_IMAGES`` images are left
            out.

    Raises:
        CoreError: A data set cannot be opened.
        ConfigurationError: No run is left.
    """
    sizes = [(data, len(open_data(data).ids("train"))) for data in data_sets]
    runs = [
        TransferRun(start, _spec(start, method, data, fraction, size, seed))
        for seed in range(seeds)
        for data, size in sizes
        for fraction in fractions
        if fraction * size >= MIN_IMAGES
        for start in STARTS
        for method in start.methods
    ]
    if not runs:
        raise ConfigurationError(
            f"No label fraction leaves {MIN_IMAGES} images of these data sets.",
            "Give a larger label fraction, or a larger data set.",
            field="data.label_fraction",
        )
    return runs


def epochs_for(method: str, images: int) -> int:
    """Number of epochs of a run.

    Args:
        method: Name of the method.
        images: Number of labelled images, at least 1.
    """
    if method in CLOSED_FORM:
        return 1
    if method in FROZEN_BACKBONE:
        return PROBE_EPOCHS
    return min(MAX_EPOCHS, max(MIN_EPOCHS, round(IMAGES_PER_RUN / images)))


def completed_results(
    cells: Iterable[TransferRun], runs: Sequence[Run], workspace: Workspace
) -> dict[TransferRun, TransferResult]:
    """Results of the completed runs of a workspace.

    Args:
        cells: The grid.
        runs: All runs of the workspace, the latest first.
        workspace: The workspace with their predictions.
    """
    known = runs_by_cell(runs)
    results = {}
    for cell in cells:
        run = select_run(known.get(cell_key(cell.spec), ()), workspace)
        if run is not None and run.test_auroc is not None:
            folder = workspace.run(run.id)
            results[cell] = TransferResult(run.test_auroc, share_of([run]), folder)
    return results


def table_rows(
    cells: Iterable[TransferRun], results: Mapping[TransferRun, TransferResult]
) -> list[Row]:
    """Rows of the table, one per data set, start and method, including those without results.

    Args:
        cells: The grid.
        results: Results of its runs.
    """
    rows: dict[tuple[str, str, str], tuple[dict[float, list[float]], list[TransferResult]]] = {}
    for cell in cells:
        spec = cell.spec
        names = (data_title(spec.data), cell.start.title, cell.method_title)
        scores, done = rows.setdefault(names, ({}, []))
        result = results.get(cell)
        if result is not None:
            scores.setdefault(spec.data.label_fraction, []).append(result.auroc)
            done.append(result)
    return [
        Row(*names, next((each.share for each in done if each.share), None),
            curve(names[2], scores))
        for names, (scores, done) in rows.items()
    ]  # fmt: skip


def data_title(data: DataSpec) -> str:
    """Title of a data set in the table, with the edition of a generated one."""
    edition = data.edition()
    title = data.called or DATASETS[data.name].title
    return title if edition is None or data.called else f"{title} (edition {edition})"


def column_names(fractions: Sequence[float]) -> tuple[str, ...]:
    """Names of the columns of the table."""
    return ("Data", "From", "Method", "Trains", *(share(fraction) for fraction in fractions))


def row_texts(row: Row, fractions: Sequence[float]) -> tuple[str, ...]:
    """Cells of one row as texts, in the order of ``column_names``."""
    trains = "–" if row.share is None else share(row.share)
    levels = (_level_text(row, fraction) for fraction in fractions)
    return (row.data, row.start, row.method, trains, *levels)


def _level_text(row: Row, fraction: float) -> str:
    """Mean AUROC, half the width of its 95% interval, and the number of seeds."""
    level = row.curve.at(fraction)
    if level is None:
        return "–"
    # The interval is clipped to 0 and 1; with two seeds it may be the whole range.
    half = max(level.auroc.value - level.auroc.low, level.auroc.high - level.auroc.value)
    bounded = level.auroc.low > 0 or level.auroc.high < 1
    width = f" ± {half:.3f}" if bounded else ""
    return f"{level.auroc.value:.3f}{width} ({level.seeds})"


def markdown(table: Sequence[Row], fractions: Sequence[float]) -> str:
    """The table as Markdown; a data set is named only in its first row."""
    names = column_names(fractions)
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    before = None
    for row in table:
        first, *rest = row_texts(row, fractions)
        lines.append(f"| {' | '.join(['' if first == before else first, *rest])} |")
        before = first
    return "\n".join(lines)


def as_json(table: Sequence[Row]) -> list[dict[str, object]]:
    """The table as a JSON value."""
    return [
        {
            "data": row.data,
            "start": row.start,
            "method": row.method,
            "share": row.share,
            "auroc": {
                f"{level.fraction:g}": {
                    "mean": level.auroc.value,
                    "seeds": level.seeds,
                    **_bounds(level),
                }
                for level in row.curve.levels
            },
        }
        for row in table
    ]


def _bounds(level: Level) -> Mapping[str, float]:
    low, high = level.auroc.low, level.auroc.high
    return {} if math.isnan(low) else {"low": low, "high": high}


def _spec(
    start: Start, method: str, data: DataSpec, fraction: float, size: int, seed: int
) -> RunSpec:
    drawn = {"label_fraction": fraction, "subset_seed": None, "split_file": None}
    return RunSpec(
        data=data.model_copy(update=drawn),
        model=ModelSpec(backbone=start.backbone, pretrained=start.pretrained),
        adapter=AdapterSpec(method=method),
        train=TrainSpec(epochs=epochs_for(method, max(1, round(fraction * size))), seed=seed),
    )
