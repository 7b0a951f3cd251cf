"""Tunings of a workspace, with their states and how far they have come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from optuna.storages import RDBStorage

from core.errors import unknown_name
from core.experiments.tune import study as studies
from core.experiments.tune.plan import Plan
from core.experiments.tune.trials import MethodTrials
from core.experiments.tune.tune import Tuning, is_alive
from core.runs import processes
from core.runs.run import RunState
from core.runs.store import Store

Attributes = Mapping[str, Any]


class TuningState(StrEnum):
    """State of a tuning, in the words of ``RunState``."""

    QUEUED = "queued"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True)
class MethodProgress:
    """Trials of one method.

    Attributes:
        title: Title of the method.
        ended: Number of trials that have ended.
        planned: Number of trials; None if the training time is the limit.
        best: Highest validation AUROC of the completed trials.
    """

    title: str
    ended: int
    planned: int | None
    best: float | None


@dataclass(frozen=True)
class Overview:
    """A tuning in one row.

    Attributes:
        name: Its name.
        plan: Its plan.
        state: Its state.
        methods: Progress of each method.
        finals: Number of final runs that are completed.
        problem: Why it was stopped, unless by the user.
    """

    name: str
    plan: Plan
    state: TuningState
    methods: tuple[MethodProgress, ...]
    finals: int
    problem: str

    @property
    def planned_finals(self) -> int:
        """Number of final runs."""
        return len(self.plan.methods) * len(self.plan.final_seeds)

    @property
    def can_stop(self) -> bool:
        """Whether it can be stopped."""
        return self.state in (TuningState.QUEUED, TuningState.RUNNING)

    @property
    def can_continue(self) -> bool:
        """Whether something is left to do and nobody does it."""
        ended = (TuningState.STOPPED, TuningState.COMPLETED, TuningState.FAILED)
        return self.state in ended and self.finals < self.planned_finals


def heads(storage: RDBStorage) -> dict[str, Attributes]:
    """The attributes of each tuning's first study, which has its state and owner, by name."""
    found: dict[str, Attributes] = {}
    for study, attributes in studies.stored_attributes(storage):
        name, slash, _ = study.rpartition("/")
        if slash and studies.PLAN in attributes and studies.SPACE in attributes:
            found.setdefault(name, attributes)
    return found


class Overviews:
    """The tunings of a store, the latest first.

    Those that nobody runs are read once, until their state changes.

    Args:
        store: The store.
        storage: Its tables of tunings.
    """

    def __init__(self, store: Store, storage: RDBStorage) -> None:
        self._store = store
        self._storage = storage
        self._idle: dict[str, tuple[Attributes, Overview]] = {}

    def list(self) -> Sequence[Overview]:
        """All tunings.

        Raises:
            StoreError: The store cannot be read.
        """
        found = [self._overview(name, head) for name, head in heads(self._storage).items()]
        return found[::-1]

    def get(self, name: str) -> Overview:
        """The tuning of a name.

        Raises:
            ConfigurationError: There is none.
        """
        found = heads(self._storage)
        if name not in found:
            raise unknown_name("tuning", name, found)
        return self._overview(name, found[name])

    def _overview(self, name: str, head: Attributes) -> Overview:
        known = self._idle.get(name)
        if known is not None and known[0] == head:
            return known[1]
        tuning = Tuning.stored(name, self._store, self._storage)
        methods = tuple(_progress(method) for method in tuning.methods)
        runs = [run for each in tuning.methods for run in tuning.final_runs(each.study).values()]
        finals = sum(run.state is RunState.COMPLETED for run in runs)
        chosen = all(method.study.winner is not None for method in tuning.methods)
        complete = finals == len(tuning.plan.methods) * len(tuning.plan.final_seeds)
        state = _state(head, complete, chosen and not runs)
        overview = Overview(name, tuning.plan, state, methods, finals, _problem(head))
        if state not in (TuningState.QUEUED, TuningState.RUNNING, TuningState.STOPPING):
            self._idle[name] = head, overview
        return overview


def _progress(method: MethodTrials) -> MethodProgress:
    best = method.study.best()
    trials = len(method.study.trials(*studies.FINISHED))
    return MethodProgress(
        method.title,
        trials,
        method.plan.trials if method.study.space else 1,
        best.value if best is not None else None,
    )


def _problem(head: Attributes) -> str:
    return str(head.get(studies.PROBLEM) or "")


def _state(head: Attributes, complete: bool, only_chosen: bool) -> TuningState:
    """The state of a tuning.

    Args:
        head: Attributes of its first study.
        complete: Whether all final runs are completed.
        only_chosen: Whether the settings are chosen and no final run was queued, as in the tuning
            of the paper's settings.
    """
    state, owner = head.get(studies.STATE), head.get(studies.OWNER)
    if state == studies.STOPPED:
        return TuningState.STOPPING if owner else TuningState.STOPPED
    if state == studies.OVER:
        return TuningState.COMPLETED if complete else TuningState.FAILED
    if owner and (owner.get("host") != processes.host() or is_alive(owner)):
        return TuningState.RUNNING
    if state == studies.BACKGROUND:
        return TuningState.QUEUED
    return TuningState.COMPLETED if complete or only_chosen else TuningState.STOPPED
