"""Which runs the study's grid consists of, which of them are there, and what the rest will take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from core.config.run import RunSpec
from core.data.datasets.registry import DATASETS
from core.errors import ConfigurationError, CoreError, ModelError, unknown_name
from core.experiments.cells import is_scored, key, pick, standing
from core.experiments.paper.tasks import MINIATURE, PAPER_METHODS, TASKS, Task
from core.models.backbones.registry import BACKBONES
from core.runs.run import Run
from core.workspace import Workspace

KIN = {
    "nih": ("nih", "phantom-14"),
    "chexpert": ("chexpert", "phantom-5"),
    "rsna": ("rsna", "phantom-1"),
}
"""A data set of the study, and the phantoms that stand in for it: either name chooses both."""

COPIES = {"best": 1, "checkpoint": 3}
"""How often what trains lies in a run's folder: its best weights; weights and two moments."""


@dataclass(frozen=True)
class Cell:
    """One run of the grid.

    Attributes:
        task: Its task.
        method: One of ``paper.METHODS``.
        seed: Its seed.
        spec: What is carried out.
    """

    task: Task
    method: str
    seed: int
    spec: RunSpec

    @property
    def name(self) -> str:
        """``mrm-nih-1-lora-0``."""
        return f"{self.task.name}-{self.method}-{self.seed}"


@dataclass(frozen=True)
class Step:
    """A cell with what the workspace holds of it.

    Attributes:
        cell: The cell.
        run: The run that carries it out, if there is one.
        done: Whether that run has completed and can be scored.
        obstacle: Why it cannot be run; None if it can.
        seconds: Expected wall time of what is left; 0 if done, None where it cannot be told.
        disk: Expected bytes that are still to be written; None where they cannot be told.
    """

    cell: Cell
    run: Run | None = None
    done: bool = False
    obstacle: CoreError | None = None
    seconds: float | None = None
    disk: int | None = None

    @property
    def wanted(self) -> bool:
        """Whether there is something to do that can be done."""
        return not self.done and self.obstacle is None


def choose(
    *,
    embedded: bool = False,
    only: Sequence[str] = (),
    fractions: Sequence[float] = (),
    backbones: Sequence[str] = (),
) -> tuple[Task, ...]:
    """The tasks of the grid, or of a part of it.

    Args:
        embedded: The scaled-down tasks instead of the study's own.
        only: Data sets; ``nih`` means ``phantom-14`` among the scaled-down tasks, and so on.
        fractions: Label fractions.
        backbones: Names of backbones.

    Raises:
        ConfigurationError: No task has one of these.
    """
    tasks = MINIATURE if embedded else TASKS
    data = {one: dict.fromkeys([one, *KIN.get(one, ())]) for one in only}
    known = [task.data for task in tasks]
    for one, names in data.items():
        if not set(names) & set(known):
            raise unknown_name("data set of this grid", one, dict.fromkeys([*KIN, *known]))
    for fraction in fractions:
        if fraction not in {task.fraction for task in tasks}:
            raise ConfigurationError(
                f"No task of the study has a label fraction of {fraction:g}.",
                "It has: 0.01, 0.1, 1.",
                field="data.label_fraction",
            )
    for one in backbones:
        if one not in {task.backbone for task in tasks}:
            raise unknown_name(
                "backbone of this grid", one, dict.fromkeys(task.backbone for task in tasks)
            )
    wanted = {name for names in data.values() for name in names}
    return tuple(
        task
        for task in tasks
        if (not only or task.data in wanted)
        and (not fractions or task.fraction in fractions)
        and (not backbones or task.backbone in backbones)
    )


