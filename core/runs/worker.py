"""Worker: executes one run in its own process and records its end in the store."""

from __future__ import annotations

import contextlib
import errno
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from core.config.run import RunSpec
from core.errors import CoreError, RunError, Stopped, StoreError
from core.reporter import NullReporter, Reporter
from core.runs import processes
from core.runs.provenance import environment
from core.runs.run import Run, RunState
from core.runs.store import LOG, Store
from core.runs.store_reporter import StoreReporter
from core.runs.transitions import NO_FAILURE
from core.workspace import Workspace

Execute = Callable[[RunSpec, Path, Path, Reporter, bool], dict[str, Any]]
"""Trains a specification: (spec, folder of the run, cache, reporter, resume) → result."""

HEARTBEAT_SECONDS = 2.0
CHECKPOINT = "checkpoint.pt"

RESULT_FIELDS = ("scores", "trainable", "total", "device", "best_auroc", "last_auroc")
"""Entries of a result that the store keeps."""


def work(
    store: Store,
    workspace: Workspace,
    run_id: str,
    execute: Execute,
    observer: Reporter | None = None,
) -> int:
    """Execute a claimed run until it ends.

    Args:
        store: The store.
        workspace: The workspace with the folder of the run and the cache.
        run_id: The run; its state must be ``STARTING`` or ``QUEUED``.
        execute: Function that trains it.
        observer: Receives every report as well.

    Returns:
        Exit code of the process: 0 if the run was completed or stopped, else 1.

    Raises:
        RunError: There is no such run, or another process executes it.
        StoreError: The store cannot be written.
    """
    run = begin_run(store, run_id)
    if run.state is not RunState.RUNNING:
        return 0
    report = open_reporter(store, workspace, run, observer)
    folder = workspace.run(run.id)
    resume = run.attempts > 1 or (folder / CHECKPOINT).exists()

    def interrupt(signal_name: str) -> None:
        report.interrupted = signal_name

    def compute() -> dict[str, Any]:
        return execute(run.spec, folder, workspace.cache, report, resume)

    with signals(interrupt), heartbeat(store, run.id):
        return finish_run(store, run.id, compute, report)


def open_reporter(
    store: Store, workspace: Workspace, run: Run, observer: Reporter | None
) -> StoreReporter:
    """Make the reporter of a run that begins, and delete partial files of earlier attempts."""
    folder = workspace.run(run.id)
    folder.mkdir(parents=True, exist_ok=True)
    for partial in folder.rglob(".*.part"):  # an earlier process was killed while writing it
        partial.unlink(missing_ok=True)
    report = StoreReporter(store, run.id, folder / LOG, observer or NullReporter())
    report.log(f"Attempt {run.attempts} of run {run.id}, process {run.pid}: {run.name}")
    return report


def begin_run(store: Store, run_id: str) -> Run:
    """Change a claimed run to ``RUNNING``, or to ``STOPPED`` if a stop was requested meanwhile."""
    run = store.get(run_id)
    own = processes.own().columns()
    if run.state is RunState.QUEUED:
        run = store.transition(run.id, RunState.STARTING, seen=run, **own)
    if run.state is RunState.STOPPING and run.started_at is None:
        return store.transition(run.id, RunState.STOPPED)
    if run.state is not RunState.STARTING:
        raise RunError(
            f"The run {run.id} is {run.state}; only a queued run can be executed.",
            "Resume it first." if run.finished_at else "",
        )
    fields: dict[str, Any] = {"environment": environment(), "phase": "starting", "progress": 0.0}
    try:
        return store.transition(run.id, RunState.RUNNING, **own, **fields)
    except RunError:
        if store.get(run.id).state is RunState.STOPPING:  # requested between the two statements
            return store.transition(run.id, RunState.STOPPED)
        raise


def finish_run(
    store: Store, run_id: str, compute: Callable[[], dict[str, Any]], report: StoreReporter
) -> int:
    """Compute the result of a run, and record how the run ended.

    Args:
        store: The store.
        run_id: The run.
        compute: Returns its result, or raises the error that ended it.
        report: Its reporter.

    Returns:
        Exit code: 0 if the run was completed or stopped, else 1.
    """
    state, fields = _outcome(compute, report)
    return _record_outcome(store, run_id, state, fields, report)


def _outcome(
    compute: Callable[[], dict[str, Any]], report: StoreReporter
) -> tuple[RunState, dict[str, Any]]:
    """Final state of the run, and the fields that the store keeps of its result."""
    try:
        result = compute()
        report.flush()
        kept = {name: result[name] for name in RESULT_FIELDS if result.get(name) is not None}
        return RunState.COMPLETED, {"progress": 1.0, **kept}
    except (Stopped, KeyboardInterrupt):
        return RunState.STOPPED, {}
    except CoreError as error:
        return RunState.FAILED, _failure(error.kind, error.cause, error.remedy)
    except OSError as error:
        return RunState.FAILED, _failure("other", *_os_error_text(error))
    except MemoryError:
        return RunState.FAILED, _failure(
            "out of memory",
            "There is not enough memory for this run.",
            "Lower the batch size, or close other programs.",
        )
    except Exception as error:
        message = (str(error).strip().splitlines() or [""])[0]
        return RunState.FAILED, _failure(
            "other",
            f"An unexpected error occurred: {type(error).__name__}{': ' if message else ''}"
            f"{message}",
            "Report it with the traceback below.",
        )


def _failure(kind: str, reason: str, remedy: str) -> dict[str, Any]:
    return {
        "failure_kind": kind,
        "failure_reason": reason,
        "failure_remedy": remedy or None,
        "traceback": traceback.format_exc().replace("\0", ""),
    }


def _os_error_text(error: OSError) -> tuple[str, str]:
    """Cause and remedy of a system error."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" while writing {error.filename}" if error.filename else ""
        return f"The disk is full{where}.", "Free some space and resume the run."
    where = f" {error.filename}" if error.filename else ""
    return (
        f"A file cannot be read or written:{where} ({error.strerror or error}).",
        "Check the file, its folder and their permissions, and resume the run.",
    )


def _record_outcome(
    store: Store, run_id: str, state: RunState, fields: dict[str, Any], report: StoreReporter
) -> int:
    reason = fields.get("failure_reason")
    try:
        with contextlib.suppress(StoreError):
            report.flush()
        with contextlib.suppress(OSError):
            if fields.get("traceback"):
                report.note(str(fields["traceback"]).rstrip())
            report.note(f"The run is {state}.{f' {reason}' if reason else ''}")
        code = 0 if state in (RunState.COMPLETED, RunState.STOPPED) else 1
        store.transition(run_id, state, **NO_FAILURE | fields, exit_code=code)
        return code
    except CoreError as error:  # ``reconcile`` later reads the last line of the log
        print(f"The end of the run could not be stored: {error} {reason or ''}", file=sys.stderr)
        return 1


@contextlib.contextmanager
def signals(interrupt: Callable[[str], None]) -> Iterator[None]:
    """Let signals request a stop, so that the run writes a checkpoint; a second Ctrl-C ends it.

    ``interrupt`` receives the name of the signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    received = False

    def receive(number: int, frame: FrameType | None) -> None:
        nonlocal received
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received = True
        interrupt(signal.Signals(number).name)

    # SIGHUP is sent when a terminal is closed.
    names = ("SIGTERM", "SIGINT", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.signal(number, receive) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def heartbeat(store: Store, run_id: str) -> Iterator[None]:
    """Record every few seconds, from a thread, that the process is alive."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(StoreError):
                store.heartbeat(run_id)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
