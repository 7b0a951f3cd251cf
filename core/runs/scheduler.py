"""Scheduler: starts queued runs in processes."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable

from core.errors import CoreError, RunError
from core.runs import processes
from core.runs.lost_runs import RESUME, reconcile, record_end
from core.runs.run import ACTIVE, Run, RunState
from core.runs.slots import Devices, Slots
from core.runs.stop import StopEnforcer
from core.runs.store import LOG, Store
from core.workspace import Workspace

POLL_SECONDS = 0.3

SILENT_SECONDS = 120.0
"""Seconds without a heartbeat after which a run of another machine counts as lost."""

MAX_ATTEMPTS = 5
"""Attempts after which a run that was lost repeatedly is no longer resumed automatically."""

_logger = logging.getLogger(__name__)


def command_in(workspace: Workspace) -> Callable[..., list[str]]:
    """Program and arguments that execute a run of a workspace, or a group of runs."""

    def command(*runs: Run) -> list[str]:
        ids = [run.id for run in runs]
        return [sys.executable, "-m", "core", "work", *ids, "--workspace", str(workspace.root)]

    return command


class Scheduler:
    """Starts queued runs in their order, each run or group of runs in a process of its own.

    Several schedulers may share one store: no run is started twice. Runs that have started continue
    when the scheduler ends.

    Args:
        store: The store.
        workspace: The workspace with the folders of the runs.
        slots: Simultaneous runs on each device of this machine.
        command: Program and arguments that execute the given runs; by default ``command_in``.
        devices: The devices; by default those of this machine.
        resume_lost: Queue lost runs again, up to ``MAX_ATTEMPTS`` attempts.
    """

    def __init__(
        self,
        store: Store,
        workspace: Workspace,
        slots: int = 1,
        *,
        command: Callable[..., list[str]] | None = None,
        devices: Slots | None = None,
        resume_lost: bool = False,
    ) -> None:
        self._store = store
        self._workspace = workspace
        self._devices: Slots = devices or Devices(slots)
        self._command = command or command_in(workspace)
        self._resume_lost = resume_lost
        self._stops = StopEnforcer()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._heartbeats: dict[str, tuple[float | None, float]] = {}

    def start(self) -> None:
        """Start the scheduler in a thread."""
        if self._thread is None:
            self._ended.clear()
            self._thread = threading.Thread(target=self._serve, name="scheduler", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop starting runs; runs that have started continue."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def step(self) -> None:
        """Run one pass: record lost runs, and start queued runs while slots are free."""
        ended = reconcile(self._store)
        active = self._store.list(states=ACTIVE)
        self._stops.enforce(active)
        ended += self._check_heartbeats(active)
        if self._resume_lost:
            self._resume(ended)
        while not self._ended.is_set():
            run = self._store.claim_next(self._devices.slots())
            if run is None:
                return
            self._begin(run)

    def _resume(self, ended: list[Run]) -> None:
        for run in ended:
            if run.state is RunState.LOST and run.attempts < MAX_ATTEMPTS:
                with contextlib.suppress(RunError):  # its state has changed since
                    self._store.transition(run.id, RunState.QUEUED, seen=run)

    def _check_heartbeats(self, active: list[Run]) -> list[Run]:
        """Record as lost the runs of other machines whose heartbeat has not changed for long.

        Times are measured here, so that the clocks of the machines need not agree. A container that
        is restarted counts as another machine.
        """
        now, before = time.monotonic(), self._heartbeats
        self._heartbeats = {}
        lost: list[Run] = []
        for run in active:
            if run.host in (None, processes.host()):
                continue
            heartbeat, since = before.get(run.id, (None, now))
            since = since if heartbeat == run.heartbeat_at else now
            self._heartbeats[run.id] = run.heartbeat_at, since
            if now - since > SILENT_SECONDS:
                reason = f"The run's machine, {run.host}, has sent no heartbeat for a long time."
                state = RunState.STOPPED if run.stop_requested else RunState.LOST
                lost += record_end(self._store, run, state, reason, RESUME)
        return lost

    def _serve(self) -> None:
        logged = ""
        while not self._ended.is_set():
            try:
                self.step()
                logged = ""
            except CoreError as error:  # A full disk or a locked store may be fixed meanwhile.
                if str(error) != logged:
                    _logger.warning("The queue is waiting: %s", error)
                logged = str(error)
            self._ended.wait(POLL_SECONDS)

    def _begin(self, run: Run) -> None:
        runs = [run, *self._store.claim_group(run)]
        variables = self._devices.environment(run.spec.train.device, run.slot)
        log = self._workspace.run(run.id) / LOG
        try:
            child = processes.start(self._command(*runs), log, variables)
        except OSError as error:
            for claimed in runs:
                self._store.transition(
                    claimed.id,
                    RunState.FAILED,
                    seen=claimed,
                    failure_kind="other",
                    failure_reason=f"The run's process could not be started ({error}).",
                    failure_remedy="Fix the cause and resume it.",
                )
            return
        for claimed in runs:
            self._store.assign_process(claimed, child)
