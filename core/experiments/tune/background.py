"""Tunings in the background: submitted, stopped and continued, and run by a thread.

Everything is in the store, so that any process can submit or stop a tuning, and a process that
starts again continues what the last one left.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.storages import RDBStorage

from core.errors import CoreError, RunError, StoreError
from core.experiments.tune import study as studies
from core.experiments.tune.overview import Overviews, heads
from core.experiments.tune.plan import Plan
from core.experiments.tune.tune import Tuning, is_alive, is_own
from core.runs import processes
from core.runs.scheduler import SILENT_SECONDS
from core.runs.store import Store
from core.workspace import Workspace

POLL_SECONDS = 1.0
LOOK_SECONDS = 10.0
"""How often tunings are looked up while the store does not change."""

_STORAGE = (optuna.exceptions.StorageInternalError, sa.exc.SQLAlchemyError)
"""Errors of Optuna's tables."""

_logger = logging.getLogger(__name__)


def submit(plan: Plan, store: Store, workspace: Workspace) -> str:
    """Add a tuning that the explorer runs in the background, or continue an equal one.

    Returns:
        Its name.

    Raises:
        CoreError: The plan cannot work; nothing is added.
    """
    with _store_errors():
        tuning = Tuning(plan, store, workspace)
        if tuning.state != studies.OVER or not tuning.complete:
            _set_state(tuning, store, studies.BACKGROUND)
    return tuning.name


def stop(name: str, store: Store, storage: RDBStorage) -> None:
    """Stop a tuning: no other run starts. Runs that have started continue to their end.

    Raises:
        CoreError: There is no such tuning, or it is not running.
    """
    with _store_errors():
        if not Overviews(store, storage).get(name).can_stop:
            raise RunError(f"The tuning {name} is not running.")
        _set_state(Tuning.stored(name, store, storage), store, studies.STOPPED)


def resume(name: str, store: Store, storage: RDBStorage) -> None:
    """Continue a tuning that was stopped or interrupted, or that misses final runs.

    Raises:
        CoreError: There is no such tuning, it is running, or nothing is left to do.
    """
    with _store_errors():
        if not Overviews(store, storage).get(name).can_continue:
            raise RunError(f"The tuning {name} is running, or nothing of it is left to do.")
        _set_state(Tuning.stored(name, store, storage), store, studies.BACKGROUND)


class BackgroundTunings:
    """Runs the tunings of a workspace that were submitted; a scheduler executes their runs.

    Several processes may share a store: each tuning is run by one of them. That of a process that
    has died is continued by another one, on this machine at once, otherwise after a while.

    Args:
        store: The store.
        workspace: The workspace.
    """

    def __init__(self, store: Store, workspace: Workspace) -> None:
        self._store = store
        self._workspace = workspace
        self._storage: RDBStorage | None = None
        self._running: dict[str, Tuning] = {}
        self._beats: dict[str, tuple[object, float]] = {}
        self._seen: tuple[int, float] | None = None
        self._changed = False
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._ended.clear()
        self._thread = threading.Thread(target=self._serve, name="tunings", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; runs that were queued continue, and so do tunings at the next start."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        with contextlib.suppress(StoreError), _store_errors():
            for tuning in self._running.values():
                tuning.disown()
        self._running.clear()

    def step(self) -> None:
        """Run one pass: find tunings that nobody runs, and advance those of this process.

        Raises:
            StoreError: The store cannot be read or written.
        """
        with _store_errors():
            if not self._must_look():
                return
            if self._storage is None:
                self._storage = studies.existing_storage(self._workspace)
            if self._storage is None:
                return
            for name, head in heads(self._storage).items():
                self._visit(name, head)
            if self._changed:
                self._changed = False
                self._store.count_change()

    def _must_look(self) -> bool:
        """Whether the store has changed, a tuning is running, or the last look was long ago."""
        version, now = self._store.version(), time.monotonic()
        before = self._seen
        due = before is None or before[0] != version or now - before[1] > LOOK_SECONDS
        if due:
            self._seen = version, now
        return due or bool(self._running)

    def _visit(self, name: str, head: Mapping[str, Any]) -> None:
        """Claim a tuning that nobody runs, or advance one of this process.

        A tuning is advanced only in the next pass after it was claimed: of two processes that claim
        it at the same time, the one that wrote last has it then.
        """
        state, owner = head.get(studies.STATE), head.get(studies.OWNER)
        wanted = state == studies.BACKGROUND or (state == studies.STOPPED and owner)
        if not wanted or not is_own(owner):
            self._running.pop(name, None)
        if wanted and is_own(owner):
            self._advance(name, Plan.from_json(head[studies.PLAN]))
        elif wanted and self._is_free(name, owner):
            assert self._storage is not None
            Tuning.stored(name, self._store, self._storage).own()
            self._changed = True

    def _is_free(self, name: str, owner: Mapping[str, Any] | None) -> bool:
        """Whether the process that runs a tuning has ended, or has not been heard of for long.

        Times are measured here, so that the clocks of the machines need not agree.
        """
        if not owner:
            return True
        if owner.get("host") == processes.host():
            return not is_alive(owner)
        beat, now = owner.get("beat"), time.monotonic()
        before = self._beats.get(name)
        if before is None or before[0] != beat:
            self._beats[name] = before = beat, now
        return now - before[1] > SILENT_SECONDS

    def _advance(self, name: str, plan: Plan) -> None:
        tuning = self._running.get(name)
        try:
            if tuning is None:
                tuning = Tuning(plan, self._store, self._workspace, name, report=self._note)
                self._running[name] = tuning
            ended = tuning.step()
        except (StoreError, *_STORAGE):
            raise
        except CoreError as error:  # such as a data set that is no longer there
            self._give_up(name, str(error))
            return
        except Exception as error:  # the other tunings must not end with this one
            _logger.exception("The tuning %s cannot continue", name)
            self._give_up(name, f"An error of the program: {type(error).__name__}: {error}")
            return
        if ended:
            if not tuning.stopped:
                tuning.set_state(studies.OVER)
            tuning.disown()
            del self._running[name]
            self._changed = True

    def _give_up(self, name: str, problem: str) -> None:
        """Stop a tuning that cannot continue, and record why."""
        assert self._storage is not None
        self._running.pop(name, None)
        tuning = Tuning.stored(name, self._store, self._storage)
        tuning.set_state(studies.STOPPED, problem)
        tuning.disown()
        self._changed = True

    def _note(self, line: str) -> None:
        _logger.info("%s", line)
        self._changed = True

    def _serve(self) -> None:
        logged = ""
        while not self._ended.is_set():
            try:
                self.step()
                logged = ""
            except CoreError as error:  # a full disk or a locked store may be fixed meanwhile
                if str(error) != logged:
                    _logger.warning("Tunings are waiting: %s", error)
                logged = str(error)
            self._ended.wait(POLL_SECONDS)


def _set_state(tuning: Tuning, store: Store, state: str) -> None:
    tuning.set_state(state)
    store.count_change()


@contextlib.contextmanager
def _store_errors() -> Iterator[None]:
    """Errors of Optuna's tables as those of the store."""
    try:
        yield
    except _STORAGE as error:
        raise studies.unreadable(error) from error
