"""Several runs in one process, each a run of its own in the store."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.config.run import RunSpec
from core.reporter import ForwardingReporter, Reporter
from core.runs import store_reporter, worker
from core.runs.run import Run, RunState
from core.runs.store import Store
from core.workspace import Workspace

LATE = 5.0
"""Seconds in which a SIGTERM may still be meant for a run that has just been stopped."""


@dataclass(frozen=True)
class Member:
    """One of the runs.

    Attributes:
        spec: What it does.
        folder: Its folder.
        report: Told of its progress, and asked whether to stop.
    """

    spec: RunSpec
    folder: Path
    report: Reporter


Execute = Callable[[Sequence[Member], Path], Iterator[tuple[int, Callable[[], dict[str, Any]]]]]
"""Carries out runs: (members, cache) → the number of each that ends, and what gives its result."""


def work(
    store: Store,
    workspace: Workspace,
    run_ids: Sequence[str],
    execute: Execute,
    observe: Callable[[Run], Reporter] | None = None,
) -> int:
    """Carry out runs that were claimed, each to whatever end.

    Args:
        store: The store.
        workspace: Where the runs' folders and the cache are.
        run_ids: The runs; they have to be starting.
        execute: What carries them out.
        observe: Who is told everything of a run, too.

    Returns:
        The process's exit code: 0 if all runs were completed or stopped, else 1.

    Raises:
        RunError: There is no such run, or another process has it.
        StoreError: The store cannot be written.
    """
    begun = [worker.begin(store, run_id) for run_id in run_ids]
    runs = [run for run in begun if run.state is RunState.RUNNING]
    if not runs:
        return 0
    for run in runs:
        shared = {**(run.environment or {}), "together": len(runs)}
        store.update(run.id, environment=shared)
    reports = [
        worker.reporter(store, workspace, run, observe(run) if observe else None) for run in runs
    ]
    working = dict(enumerate(runs))
    ear = Ear(store, working, reports)
    members = [
        Member(run.spec, workspace.run(run.id), HearingReporter(report, ear))
        for run, report in zip(runs, reports, strict=True)
    ]
    codes: list[int] = []
    beats: dict[int, contextlib.ExitStack] = {}

    def end(number: int, act: Callable[[], dict[str, Any]]) -> None:
        run = working.pop(number)
        ear.ended(store.stop_requested(run.id))
        codes.append(worker.conclude(store, run.id, act, reports[number]))
        beats.pop(number).close()

    with worker.signals(ear.hear), contextlib.ExitStack() as all_beats:
        for number, run in working.items():
            beats[number] = all_beats.enter_context(contextlib.ExitStack())
            beats[number].enter_context(worker.heartbeat(store, run.id))
        try:
            for number, act in execute(members, workspace.cache):
                end(number, act)
        except (Exception, KeyboardInterrupt) as error:
            for number in list(working):
                end(number, _raising(error))
    return max(codes)


class Ear:
    """Decides whom a signal is meant for.

    Ctrl-C and a closed terminal stop all runs. SIGTERM does too, unless one of them is stopping: it
    is then the queue's reminder to that one.

    Args:
        store: The store.
        working: The runs that have not ended; changes as they end.
        reports: Their reporters, by number.
    """

    def __init__(
        self, store: Store, working: dict[int, Run], reports: Sequence[store_reporter.StoreReporter]
    ) -> None:
        self._store, self._working, self._reports = store, working, reports
        self._heard = ""
        self._stopped = -float("inf")
        self._lock = threading.Lock()

    def hear(self, name: str) -> None:
        """Note a signal; what it means is found out later, where the store can be asked."""
        self._heard = name

    def ended(self, stopped: bool) -> None:
        """Note that a run has ended, and whether it was stopped."""
        if stopped:
            self._stopped = time.monotonic()

    def attend(self) -> None:
        """Pass on what was heard; called by any run that asks whether to stop."""
        if not self._heard:
            return
        with self._lock:
            name, self._heard = self._heard, ""
            if not name or (name == "SIGTERM" and self._one_is_stopping()):
                return
            for report in self._reports:
                report.interrupted = name

    def _one_is_stopping(self) -> bool:
        if time.monotonic() - self._stopped < LATE:
            return True
        return any(self._store.stop_requested(run.id) for run in list(self._working.values()))


class HearingReporter(ForwardingReporter):
    """A run's reporter that heeds the signals of the process which several runs share.

    Args:
        report: The run's own.
        ear: What hears them.
    """

    def __init__(self, report: store_reporter.StoreReporter, ear: Ear) -> None:
        super().__init__(report)
        self._ear = ear

    def stop_requested(self) -> bool:
        """Whether the user or the system asked this run to stop."""
        self._ear.attend()
        return super().stop_requested()


def _raising(error: BaseException) -> Callable[[], dict[str, Any]]:
    def act() -> dict[str, Any]:
        raise error

    return act
