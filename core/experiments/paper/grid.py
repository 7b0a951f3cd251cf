"""The paper's grid: its cells, the stored run of each, and the expected cost of the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from core.config.run import RunSpec
from core.data.datasets.registry import DATASETS
from core.errors import ConfigurationError, CoreError, ModelError, unknown_name
from core.experiments.cells import cell_key, is_scored, runs_by_cell, select_run
from core.experiments.paper.tasks import MINIATURE, PAPER_METHODS, TASKS, Task
from core.models.backbones.registry import BACKBONES
from core.runs.run import Run
from core.workspace import Workspace

PHANTOMS = {
    "nih": ("nih", "phantom-14"),
    "chexpert": ("chexpert", "phantom-5"),
    "rsna": ("rsna", "phantom-1"),
}
"""Each data set of the paper with the phantoms that replace it: either name selects both."""

WEIGHT_COPIES = 4
"""Copies of the trainable weights in a run's folder: the best ones; weights and two moments in the
checkpoint."""


@dataclass(frozen=True)
class Cell:
    """One run of the grid.

    Attributes:
        task: Its task.
        method: One of ``PAPER_METHODS``.
        seed: Its seed.
        spec: Its specification.
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
class CellStatus:
    """A cell with its run in a workspace.

    Attributes:
        cell: The cell.
        run: Its run, if there is one.
        done: Whether that run is completed and has test predictions.
        obstacle: Why it cannot be run; None if it can.
        seconds: Expected remaining wall time; 0 if done, None if unknown.
        disk: Expected bytes to be written; None if unknown.
    """

    cell: Cell
    run: Run | None = None
    done: bool = False
    obstacle: CoreError | None = None
    seconds: float | None = None
    disk: int | None = None

    @property
    def runnable(self) -> bool:
        """Whether the cell is not done and can be run."""
        return not self.done and self.obstacle is None


def select_tasks(
    *,
    embedded: bool = False,
    only: Sequence[str] = (),
    fractions: Sequence[float] = (),
    backbones: Sequence[str] = (),
) -> tuple[Task, ...]:
    """Select tasks of the grid.

    Args:
        embedded: The miniature tasks instead of the paper's own.
        only: Data sets, by default all; ``nih`` also selects ``phantom-14``, and so on.
        fractions: Label fractions, by default all.
        backbones: Names of backbones, by default all.

    Raises:
        ConfigurationError: No task has one of these values.
    """
    tasks = MINIATURE if embedded else TASKS
    known = [task.data for task in tasks]
    selected: set[str] = set()
    for data in only:
        names = {data, *PHANTOMS.get(data, ())}
        if not names & set(known):
            raise unknown_name("data set of this grid", data, dict.fromkeys([*PHANTOMS, *known]))
        selected |= names
    for fraction in fractions:
        if fraction not in {task.fraction for task in tasks}:
            raise ConfigurationError(
                f"No task of the paper has a label fraction of {fraction:g}.",
                "Choose 0.01, 0.1 or 1.",
                field="data.label_fraction",
            )
    for backbone in backbones:
        if backbone not in {task.backbone for task in tasks}:
            raise unknown_name(
                "backbone of this grid", backbone, dict.fromkeys(task.backbone for task in tasks)
            )
    return tuple(
        task
        for task in tasks
        if (not only or task.data in selected)
        and (not fractions or task.fraction in fractions)
        and (not backbones or task.backbone in backbones)
    )


def grid_cells(
    tasks: Iterable[Task],
    methods: Sequence[str] = PAPER_METHODS,
    seeds: int = 1,
    roots: Mapping[str, Path] | None = None,
    weights: Mapping[str, Path] | None = None,
) -> list[Cell]:
    """Cells of these tasks: all of them with the first seed, then with the next.

    Args:
        tasks: The tasks.
        methods: Methods from ``PAPER_METHODS``.
        seeds: Seeds 0 to ``seeds - 1``.
        roots: Folder of each data set.
        weights: Checkpoint of each backbone.

    Raises:
        ConfigurationError: The paper has no such method.
    """
    folders, files = roots or {}, weights or {}
    cheap_first = sorted(tasks, key=lambda task: task.fraction)
    return [
        Cell(
            task,
            method,
            seed,
            task.spec(
                method, seed=seed, root=folders.get(task.data), weights=files.get(task.backbone)
            ),
        )
        for seed in range(seeds)
        for task in cheap_first
        for method in methods
    ]


