"""Joint worker: executes several runs in one process, each with its own state in the store."""

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
from core.runs import worker
from core.runs.run import Run, RunState
from core.runs.store import Store
from core.runs.store_reporter import StoreReporter
from core.workspace import Workspace

GRACE_SECONDS = 5.0
"""Seconds after the stop of a run in which a SIGTERM may still be meant for that run."""


@dataclass(frozen=True)
class Member:
    """One of the runs.

    Attributes:
        spec: Its specification.
        folder: Its folder.
        report: Receives its progress, and answers whether to stop.
    """

    spec: RunSpec
    folder: Path
    report: Reporter


Result = Callable[[], dict[str, Any]]
"""Returns the result of a run, or raises the error that ended it."""

Execute = Callable[[Sequence[Member], Path], Iterator[tuple[int, Result]]]
"""Trains runs: (members, cache) → index and result of each member when it ends."""


def work(
    store: Store,
    workspace: Workspace,
    run_ids: Sequence[str],
    execute: Execute,
    observe: Callable[[Run], Reporter] | None = None,
) -> int:
    """Execute claimed runs until each has ended.

    Args:
        store: The store.
        workspace: The workspace with the folders of the runs and the cache.
        run_ids: The runs; their state must be ``STARTING``.
        execute: Function that trains them.
        observe: Makes a reporter that receives every report of a run as well.

    Returns:
        Exit code of the process: 0 if all runs were completed or stopped, else 1.

    Raises:
        RunError: There is no such run, or another process executes it.
        StoreError: The store cannot be written.
    """
    begun = [worker.begin_run(store, run_id) for run_id in run_ids]
    runs = [run for run in begun if run.state is RunState.RUNNING]
    if not runs:
        return 0
    for run in runs:
        shared = {**(run.environment or {}), "together": len(runs)}
        store.update(run.id, environment=shared)
    reports = [
        worker.open_reporter(store, workspace, run, observe(run) if observe else None)
        for run in runs
    ]
    working = dict(enumerate(runs))
    router = SignalRouter(store, working, reports)
    members = [
        Member(run.spec, workspace.run(run.id), HearingReporter(report, router))
        for run, report in zip(runs, reports, strict=True)
    ]
    codes: list[int] = []
    heartbeats: dict[int, contextlib.ExitStack] = {}

    def finish(index: int, result: Result) -> None:
        run = working.pop(index)
        router.ended(store.stop_requested(run.id))
        codes.append(worker.finish_run(store, run.id, result, reports[index]))
        heartbeats.pop(index).close()

    with worker.signals(router.receive), contextlib.ExitStack() as all_heartbeats:
        for index, run in working.items():
            heartbeats[index] = all_heartbeats.enter_context(contextlib.ExitStack())
            heartbeats[index].enter_context(worker.heartbeat(store, run.id))
        try:
            for index, result in execute(members, workspace.cache):
                finish(index, result)
        except (Exception, KeyboardInterrupt) as error:
            for index in list(working):
                finish(index, _raising(error))
    return max(codes)


class SignalRouter:
    """Decides which runs a signal stops.

    Ctrl-C and a closed terminal stop all runs. SIGTERM does too, unless one of the runs is
    stopping: the scheduler then sent it for that run.

    Args:
        store: The store.
        working: The runs that have not ended, by index; changes as they end.
        reports: Their reporters, by index.
    """

    def __init__(
        self, store: Store, working: dict[int, Run], reports: Sequence[StoreReporter]
    ) -> None:
        self._store, self._working, self._reports = store, working, reports
        self._received = ""
        self._stopped = -float("inf")
        self._lock = threading.Lock()

    def receive(self, name: str) -> None:
        """Keep a signal for ``deliver``: a signal handler must not query the store."""
        self._received = name

    def ended(self, stopped: bool) -> None:
        """Note that a run has ended, and whether its stop was requested."""
        if stopped:
            self._stopped = time.monotonic()

    def deliver(self) -> None:
        """Pass a received signal to the runs it stops; called by each run's ``stop_requested``."""
        if not self._received:
            return
        with self._lock:
            name, self._received = self._received, ""
            if not name or (name == "SIGTERM" and self._any_stopping()):
                return
            for report in self._reports:
                report.interrupted = name

    def _any_stopping(self) -> bool:
        if time.monotonic() - self._stopped < GRACE_SECONDS:
            return True
        return any(self._store.stop_requested(run.id) for run in list(self._working.values()))


class HearingReporter(ForwardingReporter):
    """Reporter of one run that also reacts to the signals of the shared process."""

    def __init__(self, report: StoreReporter, router: SignalRouter) -> None:
        super().__init__(report)
        self._router = router

    def stop_requested(self) -> bool:
        """Whether the user or a signal requested that this run stops."""
        self._router.deliver()
        return super().stop_requested()


def _raising(error: BaseException) -> Result:
    def result() -> dict[str, Any]:
        raise error

    return result
