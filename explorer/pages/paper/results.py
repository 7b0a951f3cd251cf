"""The runs of the workspace for each of the study's 18 tasks, and the verdicts; knows no Gradio."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from core.config.run import RunSpec
from core.data.datasets.registry import DATASETS
from core.errors import CoreError
from core.evaluation.groups import Group
from core.evaluation.verdict import Measured, Verdict, decide, measure
from core.experiments.cells import is_scored, recipe_key, scores_of, share_of
from core.experiments.paper.results import Outcome, group_of
from core.experiments.paper.tasks import MINIATURE, PAPER_METHODS, TASKS, Task, find_task
from core.models.backbones.registry import BACKBONES
from core.runs.run import ACTIVE, Run, RunState
from core.workspace import BACKBONE_FILES, Workspace
from explorer.components.run_comparison import SPLIT

LORA, FULL = PAPER_METHODS
FIRST = find_task("embedded-mae-phantom-14-10")
"""The task to begin with: the launch form's default data, backbone and label fraction."""
MOST_TESTS = 256
"""Tests that are kept in memory."""


@dataclass(frozen=True)
class MethodRuns:
    """The runs of a task by one method.

    Attributes:
        method: ``lora`` or ``full``.
        runs: Completed and scored runs, one per seed, in the order of the seeds.
        pending: Queued and active runs.
        failed: The latest failed run, if there is no other to show.
    """

    method: str
    runs: tuple[Run, ...] = ()
    pending: tuple[Run, ...] = ()
    failed: Run | None = None

    @property
    def auroc(self) -> float | None:
        """Mean over the seeds of the mean test AUROC, 0 to 1."""
        values = scores_of(self.runs)
        return sum(values) / len(values) if values else None

    @property
    def seeds(self) -> set[int]:
        """Seeds that are completed or pending."""
        return {run.spec.train.seed for run in (*self.runs, *self.pending)}


@dataclass(frozen=True)
class TaskResult:
    """One task and what is known of it in the workspace.

    Attributes:
        task: The task.
        lora: Its runs by LoRA.
        full: Its runs by full fine-tuning.
        others: Completed runs of the same task with another recipe, which do not count.
        verdict: LoRA compared with full fine-tuning; None unless both have runs.
        error: Why there is no verdict although both have runs.
        verdict_pending: Whether the verdict is still to be computed.
    """

    task: Task
    lora: MethodRuns
    full: MethodRuns
    others: int = 0
    verdict: Verdict | None = None
    error: CoreError | None = None
    verdict_pending: bool = False

    @property
    def methods(self) -> tuple[MethodRuns, MethodRuns]:
        """The runs by both methods, LoRA first."""
        return self.lora, self.full

    def outcome(self, workspace: Workspace) -> Outcome:
        """The same as the claims are judged by."""
        return Outcome(
            self.task,
            {each.method: scores_of(each.runs) for each in self.methods},
            self.verdict,
            self.error,
            share_of(self.lora.runs),
            {each.method: tuple(workspace.run(r.id) for r in each.runs) for each in self.methods},
        )


@dataclass(frozen=True)
class PaperResults:
    """Everything that the page shows: the scaled-down tasks, and the study's own tasks."""

    miniature: tuple[TaskResult, ...]
    tasks: tuple[TaskResult, ...]

    @property
    def verdict_pending(self) -> bool:
        """Whether a verdict is still to be computed."""
        return any(result.verdict_pending for result in (*self.miniature, *self.tasks))

    def result(self, task: Task) -> TaskResult:
        """The result of one of the tasks."""
        return next(each for each in (*self.miniature, *self.tasks) if each.task == task)


