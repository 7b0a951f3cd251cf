"""Tuning of several methods: trials, the choice on validation data, and the final runs."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict

from optuna.storages import RDBStorage

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
from core.runs import processes, queue
from core.runs.lost_runs import reconcile
from core.runs.run import ACTIVE, Run, RunState
from core.runs.store import Store
from core.workspace import Workspace

POLL_SECONDS = 1.0
BEAT_SECONDS = 10.0
"""How often the process that runs a tuning records that it is alive."""


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
        stopped: Whether the user had stopped it at the last step.

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
        name = name or plan.name
        storage = studies.open_storage(workspace)
        opened = [
            studies.open_study(storage, name, plan, method, space)
            for method, space in spaces.items()
        ]
        self._set_up(name, plan, opened, store, joint or Joint(), report)

    @classmethod
    def stored(cls, name: str, store: Store, storage: RDBStorage) -> Tuning:
        """A tuning as it is in the store, to read or stop it; its plan is not checked again.

        Raises:
            ConfigurationError: There is no tuning of this name.
        """
        plan, tuning = studies.plan_named(storage, name), cls.__new__(cls)
        opened = studies.stored_studies(storage, name)
        tuning._set_up(name, plan, opened, store, Joint(), lambda line: None)
        return tuning

    def _set_up(
        self,
        name: str,
        plan: Plan,
        opened: Sequence[MethodStudy],
        store: Store,
        joint: Joint,
        report: Report,
    ) -> None:
        self.plan = plan
        self.name = name
        self.methods = [MethodTrials(plan, study, store, joint, report) for study in opened]
        self.stopped = False
        self._store = store
        self._report = report
        self._finder = RunFinder(store, joint)
        self._chosen = self._queued = False
        self._announced: set[str] = set()
        self._beat = -math.inf

    def run(self, wait: Callable[[float], None] = time.sleep) -> bool:
        """Run the tuning to its end, or continue it.

        The runs are executed by a scheduler on this or another machine. The choice of all methods
        is recorded before the first final run is queued, and no test result is read before.

        Args:
            wait: Waits for a number of seconds.

        Returns:
            Whether all final runs are completed; False if the user stopped the tuning or one of
            them, or one failed.
        """
        with self._owned():
            if self.state is not None:
                self.set_state(None)
            while not self.step():
                wait(POLL_SECONDS)
            if not self.stopped:
                self.set_state(studies.OVER)
        return self.complete

    def choose(self, wait: Callable[[float], None] = time.sleep) -> None:
        """Run the trials to their end and choose, without final runs; see ``run``."""
        with self._owned():
            while not self._step_trials():
                wait(POLL_SECONDS)

    def step(self) -> bool:
        """Look once at all runs, and queue those that can start; see ``run``.

        Returns:
            Whether nothing is left to do: the final runs have ended, or the tuning is stopped and
            none of its runs is active.
        """
        self._record_life()
        self.stopped = self.state == studies.STOPPED
        if self.stopped:
            return self._step_stopped()
        return self._step_trials() and self._step_finals()

    @property
    def complete(self) -> bool:
        """Whether all final runs are completed."""
        completed = [run for run in self._finals() if run.state is RunState.COMPLETED]
        return len(completed) == len(self.plan.methods) * len(self.plan.final_seeds)

    @property
    def state(self) -> str | None:
        """``studies.BACKGROUND``, ``STOPPED``, ``OVER``, or None while a command runs it."""
        state: str | None = self.methods[0].study.study.user_attrs.get(studies.STATE)
        return state

    def set_state(self, state: str | None, problem: str = "") -> None:
        """Record the state, and why the tuning cannot continue."""
        self._record(studies.PROBLEM, problem)
        self._record(studies.STATE, state)

    def final_runs(self, study: MethodStudy) -> dict[int, Run]:
        """The final runs of a method that were queued, by seed."""
        runs = {}
        for seed, run_id in study.study.user_attrs.get(studies.FINALS, {}).items():
            with contextlib.suppress(RunError):  # it was deleted
                runs[int(seed)] = self._store.get(run_id)
        return runs

    def _finals(self) -> list[Run]:
        return [run for method in self.methods for run in self.final_runs(method.study).values()]

    def _step_trials(self) -> bool:
        """Look once at all trials; returns whether they have ended and the choice is recorded."""
        if self._chosen:
            return True
        reconcile(self._store)
        for method in self.methods:
            method.step()
        if not all(method.done for method in self.methods):
            return False
        for method in self.methods:
            method.study.choose()
        self._chosen = True
        return True

    def _step_finals(self) -> bool:
        """Look once at the final runs, which are queued at first; returns whether all have ended.

        Those that were stopped or failed before are resumed when the tuning is continued.
        """
        if not self._queued:
            for method in self.methods:
                self._queue_finals(method.study)
            self._queued = True
        reconcile(self._store)
        runs = [resumed_if_lost(self._store, run) for run in self._finals()]
        for run in runs:
            if has_ended(run) and run.id not in self._announced:
                self._announced.add(run.id)
                self._report(f"{run.name}: {run.state}")
        return all(map(has_ended, runs))

    def _step_stopped(self) -> bool:
        """Take waiting runs from the queue; returns whether no run is active."""
        self._chosen = self._queued = False
        reconcile(self._store)
        idle = [method.step_stopped() for method in self.methods]
        finals = self._finals()
        for run in finals:
            if run.state is RunState.QUEUED:
                with contextlib.suppress(RunError):  # it has ended meanwhile
                    queue.stop(self._store, run.id)
        return all(idle) and not any(run.state in ACTIVE for run in finals)

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
        for method in self.methods:
            owner = method.study.study.user_attrs.get(studies.OWNER) or {}
            if is_alive(owner) and not is_own(owner):
                raise ConfigurationError(
                    f"The tuning {self.name} is run by another process ({owner['pid']}).",
                    "Wait for its end, or stop that process first.",
                )
        self.own()
        try:
            yield
        finally:
            self.disown()

    def own(self) -> None:
        """Record that this process runs the tuning, and since when it has been alive."""
        self._beat = time.monotonic()
        self._record(studies.OWNER, asdict(processes.own()) | {"beat": time.time()})

    def disown(self) -> None:
        """Record that no process runs the tuning."""
        self._record(studies.OWNER, None)

    def _record_life(self) -> None:
        if time.monotonic() - self._beat > BEAT_SECONDS:
            self.own()

    def _record(self, key: str, value: object) -> None:
        for method in self.methods:
            method.study.study.set_user_attr(key, value)


def is_own(owner: Mapping[str, object] | None) -> bool:
    """Whether a recorded owner is this process."""
    own = asdict(processes.own())
    return owner is not None and all(owner.get(key) == value for key, value in own.items())


def is_alive(owner: Mapping[str, object] | None) -> bool:
    """Whether a recorded owner is a process of this machine that has not ended."""
    if not owner or owner.get("host") != processes.host():
        return False
    pid, process = owner.get("pid"), owner.get("process")
    return isinstance(pid, int) and processes.alive(
        pid, process if isinstance(process, str) else None
    )
