"""What the workspace's own runs say to the study's 18 tasks; knows no Gradio."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from core.config.run import RunSpec
from core.data.datasets.registry import DATASETS
from core.errors import CoreError
from core.evaluation.verdict import Group, Verdict, adapter
from core.evaluation.verdict import verdict as decide
from core.experiments.cells import recipe_key
from core.experiments.paper import tasks as paper
from core.experiments.paper.tasks import MINIATURE, TASKS, Task
from core.models.backbones.registry import BACKBONES, backbone_card
from core.runs.run import Run, RunState
from core.workspace import BACKBONE_FILES, Workspace
from explorer.components import run_comparison
from explorer.components.run_table import ACTIVE

LORA, FULL = paper.PAPER_METHODS
WANTED_SEEDS = run_comparison.WANTED_SEEDS
FIRST = paper.find_task("embedded-mae-phantom-14-10")
"""The task to begin with: the launch form's own data, backbone and label fraction."""


@dataclass(frozen=True)
class Side:
    """The runs that carried out a task by one method.

    Attributes:
        method: ``lora`` or ``full``.
        runs: Completed and scored, one a seed, in the order of the seeds.
        going: Queued or at work.
        failed: The latest that failed, while there is nothing else to show.
    """

    method: str
    runs: tuple[Run, ...] = ()
    going: tuple[Run, ...] = ()
    failed: Run | None = None

    @property
    def auroc(self) -> float | None:
        """Mean over the seeds of the mean test AUROC, 0 to 1."""
        values = [_test_auroc(run) for run in self.runs]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None

    @property
    def seeds(self) -> set[int]:
        """Seeds that are done or on their way."""
        return {run.spec.train.seed for run in (*self.runs, *self.going)}


@dataclass(frozen=True)
class Cell:
    """One task and what is known of it here.

    Attributes:
        task: The task.
        lora: Its runs by LoRA.
        full: Its runs by full fine-tuning.
        others: Completed runs of the same question with another recipe, which do not count.
        verdict: LoRA against full fine-tuning; None unless both have runs.
        fault: Why there is no verdict although both have runs.
        weighing: Whether there will be a verdict that has not been reached yet.
    """

    task: Task
    lora: Side
    full: Side
    others: int = 0
    verdict: Verdict | None = None
    fault: CoreError | None = None
    weighing: bool = False

    @property
    def sides(self) -> tuple[Side, Side]:
        """Both, LoRA first."""
        return self.lora, self.full


@dataclass(frozen=True)
class Board:
    """Everything the page shows.

    Attributes:
        miniature: The scaled-down tasks.
        tasks: The study's own.
    """

    miniature: tuple[Cell, ...]
    tasks: tuple[Cell, ...]

    @property
    def weighing(self) -> bool:
        """Whether a verdict has not been reached yet."""
        return any(cell.weighing for cell in (*self.miniature, *self.tasks))


def gather(runs: Sequence[Run], workspace: Workspace, *, most: int | None = None) -> Board:
    """Sort the workspace's runs by the tasks they carried out, and judge each task.

    Args:
        runs: All runs, the latest first.
        workspace: Where their predictions are.
        most: Judge at most so many tasks that have not been judged yet, which takes about a second
            each; by default all.
    """
    by_recipe: dict[str, list[Run]] = {}
    by_question: dict[tuple[str, str, float, str], int] = {}
    for run in runs:
        question = _question(run.spec)
        if question in _questions():
            by_recipe.setdefault(_key(run.id, run.spec), []).append(run)
            by_question[question] = by_question.get(question, 0) + _scored(run, workspace)
    cells = []
    for task in (*MINIATURE, *TASKS):
        cell = _cell(task, by_recipe, by_question, workspace)
        pair = _pair(cell, workspace)
        if pair is not None and pair not in _judged:
            if most == 0:
                cells.append(replace(cell, weighing=True))
                continue
            most = None if most is None else most - 1
        found, fault = _judge(pair) if pair else (None, None)
        cells.append(replace(cell, verdict=found, fault=fault))
    return Board(tuple(cells[: len(MINIATURE)]), tuple(cells[len(MINIATURE) :]))


def needs(task: Task) -> tuple[str, ...]:
    """What has to be fetched before a task can be run, in words; empty if nothing has to be."""
    found = []
    one = BACKBONES[task.backbone]
    if one.source == "file":
        found.append("the weights")
    elif one.weights and not (BACKBONE_FILES / one.weights).is_file():
        found.append(f"the embedded weights ({one.weights}), which this installation lacks")
    entry = DATASETS.get(task.data)
    if entry is not None and entry.needs_root:
        found.append("the data set’s folder with the study’s split lists")
    return tuple(found)


def possible(task: Task) -> bool:
    """Whether this software can read the task's data set at all."""
    return task.data in DATASETS


def next_spec(cell: Cell, method: str, runs: Iterable[Run] = ()) -> RunSpec:
    """The run that a task lacks next by one method.

    Args:
        cell: The task with its runs.
        method: ``lora`` or ``full``.
        runs: Runs whose data folder and weights are taken over, the latest first.
    """
    side, other = cell.sides if method == LORA else reversed(cell.sides)
    alone = sorted(other.seeds - side.seeds)
    free = next(seed for seed in range(len(side.seeds) + 1) if seed not in side.seeds)
    root, weights = _places(cell.task, runs)
    return cell.task.spec(method, seed=alone[0] if alone else free, root=root, weights=weights)


