"""Tuning of the paper's assumed settings: those that the study does not print."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from core.experiments.paper.grid import obstacle
from core.experiments.paper.tasks import PAPER_METHODS, Task
from core.experiments.tune.choice import TUNING_SEED
from core.experiments.tune.defaults import choices
from core.experiments.tune.plan import TRIALS, Plan
from core.workspace import Workspace


def plans(
    tasks: Iterable[Task],
    methods: Iterable[str] = PAPER_METHODS,
    *,
    trials: int = TRIALS,
    roots: Mapping[str, Path] | None = None,
    weights: Mapping[str, Path] | None = None,
) -> dict[tuple[str, str], Plan]:
    """A plan for each recipe that is assumed, by the names of task and method.

    Args:
        tasks: The tasks.
        methods: Methods from ``PAPER_METHODS``.
        trials: Trials of each recipe.
        roots: Folder of each data set.
        weights: Checkpoint of each backbone.
    """
    folders, files = roots or {}, weights or {}
    return {
        (task.name, method): Plan(
            task.spec(method, root=folders.get(task.data), weights=files.get(task.backbone)),
            (method,),
            trials=trials,
            seeds=(TUNING_SEED,),
            final_seeds=(0,),
        )
        for task in tasks
        for method in methods
        if task.recipes[method].kind == "assumed"
    }


def possible(planned: Mapping[tuple[str, str], Plan]) -> list[Plan]:
    """The plans whose runs can be trained here."""
    return [plan for plan in planned.values() if obstacle(plan.base) is None]


def tuned_tasks(
    tasks: Iterable[Task], planned: Mapping[tuple[str, str], Plan], workspace: Workspace
) -> tuple[Task, ...]:
    """The tasks with the learning rates that were chosen so far; other recipes are unchanged.

    Args:
        tasks: The tasks.
        planned: The plans.
        workspace: The workspace with the tunings.
    """
    chosen = choices(workspace)
    tuned = {task.name: task for task in tasks}
    for (name, method), plan in planned.items():
        choice = chosen.get((plan.name, method))
        if choice is not None:
            source = (
                f"Learning rate chosen on validation data from {choice.trials} trials with the "
                f"seed {TUNING_SEED}, because the study prints none for this task."
            )
            rate = choice.spec.resolved().train.lr
            tuned[name] = tuned[name].tuned(method, rate, source)
    return tuple(tuned.values())
