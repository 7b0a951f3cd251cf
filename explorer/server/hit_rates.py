"""Measures hit rates of new runs in the background, so that the Saliency page opens on a hit."""

from __future__ import annotations

import logging
import threading
import time

from core.errors import CoreError
from core.runs import queue
from core.runs.run import Run, RunState
from core.runs.store import Store
from explorer.components.model_cache import ModelCache

POLL_SECONDS = 2.0
_logger = logging.getLogger(__name__)


class BackgroundHitRates:
    """Measures the latest run that completes, while no run waits or trains.

    Args:
        store: The store.
        models: Loads the models and keeps the results.
    """

    def __init__(self, store: Store, models: ModelCache) -> None:
        self._store = store
        self._models = models
        self._since = time.time()
        self._version: int | None = None
        self._tried: set[tuple[str, float | None]] = set()
        self._ended = threading.Event()

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._serve, name="hit rates", daemon=True).start()

    def stop(self) -> None:
        """End the thread after the current run."""
        self._ended.set()

    def step(self) -> None:
        """Look once whether a run has completed, and measure it.

        Raises:
            StoreError: The store cannot be read.
        """
        version = self._store.version()
        if version == self._version:
            return
        self._version = version
        run = self._next()
        if run is None:
            return
        self._tried.add((run.id, run.finished_at))
        try:
            self._models.measure_hit_rates(run.id)
        except CoreError as error:  # the run was deleted, or its data set is missing
            _logger.debug("No hit rates of run %s: %s", run.id, error)

    def _next(self) -> Run | None:
        """The latest run, if it completed after the start and was not tried."""
        if self._store.list(states=queue.PENDING, limit=1):
            return None
        for run in self._store.list(states=[RunState.COMPLETED], limit=1):
            new = run.finished_at is not None and run.finished_at >= self._since
            if new and (run.id, run.finished_at) not in self._tried:
                return run
        return None

    def _serve(self) -> None:
        while not self._ended.wait(POLL_SECONDS):
            try:
                self.step()
            except CoreError as error:
                _logger.warning("Hit rates are not measured: %s", error)