def missing(cells: Iterable[Cell], seeds: int) -> list[RunSpec]:
    """Runs that bring both methods of each task to a number of common seeds.

    Args:
        cells: Tasks that need nothing fetched.
        seeds: Seeds wanted a side.
    """
    found = []
    for cell in cells:
        both = cell.lora.seeds | cell.full.seeds
        chosen = sorted(both, key=lambda one: (one not in cell.lora.seeds & cell.full.seeds, one))
        chosen += [one for one in range(seeds + len(both)) if one not in both]
        found += [
            cell.task.spec(side.method, seed=seed)
            for seed in chosen[:seeds]
            for side in cell.sides
            if seed not in side.seeds
        ]
    return found


def seconds(cells: Iterable[Cell], wanted: Sequence[RunSpec]) -> float | None:
    """Wall time that runs will take, from those done; None if a kind has never been run."""
    known: dict[str, list[float]] = {}
    for cell in cells:
        for side in cell.sides:
            times = [run.seconds for run in side.runs if run.seconds]
            known.setdefault(recipe_key(cell.task.spec(side.method)), []).extend(times)
    total = 0.0
    for spec in wanted:
        times = known.get(recipe_key(spec), [])
        if not times:
            return None
        total += sum(times) / len(times)
    return total


def backbone(task: Task) -> str:
    """The task's backbone for people."""
    return backbone_card(task.backbone).title


def data(task: Task) -> str:
    """The task's data set for people."""
    entry = DATASETS.get(task.data)
    return entry.title if entry else task.data


def _cell(
    task: Task,
    by_recipe: dict[str, list[Run]],
    by_question: dict[tuple[str, str, float, str], int],
    workspace: Workspace,
) -> Cell:
    lora, full = (
        _side(method, by_recipe.get(_recipe(task.name, method), []), workspace)
        for method in paper.PAPER_METHODS
    )
    asked = sum(
        by_question.get((task.backbone, task.data, task.fraction, method), 0)
        for method in paper.PAPER_METHODS
    )
    counted = sum(
        _scored(run, workspace)
        for method in paper.PAPER_METHODS
        for run in by_recipe.get(_recipe(task.name, method), [])
    )
    return Cell(task, lora, full, asked - counted)


def _side(method: str, runs: Sequence[Run], workspace: Workspace) -> Side:
    by_seed: dict[int, Run] = {}
    for run in reversed(runs):  # of two runs with one seed the later counts
        if _scored(run, workspace):
            by_seed[run.spec.train.seed] = run
    going = tuple(run for run in runs if run.state is RunState.QUEUED or run.state in ACTIVE)
    failed = next((run for run in runs if run.state in (RunState.FAILED, RunState.LOST)), None)
    done = tuple(by_seed[seed] for seed in sorted(by_seed))
    return Side(method, done, going, None if done or going else failed)


def _scored(run: Run, workspace: Workspace) -> bool:
    return _test_auroc(run) is not None and run_comparison.has_predictions(run, workspace)


def _test_auroc(run: Run) -> float | None:
    value = ((run.scores or {}).get("test") or {}).get("auroc")
    return float(value) if value is not None and not math.isnan(value) else None


def _group(side: Side, workspace: Workspace) -> Group:
    trials = tuple(run_comparison.trial_of(run, workspace) for run in side.runs)
    return Group(adapter(trials[0].spec), trials[0].spec, trials)


class _Pair(NamedTuple):
    """What a verdict depends on: both groups, and when their runs ended."""

    lora: Group
    full: Group
    stamp: tuple[float | None, ...]


_Outcome = tuple[Verdict | None, CoreError | None]
_judged: dict[_Pair, _Outcome] = {}
MOST_JUDGED = 256


def _pair(cell: Cell, workspace: Workspace) -> _Pair | None:
    if not (cell.lora.runs and cell.full.runs):
        return None
    return _Pair(
        _group(cell.lora, workspace),
        _group(cell.full, workspace),
        tuple(run.finished_at for side in cell.sides for run in side.runs),
    )


def _judge(pair: _Pair) -> _Outcome:
    known = _judged.get(pair)
    if known is not None:
        return known
    try:
        outcome: _Outcome = decide(pair.lora, pair.full, run_comparison.SPLIT), None
    except CoreError as error:
        outcome = None, error
    while len(_judged) >= MOST_JUDGED:
        _judged.pop(next(iter(_judged)), None)
    _judged[pair] = outcome
    return outcome


def _question(spec: RunSpec) -> tuple[str, str, float, str]:
    return spec.model.backbone, spec.data.name, spec.data.label_fraction, spec.adapter.method


@lru_cache(maxsize=1)
def _questions() -> frozenset[tuple[str, str, float, str]]:
    return frozenset(
        (task.backbone, task.data, task.fraction, method)
        for task in (*TASKS, *MINIATURE)
        for method in paper.PAPER_METHODS
    )


@lru_cache(maxsize=128)
def _recipe(name: str, method: str) -> str:
    return recipe_key(paper.find_task(name).spec(method))


@lru_cache(maxsize=4096)
def _key(run_id: str, spec: RunSpec) -> str:
    return recipe_key(spec)


def _places(task: Task, runs: Iterable[Run]) -> tuple[Path | None, Path | None]:
    """Folder of the data set and file of the weights as an earlier run named them."""
    root: Path | None = None
    weights: Path | None = None
    for run in runs:
        if root is None and run.spec.data.name == task.data:
            root = run.spec.data.root
        if weights is None and run.spec.model.backbone == task.backbone:
            weights = run.spec.model.weights
    return root, weights
