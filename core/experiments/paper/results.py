"""What the runs of a workspace say to each task of the grid."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import CoreError
from core.evaluation.predictions import read_predictions
from core.evaluation.verdict import Evidence, Group, Trial, Verdict, adapter
from core.evaluation.verdict import verdict as decide
from core.experiments.cells import pick, standing
from core.experiments.paper.tasks import PAPER_METHODS, Task, recipe_key
from core.metrics.bootstrap import DRAWS, bootstrap_macro
from core.metrics.intervals import Interval
from core.metrics.label_efficiency import Curve, Needed, curve, labels_needed
from core.runs.run import Run
from core.workspace import Workspace

LORA, FULL = PAPER_METHODS
FEWEST = 0.01
"""The label fraction at which the study's question is asked most sharply."""

EVIDENCE: dict[Evidence, str] = {
    "above": "LoRA clearly better",
    "below": "LoRA clearly worse",
    "unclear": "no clear difference",
    "undecided": "not decidable yet",
}


@dataclass(frozen=True)
class Outcome:
    """One task with its runs.

    Attributes:
        task: The task.
        scores: Test AUROC of each seed by method, 0 to 1.
        verdict: LoRA against full fine-tuning; None unless both have runs.
        fault: Why there is no verdict although both have runs.
        share: Trainable share of the model with LoRA, 0 to 1; None without a run.
        folders: Folder of each run by method, in the order of the seeds.
    """

    task: Task
    scores: Mapping[str, tuple[float, ...]]
    verdict: Verdict | None = None
    fault: CoreError | None = None
    share: float | None = None
    folders: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)

    @property
    def seeds(self) -> int:
        """Seeds that both methods have, 0 without a verdict."""
        return self.verdict.seeds.count if self.verdict else 0

    @property
    def interval(self) -> Interval | None:
        """Difference with the interval over seeds, or over patients while there is one seed."""
        if self.verdict is None:
            return None
        seeds, patients = self.verdict.difference, self.verdict.over_patients
        return patients if math.isnan(seeds.low) else seeds

    def mean(self, method: str) -> float | None:
        """Mean test AUROC of one method over its seeds."""
        each = self.scores.get(method, ())
        return sum(each) / len(each) if each else None


@dataclass(frozen=True)
class Efficiency:
    """AUROC against the share of labels, for one backbone on one data set.

    Attributes:
        backbone: Name of the backbone.
        data: Name of the data set.
        curves: LoRA's and full fine-tuning's, those that have a level.
        needed: Labels that full fine-tuning needs to equal LoRA with ``FEWEST``; None if unknown.
    """

    backbone: str
    data: str
    curves: tuple[Curve, ...]
    needed: Needed | None


def gather(
    tasks: Iterable[Task], runs: Sequence[Run], workspace: Workspace, draws: int = DRAWS
) -> tuple[Outcome, ...]:
    """Judge each task by the completed runs of exactly its recipes.

    Args:
        tasks: The grid.
        runs: All runs of the workspace, the latest first.
        workspace: Where their predictions are.
        draws: Resamples of the patients.
    """
    known = [pick(same, workspace) for same in standing(runs).values()]
    by_recipe: dict[str, list[Run]] = {}
    for run in known:
        if run is not None and score(run) is not None:
            by_recipe.setdefault(recipe_key(run.spec), []).append(run)
    return tuple(_outcome(task, by_recipe, workspace, draws) for task in tasks)


def efficiency(outcomes: Iterable[Outcome], draws: int = DRAWS) -> tuple[Efficiency, ...]:
    """Label-efficiency curves of each backbone on each data set.

    Args:
        outcomes: Tasks with their runs.
        draws: Resamples of the patients, for bands where there is one seed.
    """
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for one in outcomes:
        groups.setdefault((one.task.backbone, one.task.data), []).append(one)
    found = []
    for (backbone, data), same in groups.items():
        drawn = {method: _curve(method, same, draws) for method in PAPER_METHODS}
        target = drawn[LORA].at(FEWEST)
        needed = labels_needed(drawn[FULL], target.auroc) if target else None
        curves = tuple(one for one in drawn.values() if one.levels)
        if curves:
            found.append(Efficiency(backbone, data, curves, needed))
    return tuple(found)


def score(run: Run) -> float | None:
    """A run's mean test AUROC; None while it has none."""
    value = ((run.scores or {}).get("test") or {}).get("auroc")
    return float(value) if value is not None and not math.isnan(value) else None


def group_of(runs: Sequence[Run], workspace: Workspace) -> Group:
    """Runs that differ only in the seed, as the verdict takes them."""
    trials = tuple(Trial(run.id, run.spec, workspace.run(run.id)) for run in runs)
    return Group(adapter(runs[0].spec), runs[0].spec, trials)


def _outcome(
    task: Task, by_recipe: Mapping[str, list[Run]], workspace: Workspace, draws: int
) -> Outcome:
    sides = {
        method: sorted(
            by_recipe.get(recipe_key(task.spec(method)), []),
            key=lambda run: run.spec.train.seed,
        )
        for method in PAPER_METHODS
    }
    verdict, fault = None, None
    if sides[LORA] and sides[FULL]:
        try:
            groups = [group_of(sides[method], workspace) for method in PAPER_METHODS]
            verdict = decide(groups[0], groups[1], "test", draws=draws)
        except CoreError as error:
            fault = error
    return Outcome(
        task,
        {method: scores_of(runs) for method, runs in sides.items()},
        verdict,
        fault,
        share_of(sides[LORA]),
        {method: tuple(workspace.run(run.id) for run in runs) for method, runs in sides.items()},
    )


def scores_of(runs: Iterable[Run]) -> tuple[float, ...]:
    """Mean test AUROC of each run that has one."""
    return tuple(value for run in runs if (value := score(run)) is not None)


def share_of(runs: Iterable[Run]) -> float | None:
    """Trainable share of the model as the first of these runs says."""
    return next((run.trainable / run.total for run in runs if run.trainable and run.total), None)


def _curve(method: str, outcomes: Sequence[Outcome], draws: int) -> Curve:
    scores = {one.task.fraction: one.scores.get(method, ()) for one in outcomes}
    patients: dict[float, Interval] = {}
    for one in outcomes:
        folders = one.folders.get(method, ())
        if len(folders) == 1:
            try:
                found = read_predictions(folders[0])
            except CoreError:
                continue
            patients[one.task.fraction] = bootstrap_macro(
                found.labels, found.scores, found.patients, draws
            )
    return curve(method, scores, patients)
