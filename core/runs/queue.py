"""The queue of runs, which lives in the store, and the scheduler that starts what waits in it."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.config.run import RunSpec
from core.errors import CoreError, RunError
from core.runs import processes
from core.runs.run import ACTIVE, Run, RunState
from core.runs.slots import Devices, Slots
from core.runs.stop import KILL_AFTER, Stopping
from core.runs.store import LOG, Store
from core.workspace import Workspace

PENDING = (RunState.QUEUED, RunState.STARTING, RunState.RUNNING, RunState.STOPPING)
"""States that are not the end of a run."""

RESUMABLE = (RunState.STOPPED, RunState.FAILED, RunState.LOST)
"""States from which a run can go on."""

MOST_ATTEMPTS = 5
"""Attempts after which a run that is lost again and again is no more resumed by itself."""

POLL_SECONDS = 0.3
SILENT_SECONDS = 120.0
RESUME = "Resume it: it goes on from its last checkpoint."

_logger = logging.getLogger(__name__)


def submit(
    store: Store,
    spec: RunSpec,
    name: str | None = None,
    *,
    priority: int = 0,
    after: str | None = None,
) -> Run:
    """Put a run into the queue.

    Args:
        store: The store.
        spec: What it does.
        name: For people; by default the specification's title.
        priority: Runs of a higher one start first.
        after: Id of a run that has to be completed before this one starts.

    Raises:
        RunError: There is no such run to wait for.
    """
    return store.create(spec, name, priority=priority, after=after)


def claim_here(store: Store, spec: RunSpec, name: str | None = None) -> Run:
    """Make a run that this process carries out itself, past the queue."""
    return store.create(spec, name, state=RunState.STARTING)


def stop(store: Store, run_id: str) -> Run:
    """Stop a run: at once if it waits, else as soon as its process has written a checkpoint.

    Raises:
        RunError: There is no such run, or it has ended.
    """
    reconcile(store)
    return store.request_stop(run_id)


def stop_now(store: Store, run_id: str) -> Run:
    """Stop a run and wait for its end, which comes within five seconds on this machine.

    Raises:
        RunError: There is no such run, or it has ended.
    """
    run = stop(store, run_id)
    stopping, until = Stopping(), time.monotonic() + KILL_AFTER + 3.0
    while run.state is RunState.STOPPING and time.monotonic() < until:
        stopping.enforce([run])
        time.sleep(0.1)
        reconcile(store)
        run = store.get(run.id)
    return run


def waits(store: Store, run: Run) -> str:
    """What a queued run waits for beside a slot, as a sentence; empty if for nothing."""
    if run.state is not RunState.QUEUED or run.after is None:
        return ""
    remedy = "Resume that one, or let this one wait for nothing."
    try:
        other = store.get(run.after)
    except RunError:
        return f"It waits for the run {run.after}, which was deleted. {remedy}"
    if other.state is RunState.COMPLETED:
        return ""
    if other.state in PENDING:
        return f"It waits for {other.name} ({other.id}) to be completed."
    return f"It waits for {other.name} ({other.id}), which is {other.state}. {remedy}"


def idle(store: Store) -> bool:
    """Whether nothing works, and nothing that is queued will start by itself."""
    pending = store.list(states=PENDING)
    coming = {run.id for run in pending if run.state in ACTIVE or not waits(store, run)}
    return not coming


def resume(store: Store, run_id: str) -> Run:
    """Queue a stopped, failed or lost run again.

    Raises:
        RunError: There is no such run, or it is in another state.
    """
    reconcile(store)
    run = store.get(run_id)
    if run.state not in RESUMABLE:
        raise RunError(f"The run {run.id} is {run.state}; there is nothing to resume.")
    return store.transition(run.id, RunState.QUEUED, seen=run)


def reconcile(store: Store) -> list[Run]:
    """Find the active runs of this machine whose process is gone, and say so in the store.

    Returns:
        The runs that were found dead, in their new state.
    """
    processes.reap()
    found = []
    for run in store.list(states=ACTIVE):
        if run.host not in (None, processes.host()) or processes.alive(run.pid, run.process):
            continue
        processes.reap()  # it may have ended since the first look, and its exit code is wanted
        state, reason, remedy = _end(run, store.folder(run.id) / LOG)
        found += settle(store, run, state, reason, remedy)
    return found


def settle(
    store: Store, run: Run, state: RunState, reason: str | None, remedy: str | None
) -> list[Run]:
    """Say in the store what became of a run whose process is gone, unless another was quicker.

    Returns:
        The run in its new state, if it is in it.
    """
    code = processes.exit_code(run.pid)
    fields: dict[str, Any] = {} if state is RunState.QUEUED else {"exit_code": code}
    if reason is not None:
        ended = state is RunState.FAILED or (code is not None and code >= 0)
        kind = "other" if ended else "killed"
        fields |= {"failure_kind": kind, "failure_reason": reason, "failure_remedy": remedy}
    try:
        return [store.transition(run.id, state, seen=run, **fields)]
    except RunError:
        return []  # It ended properly, or another process was quicker to see it.


def _end(run: Run, log: Path) -> tuple[RunState, str | None, str | None]:
    """State, reason and remedy of a run whose process is gone without a word."""
    if run.stop_requested:
        return RunState.STOPPED, None, None
    if run.state is RunState.STARTING and run.heartbeat_at is None:
        return RunState.QUEUED, None, None  # Who claimed it was gone before it had a process.
    code, said = processes.exit_code(run.pid), processes.last_line(log)
    last = f" The last line of its log: {said}" if said else ""
    if code is not None and code < 0:
        how = f"was killed ({_signal(-code)})"
        if -code == signal.SIGKILL:
            how += ", perhaps because the machine ran out of memory"
        return RunState.LOST, f"The run's process {how}.", RESUME
    if run.state is RunState.STARTING:
        reason = f"The run's process ended before it began to work.{last}"
        return RunState.FAILED, reason, "See its log, mend the cause and resume it."
    if code is not None:
        return RunState.LOST, f"The run's process ended with code {code}.{last}", RESUME
    return RunState.LOST, "The run's process is gone: killed, or the machine went down.", RESUME


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


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
