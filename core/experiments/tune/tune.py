"""Tuning of several methods: trials, the choice on validation data, and the final runs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict

from core.errors import ConfigurationError, RunError
from core.experiments import sweep
from core.experiments.tune import study as studies
from core.experiments.tune.plan import Plan, check
from core.experiments.tune.space import apply, method_spec, written
from core.experiments.tune.study import MethodStudy, params_of
from core.experiments.tune.trials import (
    Joint,
    MethodTrials,
    Report,
    RunFinder,
    has_ended,
    resumed_if_lost,
)
from core.models.tuning.registry import TUNING_METHODS
from core.runs import processes
from core.runs.lost_runs import reconcile
from core.runs.run import Run, RunState
from core.runs.store import Store
from core.workspace import Workspace

POLL_SECONDS = 1.0


class Tuning:
    """A tuning in the store of a workspace, new or continued.

    Args:
        plan: Its plan.
        store: The store of the workspace.
        workspace: The workspace.
        name: Its name; by default that of the plan.
        joint: How many trials start at the same time, and which of them share a process.
        report: Receives a line when a trial or a final run starts or ends.

    Attributes:
        name: Its name.
        plan: Its plan.
        methods: The trials of each method.

    Raises:
        CoreError: The plan cannot work, or the name belongs to a tuning with another plan, or
            another process of this machine continues it.
    """

    def __init__(
        self,
        plan: Plan,
        store: Store,
        workspace: Workspace,
        name: str | None = None,
        *,
        joint: Joint | None = None,
        report: Report = lambda line: None,
    ) -> None:
        spaces = check(plan)
        self.plan = plan
        self.name = name or plan.name
        self._store = store
        self._report = report
        joint = joint or Joint()
        self._finder = RunFinder(store, joint)
        storage = studies.open_storage(workspace)
        opened = [
            studies.open_study(storage, self.name, plan, method, space)
            for method, space in spaces.items()
        ]
        self.methods = [MethodTrials(plan, study, store, joint, report) for study in opened]

    def run(self, wait: Callable[[float], None] = time.sleep) -> bool:
        """Run the tuning to its end, or continue it.

        The runs are executed by a scheduler on this or another machine. The choice of all methods
        is recorded before the first final run is queued, and no test result is read before.

        Args:
            wait: Waits for a number of seconds.

        Returns:
            Whether all final runs are completed; False if the user stopped one, or one failed.
        """
        with self._owned():
            self._run_trials(wait)
            return self._run_finals(wait)

    def choose(self, wait: Callable[[float], None] = time.sleep) -> None:
        """Run the trials to their end and choose, without final runs; see ``run``."""
        with self._owned():
            self._run_trials(wait)

    def final_runs(self, study: MethodStudy) -> dict[int, Run]:
        """The final runs of a method that were queued, by seed."""
        runs = {}
        for seed, run_id in study.study.user_attrs.get(studies.FINALS, {}).items():
            with contextlib.suppress(RunError):  # it was deleted
                runs[int(seed)] = self._store.get(run_id)
        return runs

    def _run_trials(self, wait: Callable[[float], None]) -> None:
        while not all(method.done for method in self.methods):
            reconcile(self._store)
            for method in self.methods:
                method.step()
            wait(POLL_SECONDS)
        for method in self.methods:
            method.study.choose()

    def _run_finals(self, wait: Callable[[float], None]) -> bool:
        for method in self.methods:
            self._queue_finals(method.study)
        announced: set[str] = set()
        while True:
            reconcile(self._store)
            runs = [
                resumed_if_lost(self._store, run)
                for method in self.methods
                for run in self.final_runs(method.study).values()
            ]
            for run in runs:
                if has_ended(run) and run.id not in announced:
                    announced.add(run.id)
                    self._report(f"{run.name}: {run.state}")
            if all(map(has_ended, runs)):
                wanted = len(self.methods) * len(self.plan.final_seeds)
                completed = [run for run in runs if run.state is RunState.COMPLETED]
                return len(completed) == wanted
            wait(POLL_SECONDS)

    def _queue_finals(self, study: MethodStudy) -> None:
        """Find or queue the runs of the chosen settings with the final seeds."""
        winner = study.winner
        if winner is None:
            return
        method = TUNING_METHODS[study.method].title
        chosen = apply(method_spec(self.plan.base, study.method), study.space, params_of(winner))
        tuned = f" · tuned ({self.plan.limit})" if study.space else ""
        specs = {
            f"{spec.title()}{tuned}": spec
            for spec in (sweep.with_seed(chosen, seed) for seed in self.plan.final_seeds)
        }
        runs = self._finder.runs(specs)
        ids = {str(run.spec.train.seed): run.id for run in runs.values()}
        study.study.set_user_attr(studies.FINALS, ids)
        self._report(f"{method}: {len(ids)} final runs with {written(params_of(winner))}")

    @contextlib.contextmanager
    def _owned(self) -> Iterator[None]:
        """Refuse a second process of this machine that continues the same tuning."""
        own = processes.own()
        for method in self.methods:
            owner: Mapping[str, object] = method.study.study.user_attrs.get(studies.OWNER) or {}
            same = owner == asdict(own)
            if owner.get("host") == own.host and not same and _alive(owner):
                raise ConfigurationError(
                    f"The tuning {self.name} is run by another process ({owner['pid']}).",
                    "Wait for its end, or stop that process first.",
                )
        for method in self.methods:
            method.study.study.set_user_attr(studies.OWNER, asdict(own))
        try:
            yield
        finally:
            for method in self.methods:
                method.study.study.set_user_attr(studies.OWNER, None)


def _alive(owner: Mapping[str, object]) -> bool:
    pid, process = owner.get("pid"), owner.get("process")
    return isinstance(pid, int) and processes.alive(
        pid, process if isinstance(process, str) else None
    )
