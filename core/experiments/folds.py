"""Runs of a cross-validation: one per fold."""

from __future__ import annotations

from dataclasses import dataclass

from core.config.run import RunSpec
from core.errors import RunError
from core.evaluation.groups import Trial, fold_count, grouped
from core.experiments.cells import is_scored, recipe_key
from core.runs.run import RunState
from core.runs.store import Store
from core.workspace import Workspace


@dataclass(frozen=True)
class FoldCell:
    """One fold, as a cell of a grid.

    Attributes:
        spec: Specification of its run.
    """

    spec: RunSpec

    @property
    def name(self) -> str:
        """Name shown to the user."""
        return f"fold {self.spec.data.fold}"


def joined_trial(spec: RunSpec, store: Store, workspace: Workspace) -> Trial:
    """The completed runs of all folds of a cross-validation with one seed, as one trial.

    Args:
        spec: Specification of any of the folds.
        store: The store.
        workspace: Its workspace.

    Raises:
        RunError: The specification is not that of a fold, or folds are not completed.
    """
    count = fold_count(spec)
    if not count:
        raise RunError(
            f"The run {spec.title()} is not a fold of a cross-validation.", "Leave out --folds."
        )
    members = [
        run
        for run in reversed(store.list(states=[RunState.COMPLETED]))
        if run.spec.train.seed == spec.train.seed
        and recipe_key(run.spec) == recipe_key(spec)
        and is_scored(run, workspace)
    ]
    groups = grouped(Trial(run.id, run.spec, workspace.run(run.id)) for run in members)
    if not groups:
        done = len({run.spec.data.fold for run in members})
        raise RunError(
            f"Only {done} of {count} folds of {spec.title()} are completed.",
            f"Train the others with the same settings: train --folds {count}.",
        )
    return groups[-1].trials[0]
