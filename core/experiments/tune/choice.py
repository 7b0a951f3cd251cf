"""Settings chosen for grids of runs: the trials of several plans, without final runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from core.experiments.tune.plan import Plan
from core.experiments.tune.trials import Report
from core.experiments.tune.tune import Tuning
from core.runs.store import Store
from core.workspace import Workspace

TUNING_SEED = 1_000_000
"""Seed of the trials; the seeds of a grid count from 0, so that they are fresh."""


def choose_all(
    plans: Iterable[Plan],
    store: Store,
    workspace: Workspace,
    report: Report,
    wait: Callable[[float], None] = time.sleep,
) -> None:
    """Run the trials of all plans, and choose; a scheduler executes the runs.

    Args:
        plans: The plans.
        store: The store.
        workspace: The workspace.
        report: Receives a line when a trial starts or ends.
        wait: Waits for a number of seconds.
    """
    for plan in plans:
        Tuning(plan, store, workspace, report=report).choose(wait)
