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
from core.runs.queue import MOST_ATTEMPTS, RESUME, SILENT_SECONDS, reconcile, settle
from core.runs.run import ACTIVE, Run, RunState
from core.runs.slots import Devices, Slots
from core.runs.stop import Stopping
from core.runs.store import LOG, Store
from core.workspace import Workspace

POLL_SECONDS = 0.3

_logger = logging.getLogger(__name__)


def command_in(workspace: Workspace) -> Callable[..., list[str]]:
    """What carries out a run of a workspace, or several together, as program and arguments."""

    def command(*runs: Run) -> list[str]:
        ids = [run.id for run in runs]
        return [sys.executable, "-m", "core", "work", *ids, "--workspace", str(workspace.root)]

    return command


class Scheduler:
    """Starts queued runs in their order, each in a process of its own, or with its party in one.

    Several may work on one store: no run is started twice. Runs that have begun go on when the
    scheduler ends.

    Args:
        store: The store.
        workspace: Where the runs' folders are.
        slots: Runs at the same time on each device of this machine.
        command: Program and arguments that carry out the given runs; by default ``command_in``.
        devices: The devices; by default those that are found.
        resume_lost: Queue again what is found dead, a few times.
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
        self._stopping = Stopping()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._heard: dict[str, tuple[float | None, float]] = {}

    def start(self) -> None:
        """Begin to look for queued runs, in a thread."""
        if self._thread is None:
            self._ended.clear()
            self._thread = threading.Thread(target=self._serve, name="scheduler", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Start no more runs; those that have begun go on."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def step(self) -> None:
        """Look once: note what died, and start what waits as far as there are slots."""
        found = reconcile(self._store)
        active = self._store.list(states=ACTIVE)
        self._stopping.enforce(active)
        found += self._listen(active)
        if self._resume_lost:
            self._resume(found)
        while not self._ended.is_set():
            run = self._store.claim_next(self._devices.slots())
            if run is None:
                return
            self._begin(run)

    def _resume(self, found: list[Run]) -> None:
        for run in found:
            if run.state is RunState.LOST and run.attempts < MOST_ATTEMPTS:
                with contextlib.suppress(RunError):  # somebody was quicker
                    self._store.transition(run.id, RunState.QUEUED, seen=run)

    def _listen(self, active: list[Run]) -> list[Run]:
        """Give up runs of other machines that have been silent for long, whatever the clocks say.

        A container that is started anew is another machine, too.
        """
        now, before = time.monotonic(), self._heard
        self._heard = {}
        found: list[Run] = []
        for run in active:
            if run.host in (None, processes.host()):
                continue
            beat, since = before.get(run.id, (None, now))
            since = since if beat == run.heartbeat_at else now
            self._heard[run.id] = run.heartbeat_at, since
            if now - since > SILENT_SECONDS:
                reason = f"Nothing was heard of the run's machine, {run.host}, for a long time."
                state = RunState.STOPPED if run.stop_requested else RunState.LOST
                found += settle(self._store, run, state, reason, RESUME)
        return found

    def _serve(self) -> None:
        said = ""
        while not self._ended.is_set():
            try:
                self.step()
                said = ""
            except CoreError as error:  # A full disk or a locked store may be mended meanwhile.
                if str(error) != said:
                    _logger.warning("The queue waits: %s", error)
                said = str(error)
            self._ended.wait(POLL_SECONDS)

    def _begin(self, run: Run) -> None:
        runs = [run, *self._store.claim_party(run)]
        shown = self._devices.environment(run.spec.train.device, run.slot)
        try:
            child = processes.start(self._command(*runs), self._workspace.run(run.id) / LOG, shown)
        except OSError as error:
            for one in runs:
                self._store.transition(
                    one.id,
                    RunState.FAILED,
                    seen=one,
                    failure_kind="other",
                    failure_reason=f"The run's process could not be started ({error}).",
                    failure_remedy="Mend the cause and resume it.",
                )
            return
        for one in runs:
            self._store.hand_over(one, child)