def cells(
    tasks: Iterable[Task],
    methods: Sequence[str] = PAPER_METHODS,
    seeds: int = 1,
    roots: Mapping[str, Path] | None = None,
    weights: Mapping[str, Path] | None = None,
) -> list[Cell]:
    """The runs of these tasks: the whole grid with the first seed, then with the next.

    Args:
        tasks: The tasks.
        methods: Of ``paper.METHODS``.
        seeds: Seeds 0 to ``seeds - 1``.
        roots: Folder of each data set.
        weights: Checkpoint of each backbone.

    Raises:
        ConfigurationError: The study has no such method.
    """
    places, files = roots or {}, weights or {}
    cheap_first = sorted(tasks, key=lambda task: task.fraction)
    return [
        Cell(
            task,
            method,
            seed,
            task.spec(
                method, seed=seed, root=places.get(task.data), weights=files.get(task.backbone)
            ),
        )
        for seed in range(seeds)
        for task in cheap_first
        for method in methods
    ]


def survey(
    cells: Iterable[Cell], runs: Sequence[Run], workspace: Workspace, *, costs: bool = True
) -> list[Step]:
    """Say of each cell whether it is done, whether it can be, and what it will take.

    Args:
        cells: The grid.
        runs: All runs of the workspace, the latest first.
        workspace: Where their folders are.
        costs: Whether to estimate time and disk, which reads data sets and counts parameters.
    """
    known = standing(runs)
    earlier = [
        (run.spec, run.seconds_alone)
        for run in runs
        if run.seconds_alone and is_scored(run, workspace)
    ]
    checked: dict[tuple[str, ...], CoreError | None] = {}
    counted: dict[str, int] = {}
    found = []
    for cell in cells:
        run = pick(known.get(key(cell.spec), ()), workspace)
        if run is not None and is_scored(run, workspace):
            found.append(Step(cell, run, done=True, seconds=0.0, disk=0))
            continue
        kind = (cell.task.data, cell.task.backbone, cell.method, str(cell.spec.adapter.rank))
        if kind not in checked:
            checked[kind] = obstacle(cell.spec)
        step = Step(cell, run, obstacle=checked[kind])
        if costs and step.wanted:
            step = _priced(step, workspace, earlier, counted)
        found.append(step)
    return found


def obstacle(spec: RunSpec) -> CoreError | None:
    """Why a run cannot be carried out here; None if it can."""
    from core.resources import preflight

    backbone, entry = BACKBONES[spec.model.backbone], DATASETS.get(spec.data.name)
    if backbone.source == "file" and spec.model.weights is None:
        return ModelError(
            f"{backbone.title} needs its weights, from {backbone.url}.",
            f"Name the file: --weights {backbone.name}=FILE.",
            field="model.weights",
        )
    if entry is not None and entry.needs_root and spec.data.root is None:
        return ConfigurationError(
            f"{entry.title} needs its folder.",
            f"Name it: --root {spec.data.name}=DIR.",
            field="data.root",
        )
    try:
        preflight.check(spec)
    except CoreError as error:
        return error
    return None


def _priced(
    step: Step,
    workspace: Workspace,
    earlier: Sequence[tuple[RunSpec, float]],
    counted: dict[str, int],
) -> Step:
    """Time and disk of a step; pictures are made once, so the first run that needs them pays."""
    from core.data.cache.image_cache import cache_side
    from core.resources import estimate

    spec, data = step.cell.spec, step.cell.task.data
    try:
        told = estimate.estimate(spec, workspace.cache, earlier)
    except CoreError as error:
        return replace(step, obstacle=error)
    fresh = max(0, told.unprepared - counted.get(data, 0))
    counted[data] = max(told.unprepared, counted.get(data, 0))
    seconds = told.seconds - told.starting
    if told.unprepared:
        seconds -= told.preparing * (1 - fresh / told.unprepared)
    if step.run is not None and step.run.progress is not None:
        seconds *= 1 - step.run.progress
    side = cache_side(spec.model.input_size or BACKBONES[spec.model.backbone].input_size)
    predictions = 8 * len(told.positives) * (told.val_images + told.test_images)
    disk = 4 * told.trainable * sum(COPIES.values()) + predictions + fresh * side**2
    return replace(step, seconds=seconds, disk=disk)