def gather(runs: Sequence[Run], workspace: Workspace, *, most: int | None = None) -> PaperResults:
    """Assign the workspace's runs to the tasks and compute the verdict of each task.

    The verdicts of a grid are corrected for the number of its tasks that are compared.

    Args:
        runs: All runs, the latest first.
        workspace: Holds their predictions.
        most: Compute at most this many new tests, which take a moment each; by default
            all.
    """
    by_recipe: dict[str, list[Run]] = {}
    scored: dict[_Key, int] = {}
    for run in runs:
        key = _task_key(run.spec)
        if key in _task_keys():
            by_recipe.setdefault(_recipe_key(run.id, run.spec), []).append(run)
            scored[key] = scored.get(key, 0) + _counts(run, workspace)
    grids = []
    for grid in (MINIATURE, TASKS):
        results: list[TaskResult] = []
        measured: list[Measured | None] = []
        for task in grid:
            result = _task_result(task, by_recipe, scored, workspace)
            pair = _pair(result, workspace)
            if pair is not None and pair not in _measured:
                if most == 0:
                    results.append(replace(result, verdict_pending=True))
                    measured.append(None)
                    continue
                most = None if most is None else most - 1
            test = _measure(pair) if pair else None
            fault = test if isinstance(test, CoreError) else None
            results.append(replace(result, error=fault))
            measured.append(test if isinstance(test, Measured) else None)
        verdicts = iter(decide([each for each in measured if each]))
        grids.append(
            tuple(
                replace(result, verdict=next(verdicts)) if test else result
                for result, test in zip(results, measured, strict=True)
            )
        )
    return PaperResults(*grids)


def needs(task: Task) -> tuple[str, ...]:
    """What has to be downloaded before a task can be run, in words; empty if nothing."""
    needed = []
    card = BACKBONES[task.backbone]
    if card.source == "file":
        needed.append("the weights")
    elif card.weights and not (BACKBONE_FILES / card.weights).is_file():
        needed.append(f"the embedded weights ({card.weights}), which this installation lacks")
    dataset = DATASETS.get(task.data)
    if dataset is not None and dataset.needs_root:
        needed.append("the data set’s folder with the study’s split lists")
    return tuple(needed)


def is_possible(task: Task) -> bool:
    """Whether this software can read the task's data set."""
    return task.data in DATASETS


def next_spec(result: TaskResult, method: str, runs: Iterable[Run] = ()) -> RunSpec:
    """The next run of a task by one method: first a seed that the other method already has.

    Args:
        result: The task with its runs.
        method: ``lora`` or ``full``.
        runs: Runs from which the data folder and the weights are taken, the latest first.
    """
    same, other = result.methods if method == LORA else reversed(result.methods)
    unpaired = sorted(other.seeds - same.seeds)
    free = next(seed for seed in range(len(same.seeds) + 1) if seed not in same.seeds)
    root, weights = _files(result.task, runs)
    seed = unpaired[0] if unpaired else free
    return result.task.spec(method, seed=seed, root=root, weights=weights)


def missing(results: Iterable[TaskResult], seeds: int) -> list[RunSpec]:
    """Runs that bring both methods of each task to a number of common seeds.

    Args:
        results: Tasks that need no download.
        seeds: Seeds wanted for each method.
    """
    specs = []
    for result in results:
        either = result.lora.seeds | result.full.seeds
        both = result.lora.seeds & result.full.seeds
        chosen = sorted(either, key=lambda seed: (seed not in both, seed))
        chosen += [seed for seed in range(seeds + len(either)) if seed not in either]
        specs += [
            result.task.spec(each.method, seed=seed)
            for seed in chosen[:seeds]
            for each in result.methods
            if seed not in each.seeds
        ]
    return specs


def seconds(results: Iterable[TaskResult], wanted: Sequence[RunSpec]) -> float | None:
    """Expected wall time of runs in seconds, from completed runs of the same recipes.

    None if no run of one of the recipes has completed.
    """
    known: dict[str, list[float]] = {}
    for result in results:
        for each in result.methods:
            times = [run.seconds for run in each.runs if run.seconds]
            known.setdefault(_task_recipe(result.task.name, each.method), []).extend(times)
    total = 0.0
    for spec in wanted:
        times = known.get(recipe_key(spec), [])
        if not times:
            return None
        total += sum(times) / len(times)
    return total


