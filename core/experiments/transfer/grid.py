"""What pre-training is worth: each way of tuning from each shipped backbone, and from nothing.

The study compares two ways on two backbones that it takes as given. This grid asks what stands
before that: how far a frozen backbone, LoRA and full fine-tuning each get with few labels, on any
data set, and how far the same network gets from random weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from core.config.model import ModelSpec
from core.config.run import AdapterSpec, DataSpec, RunSpec, TrainSpec
from core.data.datasets.registry import DATASETS, open_data
from core.errors import ConfigurationError
from core.experiments.cells import key, pick, standing
from core.experiments.paper.results import score, share_of
from core.metrics.label_efficiency import Curve, Level, curve
from core.models.backbones.registry import backbone_card
from core.models.tuning.registry import TUNING_METHODS
from core.runs.run import Run
from core.workspace import Workspace

FRACTIONS = (0.01, 0.1, 1.0)

PICTURES = 3_000
"""Pictures that a run sees about, whatever its subset: every way and label fraction takes the same
time, and the largest set is seen once."""

MOST_EPOCHS, LEAST_EPOCHS = 12, 1
PROBE_EPOCHS = 30
"""Of the linear probe, whose features are computed once."""

FEWEST_IMAGES = 10
"""A subset of fewer pictures is left out: its AUROC is the draw's, not the method's."""


@dataclass(frozen=True)
class Start:
    """What a run starts from, and the ways that are tried from there.

    Attributes:
        backbone: Name of the backbone.
        pretrained: Whether from its weights or from random ones.
        methods: Names of methods. A frozen network of random weights is none that anyone would
            use, nor is LoRA on it.
    """

    backbone: str
    pretrained: bool
    methods: tuple[str, ...]

    @property
    def title(self) -> str:
        """As a table says it."""
        return backbone_card(self.backbone).title if self.pretrained else "random weights"


STARTS = (
    Start("embedded-mae", True, ("linear", "lora", "full")),
    Start("embedded-mrm", True, ("linear", "lora", "full")),
    Start("embedded-mae", False, ("full",)),
)


@dataclass(frozen=True)
class TransferRun:
    """One run of the grid.

    Attributes:
        start: What it starts from.
        spec: What is carried out.
    """

    start: Start
    spec: RunSpec

    @property
    def name(self) -> str:
        """As progress is told."""
        return self.spec.title()


@dataclass(frozen=True)
class TransferResult:
    """What a run came to.

    Attributes:
        auroc: Mean test AUROC.
        share: Trainable share of the model, 0 to 1; None if it is not known.
    """

    auroc: float
    share: float | None


@dataclass(frozen=True)
class Row:
    """One way on one data set.

    Attributes:
        data: What the data set is called.
        start: What it starts from.
        method: Title of the method.
        share: Trainable share of the model, 0 to 1; None without a run.
        curve: Test AUROC by label fraction, with intervals over seeds.
    """

    data: str
    start: str
    method: str
    share: float | None
    curve: Curve


def plan(
    sets: Iterable[DataSpec], seeds: int, fractions: Sequence[float] = FRACTIONS
) -> list[TransferRun]:
    """The runs of the grid: all of it with the first seed, then with the next.

    Args:
        sets: Data sets; label fraction and subset seed play no part.
        seeds: Seeds 0 to ``seeds - 1``; none is left out.
        fractions: Label fractions in (0, 1]; one that leaves fewer than ``FEWEST_IMAGES`` pictures
            is left out.

    Raises:
        CoreError: A data set cannot be opened.
        ConfigurationError: Nothing is left of the grid.
    """
    sizes = [(data, len(open_data(data).ids("train"))) for data in sets]
    trips = [
        TransferRun(start, _spec(start, method, data, fraction, size, seed))
        for seed in range(seeds)
        for data, size in sizes
        for fraction in fractions
        if fraction * size >= FEWEST_IMAGES
        for start in STARTS
        for method in start.methods
    ]
    if not trips:
        raise ConfigurationError(
            f"No label fraction leaves {FEWEST_IMAGES} pictures of these data sets.",
            "Give a larger one, or a larger data set.",
            field="data.label_fraction",
        )
    return trips


def epochs(method: str, images: int) -> int:
    """How often a run goes over its subset.

    Args:
        method: Name of the method.
        images: Number of labelled pictures, at least 1.
    """
    if method == "linear":
        return PROBE_EPOCHS
    return min(MOST_EPOCHS, max(LEAST_EPOCHS, round(PICTURES / images)))


def figures(
    trips: Iterable[TransferRun], runs: Sequence[Run], workspace: Workspace
) -> dict[TransferRun, TransferResult]:
    """What the completed runs of a workspace came to.

    Args:
        trips: The grid.
        runs: All runs of the workspace, the latest first.
        workspace: Where their predictions are.
    """
    known = standing(runs)
    found = {}
    for trip in trips:
        run = pick(known.get(key(trip.spec), ()), workspace)
        value = score(run) if run is not None else None
        if run is not None and value is not None:
            found[trip] = TransferResult(value, share_of([run]))
    return found


def rows(trips: Iterable[TransferRun], known: Mapping[TransferRun, TransferResult]) -> list[Row]:
    """The table: a row a data set, start and method, also where nothing is known yet.

    Args:
        trips: The grid.
        known: What its runs came to.
    """
    found: dict[tuple[str, str, str], tuple[dict[float, list[float]], list[TransferResult]]] = {}
    for trip in trips:
        spec = trip.spec
        names = (data_title(spec.data), trip.start.title, TUNING_METHODS[spec.adapter.method].title)
        scores, done = found.setdefault(names, ({}, []))
        figure = known.get(trip)
        if figure is not None:
            scores.setdefault(spec.data.label_fraction, []).append(figure.auroc)
            done.append(figure)
    return [
        Row(*names, next((one.share for one in done if one.share), None), curve(names[2], scores))
        for names, (scores, done) in found.items()
    ]


def data_title(data: DataSpec) -> str:
    """What a data set is called in the table."""
    return data.called or DATASETS[data.name].title


def level(row: Row, fraction: float) -> str:
    """One cell: the mean, half the width of its 95% interval, and the number of seeds."""
    found = row.curve.at(fraction)
    if found is None:
        return "–"
    # The bounds end at 0 and 1; two seeds may leave all between them open.
    half = max(found.auroc.value - found.auroc.low, found.auroc.high - found.auroc.value)
    told = found.auroc.low > 0 or found.auroc.high < 1
    spread = f" ± {half:.3f}" if told else ""
    return f"{found.auroc.value:.3f}{spread} ({found.seeds})"


def head(fractions: Sequence[float]) -> tuple[str, ...]:
    """Names of the columns."""
    return ("Data", "From", "Method", "Trains", *(f"{100 * one:g}%" for one in fractions))


def cells(row: Row, fractions: Sequence[float]) -> tuple[str, ...]:
    """One row as texts, in the order of ``head``."""
    share = "–" if row.share is None else f"{100 * row.share:.2f}%"
    return (row.data, row.start, row.method, share, *(level(row, one) for one in fractions))


def markdown(table: Sequence[Row], fractions: Sequence[float]) -> str:
    """The table for a README; the data set is named where it begins."""
    names = head(fractions)
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    before = None
    for row in table:
        first, *rest = cells(row, fractions)
        lines.append(f"| {' | '.join(['' if first == before else first, *rest])} |")
        before = first
    return "\n".join(lines)


def as_json(table: Sequence[Row]) -> list[dict[str, object]]:
    """The table as plain values."""
    return [
        {
            "data": row.data,
            "start": row.start,
            "method": row.method,
            "share": row.share,
            "auroc": {
                f"{one.fraction:g}": {"mean": one.auroc.value, "seeds": one.seeds, **_bounds(one)}
                for one in row.curve.levels
            },
        }
        for row in table
    ]


def _bounds(one: Level) -> Mapping[str, float]:
    low, high = one.auroc.low, one.auroc.high
    return {} if math.isnan(low) else {"low": low, "high": high}


def _spec(
    start: Start, method: str, data: DataSpec, fraction: float, size: int, seed: int
) -> RunSpec:
    drawn = {"label_fraction": fraction, "subset_seed": None, "split_file": None}
    return RunSpec(
        data=data.model_copy(update=drawn),
        model=ModelSpec(backbone=start.backbone, pretrained=start.pretrained),
        adapter=AdapterSpec(method=method),
        train=TrainSpec(epochs=epochs(method, max(1, round(fraction * size))), seed=seed),
    )
