"""Results of the paper's tasks from the runs of a workspace."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from core.errors import CoreError
from core.evaluation.groups import Group, Trial, adapter
from core.evaluation.predictions import read_predictions
from core.evaluation.verdict import Evidence, Measured, Verdict, decide, measure
from core.experiments.cells import recipe_key, runs_by_cell, scores_of, select_run, share_of
from core.experiments.paper.tasks import PAPER_METHODS, Task
from core.metrics.intervals import Interval
from core.metrics.label_efficiency import Curve, Needed, curve, labels_needed
from core.metrics.patient_intervals import auroc_interval
from core.runs.run import Run
from core.workspace import Workspace

LORA, FULL = PAPER_METHODS
FEWEST = 0.01
"""The smallest label fraction, to which the paper's question mainly refers."""

EVIDENCE: dict[Evidence, str] = {
    "above": "LoRA clearly better",
    "below": "LoRA clearly worse",
    "unclear": "no clear difference",
    "undecided": "not decidable yet",
}


@dataclass(frozen=True)
class Outcome:
    """Results of one task.

    Attributes:
        task: The task.
        scores: Test AUROC of each seed by method, 0 to 1.
        verdict: LoRA compared with full fine-tuning; None unless both have runs.
        fault: Why the runs of both methods cannot be compared; None if they can.
        share: Trainable share of the parameters with LoRA, 0 to 1; None without a run.
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
        """Number of seeds that both methods have; 0 without a verdict."""
        return self.verdict.test.seeds.count if self.verdict else 0

    @property
    def interval(self) -> Interval | None:
        """Difference with the interval that decided, or that over patients if undecided."""
        if self.verdict is None:
            return None
        decided, patients = self.verdict.difference, self.verdict.over_patients
        return patients if math.isnan(decided.low) else decided

    def mean(self, method: str) -> float | None:
        """Mean test AUROC of one method over its seeds."""
        each = self.scores.get(method, ())
        return sum(each) / len(each) if each else None


@dataclass(frozen=True)
class Efficiency:
    """Test AUROC by label fraction, for one backbone on one data set.

    Attributes:
        backbone: Name of the backbone.
        data: Name of the data set.
        curves: Curves of LoRA and of full fine-tuning, without empty ones.
        needed: Labels that full fine-tuning needs to equal LoRA with ``FEWEST``; None if unknown.
    """

    backbone: str
    data: str
    curves: tuple[Curve, ...]
    needed: Needed | None


def gather(tasks: Iterable[Task], runs: Sequence[Run], workspace: Workspace) -> tuple[Outcome, ...]:
    """Collect the results of each task from the completed runs of its recipes.

    Args:
        tasks: The grid.
        runs: All runs of the workspace, the latest first.
        workspace: The workspace with their predictions.
    """
    by_recipe: dict[str, list[Run]] = {}
    for same in runs_by_cell(runs).values():
        run = select_run(same, workspace)
        if run is not None and run.test_auroc is not None:
            by_recipe.setdefault(recipe_key(run.spec), []).append(run)
    return decided([_outcome(task, by_recipe, workspace) for task in tasks])


def decided(outcomes: Sequence[tuple[Outcome, Measured | None]]) -> tuple[Outcome, ...]:
    """Outcomes with their verdicts, corrected for the number of tasks that are compared.

    Args:
        outcomes: Outcomes without a verdict, and the test of each; None where there is none.
    """
    verdicts = iter(decide([measured for _, measured in outcomes if measured is not None]))
    return tuple(
        outcome if measured is None else replace(outcome, verdict=next(verdicts))
        for outcome, measured in outcomes
    )


def efficiency(outcomes: Iterable[Outcome]) -> tuple[Efficiency, ...]:
    """Label-efficiency curves of each backbone on each data set.

    Args:
        outcomes: Tasks with their runs.
    """
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.task.backbone, outcome.task.data), []).append(outcome)
    efficiencies = []
    for (backbone, data), group in groups.items():
        by_method = {method: _curve(method, group) for method in PAPER_METHODS}
        target = by_method[LORA].at(FEWEST)
        needed = labels_needed(by_method[FULL], target.auroc) if target else None
        curves = tuple(drawn for drawn in by_method.values() if drawn.levels)
        if curves:
            efficiencies.append(Efficiency(backbone, data, curves, needed))
    return tuple(efficiencies)


def group_of(runs: Sequence[Run], workspace: Workspace) -> Group:
    """Group of runs that differ only in the seed, as input of ``verdict``."""
    trials = tuple(Trial(run.id, run.spec, workspace.run(run.id)) for run in runs)
    return Group(adapter(runs[0].spec), runs[0].spec, trials)


def _outcome(
    task: Task, by_recipe: Mapping[str, list[Run]], workspace: Workspace
) -> tuple[Outcome, Measured | None]:
    sides = {
        method: sorted(
            by_recipe.get(recipe_key(task.spec(method)), []), key=lambda run: run.spec.train.seed
        )
        for method in PAPER_METHODS
    }
    measured, fault = None, None
    if sides[LORA] and sides[FULL]:
        try:
            lora, full = (group_of(sides[method], workspace) for method in PAPER_METHODS)
            measured = measure(lora, full)
        except CoreError as error:
            fault = error
    outcome = Outcome(
        task,
        {method: scores_of(runs) for method, runs in sides.items()},
        fault=fault,
        share=share_of(sides[LORA]),
        folders={
            method: tuple(workspace.run(run.id) for run in runs) for method, runs in sides.items()
        },
    )
    return outcome, measured


def _curve(method: str, outcomes: Sequence[Outcome]) -> Curve:
    scores = {outcome.task.fraction: outcome.scores.get(method, ()) for outcome in outcomes}
    patients: dict[float, Interval] = {}
    for outcome in outcomes:
        folders = outcome.folders.get(method, ())
        if len(folders) == 1:
            try:
                predictions = read_predictions(folders[0])
            except CoreError:
                continue
            patients[outcome.task.fraction] = auroc_interval(
                predictions.labels, predictions.scores, predictions.patients
            )
    return curve(method, scores, patients)
