"""Reporter that writes metrics and progress to the store, and messages to the log of a run."""

from __future__ import annotations

import contextlib
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from core.errors import RunError
from core.reporter import MEAN_AUROC, PART_AUROC, Reporter
from core.runs.run import MetricValue
from core.runs.store import Store

FLUSH_SECONDS = 0.5
"""Seconds between transactions."""
STOP_CHECK_SECONDS = 0.3
"""Seconds between queries whether a stop was requested."""


class StoreReporter:
    """Writes the reports of a run to the store, in few transactions, and to its log.

    Args:
        store: The store.
        run_id: The run.
        log: Its log; lines are appended.
        observer: Receives every report as well.

    Attributes:
        interrupted: Name of the signal that requested a stop; empty if there was none.
    """

    def __init__(self, store: Store, run_id: str, log: Path, observer: Reporter) -> None:
        self._store = store
        self._run_id = run_id
        self._log = log
        self._observer = observer
        self._pending: list[MetricValue] = []
        self._changed: dict[str, Any] = {}
        self._best = store.get(run_id).best_auroc
        self._flushed = self._stop_checked = -float("inf")
        self._stop = False
        self.interrupted = ""

    def metric(self, name: str, value: float, *, epoch: float, step: int) -> None:
        """Keep a value for the next transaction; the mean validation AUROC starts one."""
        value = float(value)
        self._pending.append((name, value, epoch, step))
        if name == MEAN_AUROC and value == value:
            self._best = value if self._best is None else max(self._best, value)
            self._changed |= {"best_auroc": self._best, "last_auroc": value}
        if name in (MEAN_AUROC, PART_AUROC):
            self.flush()
        elif not name.startswith("val"):  # these are written together with the mean that follows
            self._flush_if_due()
        self._observer.metric(name, value, epoch=epoch, step=step)

    def progress(self, fraction: float, seconds_left: float | None, phase: str) -> None:
        """Keep the progress for the next transaction."""
        share = min(1.0, max(0.0, float(fraction)))
        self._changed |= {"progress": share, "seconds_left": seconds_left, "phase": phase}
        self._flush_if_due()
        self._observer.progress(fraction, seconds_left, phase)

    def stop_requested(self) -> bool:
        """Whether the user, a signal or the observer requested a stop."""
        now = time.monotonic()
        if not self._stop and (self.interrupted or now - self._stop_checked > STOP_CHECK_SECONDS):
            self._stop_checked = now
            requested = self.interrupted or self._observer.stop_requested()
            self._stop = bool(requested) or self._store.stop_requested(self._run_id)
            if requested:
                self.log(f"Stop requested{f' by {self.interrupted}' if self.interrupted else ''}.")
                with contextlib.suppress(RunError):
                    self._store.request_stop(self._run_id)
        return self._stop

    def log(self, text: str) -> None:
        """Append a line with the time to the log."""
        self.note(text)
        self._observer.log(text)

    def note(self, text: str) -> None:
        """Append a line to the log without informing the observer."""
        with self._log.open("a", encoding="utf-8") as stream:
            stream.write(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {text}\n")

    def model(self, trainable: int, total: int, device: str) -> None:
        """Record the parameter counts and the device at once."""
        self._changed |= {"trainable": trainable, "total": total, "device": device}
        self.flush()
        self._observer.model(trainable, total, device)

    def secure(self) -> None:
        """Write all pending values so that they would survive a power failure."""
        self._store.log_metrics(self._run_id, self._pending, durable=True, **self._changed)
        self._pending, self._changed = [], {}
        self._flushed = time.monotonic()
        self._observer.secure()

    def rewind(self, kept: int) -> None:
        """Keep the first ``kept`` metrics, and the best and last AUROC among them."""
        self.flush()
        self._store.truncate_metrics(self._run_id, kept)
        values = [row.value for row in self._store.metrics(self._run_id, names=[MEAN_AUROC])]
        values = [value for value in values if value == value]
        self._best = max(values, default=None)
        last = values[-1] if values else None
        self._store.update(self._run_id, best_auroc=self._best, last_auroc=last)
        self._observer.rewind(kept)

    def flush(self) -> None:
        """Write all pending values in one transaction."""
        if self._pending or self._changed:
            self._store.log_metrics(self._run_id, self._pending, **self._changed)
            self._pending, self._changed = [], {}
        self._flushed = time.monotonic()

    def _flush_if_due(self) -> None:
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()
