"""What a run's process does: carry out one run of the store, and tell the store how it goes."""

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
from core.runs.run import UNTROUBLED, Run, RunState
from core.runs.store import LOG, Store
from core.runs.store_reporter import StoreReporter
from core.workspace import Workspace

Execute = Callable[[RunSpec, Path, Path, Reporter, bool], dict[str, Any]]
"""Carries out a specification: (spec, run's folder, cache, reporter, resume) → result."""

HEARTBEAT_SECONDS = 2.0
CHECKPOINT = "checkpoint.pt"


def work(
    store: Store,
    workspace: Workspace,
    run_id: str,
    execute: Execute,
    observer: Reporter | None = None,
) -> int:
    """Carry out a run that was claimed, to whatever end.

    Args:
        store: The store.
        workspace: Where the run's folder and the cache are.
        run_id: The run; it has to be starting, or queued.
        execute: What carries it out.
        observer: Told everything, too.

    Returns:
        The process's exit code: 0 if the run was completed or stopped, else 1.

    Raises:
        RunError: There is no such run, or another process has it.
        StoreError: The store cannot be written.
    """
    run = begin(store, run_id)
    if run.state is not RunState.RUNNING:
        return 0
    report = reporter(store, workspace, run, observer)
    folder = workspace.run(run.id)
    resume = run.attempts > 1 or (folder / CHECKPOINT).exists()

    def ask(name: str) -> None:
        report.interrupted = name

    def act() -> dict[str, Any]:
        return execute(run.spec, folder, workspace.cache, report, resume)

    with signals(ask), heartbeat(store, run.id):
        return conclude(store, run.id, act, report)


def reporter(
    store: Store, workspace: Workspace, run: Run, observer: Reporter | None
) -> StoreReporter:
    """What a run that begins reports to, in its folder, from which leavings are removed."""
    folder = workspace.run(run.id)
    folder.mkdir(parents=True, exist_ok=True)
    for partial in folder.rglob(
        ".*.part"
    ):  # what an earlier process was writing when it was killed
        partial.unlink(missing_ok=True)
    report = StoreReporter(store, run.id, folder / LOG, observer or NullReporter())
    report.log(f"Attempt {run.attempts} of run {run.id}, process {run.pid}: {run.name}")
    return report


def begin(store: Store, run_id: str) -> Run:
    """Take a claimed run into work; it is stopped instead if that was asked for meanwhile."""
    run = store.get(run_id)
    own = processes.own().columns()
    if run.state is RunState.QUEUED:
        run = store.transition(run.id, RunState.STARTING, seen=run, **own)
    if run.state is RunState.STOPPING and run.started_at is None:
        return store.transition(run.id, RunState.STOPPED)
    if run.state is not RunState.STARTING:
        raise RunError(
            f"The run {run.id} is {run.state}; only a queued run can be carried out.",
            "Resume it first." if run.finished_at else "",
        )
    fields: dict[str, Any] = {"environment": environment(), "phase": "starting", "progress": 0.0}
    try:
        return store.transition(run.id, RunState.RUNNING, **own, **fields)
    except RunError:
        if store.get(run.id).state is RunState.STOPPING:  # It was stopped in this very moment.
            return store.transition(run.id, RunState.STOPPED)
        raise


def conclude(
    store: Store, run_id: str, act: Callable[[], dict[str, Any]], report: StoreReporter
) -> int:
    """Carry out what is left of a run, and tell the store how it ended.

    Args:
        store: The store.
        run_id: The run.
        act: Gives its result, or raises what ended it.
        report: Its reporter.

    Returns:
        An exit code: 0 if the run was completed or stopped, else 1.
    """
    state, fields = _ending(act, report)
    return _finish(store, run_id, state, fields, report)


def _ending(
    act: Callable[[], dict[str, Any]], report: StoreReporter
) -> tuple[RunState, dict[str, Any]]:
    """State in which the run ends, and what the store is to know of it."""
    try:
        result = act()
        report.flush()
        kept = ("scores", "trainable", "total", "device", "best_auroc", "last_auroc")
        found = {name: result[name] for name in kept if result.get(name) is not None}
        return RunState.COMPLETED, {"progress": 1.0, **found}
    except (Stopped, KeyboardInterrupt):
        return RunState.STOPPED, {}
    except CoreError as error:
        return RunState.FAILED, _failure(error.kind, error.cause, error.remedy)
    except OSError as error:
        return RunState.FAILED, _failure("other", *_os_words(error))
    except MemoryError:
        return RunState.FAILED, _failure(
            "out of memory",
            "There is not enough memory for this run.",
            "Lower the batch size, or close other programs.",
        )
    except Exception as error:
        words = (str(error).strip().splitlines() or [""])[0]
        return RunState.FAILED, _failure(
            "other",
            f"Something unforeseen went wrong: {type(error).__name__}{': ' if words else ''}"
            f"{words}",
            "The technical details below help whoever mends it.",
        )


def _failure(kind: str, reason: str, remedy: str) -> dict[str, Any]:
    return {
        "failure_kind": kind,
        "failure_reason": reason,
        "failure_remedy": remedy or None,
        "traceback": traceback.format_exc().replace("\0", ""),
    }


def _os_words(error: OSError) -> tuple[str, str]:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" while writing {error.filename}" if error.filename else ""
        return f"The disk is full{where}.", "Free some space and resume the run."
    where = f" {error.filename}" if error.filename else ""
    return (
        f"A file cannot be read or written:{where} ({error.strerror or error}).",
        "Check the file, its folder and their permissions, and resume the run.",
    )


def _finish(
    store: Store, run_id: str, state: RunState, fields: dict[str, Any], report: StoreReporter
) -> int:
    said = fields.get("failure_reason")
    try:
        with contextlib.suppress(StoreError):
            report.flush()
        with contextlib.suppress(OSError):
            if fields.get("traceback"):
                report.note(str(fields["traceback"]).rstrip())
            report.note(f"The run is {state}.{f' {said}' if said else ''}")
        code = 0 if state in (RunState.COMPLETED, RunState.STOPPED) else 1
        store.transition(run_id, state, **UNTROUBLED | fields, exit_code=code)
        return code
    except CoreError as error:  # Whoever reconciles reads the last line of the log.
        print(f"The end of the run could not be stored: {error} {said or ''}", file=sys.stderr)
        return 1


@contextlib.contextmanager
def signals(ask: Callable[[str], None]) -> Iterator[None]:
    """Let a signal ask a run to stop, so that it writes a checkpoint; Ctrl-C again ends it.

    Args:
        ask: Told the signal's name.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    heard = False

    def hear(number: int, frame: FrameType | None) -> None:
        nonlocal heard
        if heard and number == signal.SIGINT:
            raise KeyboardInterrupt
        heard = True
        ask(signal.Signals(number).name)

    # A terminal that is closed hangs up.
    names = ("SIGTERM", "SIGINT", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {one: signal.signal(one, hear) for one in numbers}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@contextlib.contextmanager
def heartbeat(store: Store, run_id: str) -> Iterator[None]:
    """Say every few seconds, from a thread, that the process lives."""
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