def survey(
    cells: Iterable[Cell], runs: Sequence[Run], workspace: Workspace, *, costs: bool = True
) -> list[CellStatus]:
    """Determine of each cell whether it is done, whether it can be run, and its expected cost.

    Args:
        cells: The grid.
        runs: All runs of the workspace, the latest first.
        workspace: The workspace with their folders.
        costs: Whether to estimate time and disk, which reads data sets and counts parameters.
    """
    known = runs_by_cell(runs)
    earlier = [
        (run.spec, run.seconds_alone)
        for run in runs
        if run.seconds_alone and is_scored(run, workspace)
    ]
    checked: dict[tuple[str, ...], CoreError | None] = {}
    counted: dict[str, int] = {}
    statuses = []
    for cell in cells:
        run = select_run(known.get(cell_key(cell.spec), ()), workspace)
        if run is not None and is_scored(run, workspace):
            statuses.append(CellStatus(cell, run, done=True, seconds=0.0, disk=0))
            continue
        kind = (cell.task.data, cell.task.backbone, cell.method, str(cell.spec.adapter.rank))
        if kind not in checked:
            checked[kind] = obstacle(cell.spec)
        status = CellStatus(cell, run, obstacle=checked[kind])
        if costs and status.runnable:
            status = _with_cost(status, workspace, earlier, counted)
        statuses.append(status)
    return statuses


def obstacle(spec: RunSpec) -> CoreError | None:
    """Why a run cannot be executed on this machine; None if it can."""
    from core.resources import preflight

    backbone, entry = BACKBONES[spec.model.backbone], DATASETS.get(spec.data.name)
    if backbone.source == "file" and spec.model.weights is None:
        return ModelError(
            f"{backbone.title} needs its weights, from {backbone.url}.",
            f"Give the file with --weights {backbone.name}=FILE.",
            field="model.weights",
        )
    if entry is not None and entry.needs_root and spec.data.root is None:
        return ConfigurationError(
            f"{entry.title} needs its folder.",
            f"Give it with --root {spec.data.name}=DIR.",
            field="data.root",
        )
    try:
        preflight.check(spec)
    except CoreError as error:
        return error
    return None


def _with_cost(
    status: CellStatus,
    workspace: Workspace,
    earlier: Sequence[tuple[RunSpec, float]],
    counted: dict[str, int],
) -> CellStatus:
    """Add the expected time and disk; decoding images counts for the first run that needs them."""
    from core.data.cache.image_cache import cache_side
    from core.resources import estimate

    spec, data = status.cell.spec, status.cell.task.data
    try:
        cost = estimate.estimate(spec, workspace.cache, earlier)
    except CoreError as error:
        return replace(status, obstacle=error)
    undecoded = max(0, cost.unprepared - counted.get(data, 0))
    counted[data] = max(cost.unprepared, counted.get(data, 0))
    seconds = cost.seconds - cost.starting
    if cost.unprepared:
        seconds -= cost.preparing * (1 - undecoded / cost.unprepared)
    if status.run is not None and status.run.progress is not None:
        seconds *= 1 - status.run.progress
    side = cache_side(spec.model.input_size or BACKBONES[spec.model.backbone].input_size)
    predictions = 8 * len(cost.positives) * (cost.val_images + cost.test_images)
    disk = 4 * cost.trainable * WEIGHT_COPIES + predictions + undecoded * side**2
    return replace(status, seconds=seconds, disk=disk)