def _task_result(
    task: Task, by_recipe: dict[str, list[Run]], scored: dict[_Key, int], workspace: Workspace
) -> TaskResult:
    runs = {method: by_recipe.get(_task_recipe(task.name, method), []) for method in PAPER_METHODS}
    same_task = sum(
        scored.get((task.backbone, task.data, task.fraction, method), 0) for method in PAPER_METHODS
    )
    same_recipe = sum(_counts(run, workspace) for method in runs.values() for run in method)
    lora, full = (_method_runs(method, runs[method], workspace) for method in PAPER_METHODS)
    return TaskResult(task, lora, full, same_task - same_recipe)


def _method_runs(method: str, runs: Sequence[Run], workspace: Workspace) -> MethodRuns:
    by_seed: dict[int, Run] = {}
    for run in reversed(runs):  # of two runs with one seed the later counts
        if _counts(run, workspace):
            by_seed[run.spec.train.seed] = run
    pending = tuple(run for run in runs if run.state is RunState.QUEUED or run.state in ACTIVE)
    failed = next((run for run in runs if run.state in (RunState.FAILED, RunState.LOST)), None)
    scored = tuple(by_seed[seed] for seed in sorted(by_seed))
    return MethodRuns(method, scored, pending, None if scored or pending else failed)


def _counts(run: Run, workspace: Workspace) -> bool:
    return run.test_auroc is not None and is_scored(run, workspace)


class _Pair(NamedTuple):
    """What a verdict depends on: both groups, and when their runs ended."""

    lora: Group
    full: Group
    finished_at: tuple[float | None, ...]


_measured: dict[_Pair, Measured | CoreError] = {}


def _pair(result: TaskResult, workspace: Workspace) -> _Pair | None:
    if not (result.lora.runs and result.full.runs):
        return None
    return _Pair(
        group_of(result.lora.runs, workspace),
        group_of(result.full.runs, workspace),
        tuple(run.finished_at for each in result.methods for run in each.runs),
    )


def _measure(pair: _Pair) -> Measured | CoreError:
    """The test of a pair, or why there is none; computed once."""
    known = _measured.get(pair)
    if known is not None:
        return known
    try:
        outcome: Measured | CoreError = measure(pair.lora, pair.full, SPLIT)
    except CoreError as error:
        outcome = error
    while len(_measured) >= MOST_TESTS:
        _measured.pop(next(iter(_measured)), None)
    _measured[pair] = outcome
    return outcome


_Key = tuple[str, str, float, str]
"""Backbone, data set, label fraction and method."""


def _task_key(spec: RunSpec) -> _Key:
    return spec.model.backbone, spec.data.name, spec.data.label_fraction, spec.adapter.method


@lru_cache(maxsize=1)
def _task_keys() -> frozenset[_Key]:
    return frozenset(
        (task.backbone, task.data, task.fraction, method)
        for task in (*TASKS, *MINIATURE)
        for method in PAPER_METHODS
    )


@lru_cache(maxsize=128)
def _task_recipe(name: str, method: str) -> str:
    return recipe_key(find_task(name).spec(method))


@lru_cache(maxsize=4096)
def _recipe_key(run_id: str, spec: RunSpec) -> str:
    return recipe_key(spec)


def _files(task: Task, runs: Iterable[Run]) -> tuple[Path | None, Path | None]:
    """Folder of the data set and file of the weights as the latest run names them."""
    root: Path | None = None
    weights: Path | None = None
    for run in runs:
        if root is None and run.spec.data.name == task.data:
            root = run.spec.data.root
        if weights is None and run.spec.model.backbone == task.backbone:
            weights = run.spec.model.weights
    return root, weights
