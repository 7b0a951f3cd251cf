"""Cells of a grid: which run stands for each."""

from __future__ import annotations

from collections.abc import Iterable

from core.config.run import RunSpec
from core.experiments.paper.tasks import recipe_key
from core.runs.run import ACTIVE, Run, RunState
from core.workspace import Workspace


def standing(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs by what they carry out, those made last first."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(key(run.spec), []).append(run)
    return found


def key(spec: RunSpec) -> str:
    """Equal for runs of one recipe and seed, wherever files lie and whatever they compute on."""
    return f"{spec.train.seed} {recipe_key(spec)}"


def pick(runs: Iterable[Run], workspace: Workspace) -> Run | None:
    """The run to rely on: one that is done, else at work, else waiting, else one to go on with."""

    def rank(run: Run) -> int:
        if is_scored(run, workspace):
            return 0
        if run.state in ACTIVE:
            return 1
        return 2 if run.state is RunState.QUEUED else 3

    left = [run for run in runs if run.state is not RunState.COMPLETED or is_scored(run, workspace)]
    return min(left, key=rank, default=None)


def is_scored(run: Run, workspace: Workspace) -> bool:
    """Whether a run is completed and has the scores that the grid compares."""
    file = workspace.run(run.id) / "predictions" / "test.npz"
    return run.state is RunState.COMPLETED and file.exists()
