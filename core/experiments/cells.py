"""Cells of a grid, and the stored run that is used for each."""

from __future__ import annotations

from collections.abc import Iterable

from core.config.run import RunSpec
from core.evaluation.groups import same_but_seed
from core.runs.run import ACTIVE, Run, RunState
from core.workspace import Workspace


def recipe_key(spec: RunSpec) -> str:
    """Key that is equal for runs of one recipe, whatever their seed, fold and place of files."""
    anywhere = spec.model_copy(update={"model": spec.model.model_copy(update={"weights": None})})
    return same_but_seed(anywhere)


def cell_key(spec: RunSpec) -> str:
    """Key that is equal for runs of one recipe, seed and fold, whatever the place and device."""
    fold = f" {spec.data.fold}" if spec.data.fold else ""
    return f"{spec.train.seed}{fold} {recipe_key(spec)}"


def runs_by_cell(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Group runs by ``cell_key``; each group keeps their order."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(cell_key(run.spec), []).append(run)
    return groups


def select_run(runs: Iterable[Run], workspace: Workspace) -> Run | None:
    """The run to use for a cell: a scored one, else an active, a queued or a resumable one."""

    def rank(run: Run) -> int:
        if is_scored(run, workspace):
            return 0
        if run.state in ACTIVE:
            return 1
        return 2 if run.state is RunState.QUEUED else 3

    usable = [
        run for run in runs if run.state is not RunState.COMPLETED or is_scored(run, workspace)
    ]
    return min(usable, key=rank, default=None)


def is_scored(run: Run, workspace: Workspace) -> bool:
    """Whether a run is completed and has the test predictions that a grid compares."""
    file = workspace.run(run.id) / "predictions" / "test.npz"
    return run.state is RunState.COMPLETED and file.exists()


def scores_of(runs: Iterable[Run]) -> tuple[float, ...]:
    """Mean test AUROC of each run that has one."""
    return tuple(run.test_auroc for run in runs if run.test_auroc is not None)


def share_of(runs: Iterable[Run]) -> float | None:
    """Trainable share of the parameters, 0 to 1, of the first run that has counts."""
    return next((run.trainable / run.total for run in runs if run.trainable and run.total), None)
