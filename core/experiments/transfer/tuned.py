"""Tuned runs of the transfer grid: a learning rate for each data set, start and label fraction."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from core.experiments import sweep
from core.experiments.transfer.grid import TransferRun
from core.experiments.tune.choice import TUNING_SEED
from core.experiments.tune.defaults import choices
from core.experiments.tune.plan import TRIALS, Plan
from core.models.tuning.registry import tuning_method
from core.workspace import Workspace


def tuned_cells(cells: Iterable[TransferRun]) -> list[TransferRun]:
    """The tuned counterparts of the runs of a grid, still with their default settings.

    Methods that are fitted in closed form have none.
    """
    return [
        replace(cell, tuned=True)
        for cell in cells
        if tuning_method(cell.spec.adapter.method).searches
    ]


def plan_of(cell: TransferRun, trials: int = TRIALS) -> Plan:
    """The plan that chooses the settings of a run; the same for all seeds.

    Args:
        cell: A run of the grid.
        trials: Number of trials.
    """
    base, method = sweep.with_seed(cell.spec, 0), cell.spec.adapter.method
    return Plan(base, (method,), trials=trials, seeds=(TUNING_SEED,), final_seeds=(0,))


def with_choices(
    cells: Iterable[TransferRun], workspace: Workspace, trials: int = TRIALS
) -> dict[TransferRun, TransferRun]:
    """The runs with the settings that were chosen; those without a choice are left out.

    Args:
        cells: Tuned runs with their default settings.
        workspace: The workspace with the tunings.
        trials: Number of trials of each.
    """
    chosen, found = choices(workspace), {}
    for cell in cells:
        plan = plan_of(cell, trials)
        choice = chosen.get((plan.name, plan.methods[0]))
        if choice is not None:
            spec = sweep.with_seed(choice.spec, cell.spec.train.seed)
            found[cell] = replace(cell, spec=spec)
    return found
