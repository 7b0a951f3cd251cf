"""Reporter that writes metrics and progress to the store."""

from __future__ import annotations

import contextlib
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from core.errors import RunError
from core.reporter import MEAN_AUROC, PART_AUROC, Reporter
from core.runs.run import Value
from core.runs.store import Store

FLUSH_SECONDS = 0.5

ASK_SECONDS = 0.3


class StoreReporter:
    """Writes what a run reports into the store, in few transactions, and into its log.

    Args:
        store: The store.
        run_id: The run.
        log: Its log; lines are added.
        observer: Told everything, too.
    """

    def __init__(self, store: Store, run_id: str, log: Path, observer: Reporter) -> None:
        self._store = store
        self._run_id = run_id
        self._log = log
        self._observer = observer
        self._waiting: list[Value] = []
        self._changed: dict[str, Any] = {}
        self._best = store.get(run_id).best_auroc
        self._flushed = self._asked = -float("inf")
        self._stop = False
        self.interrupted = ""

    def metric(self, name: str, value: float, *, epoch: float, step: int) -> None:
        """Keep a value for the next transaction; the mean validation AUROC calls for one."""
        value = float(value)
        self._waiting.append((name, value, epoch, step))
        if name == MEAN_AUROC and value == value:
            self._best = value if self._best is None else max(self._best, value)
            self._changed |= {"best_auroc": self._best, "last_auroc": value}
        if name in (MEAN_AUROC, PART_AUROC):
            self.flush()
        elif not name.startswith("val"):  # those go together, with the mean that follows them
            self._flush_if_due()
        self._observer.metric(name, value, epoch=epoch, step=step)

    def progress(self, fraction: float, seconds_left: float | None, phase: str) -> None:
        """Keep the progress for the next transaction."""
        share = min(1.0, max(0.0, float(fraction)))
        self._changed |= {"progress": share, "seconds_left": seconds_left, "phase": phase}
        self._flush_if_due()
        self._observer.progress(fraction, seconds_left, phase)

    def stop_requested(self) -> bool:
        """Whether the user, the system or the observer asked the run to stop."""
        now = time.monotonic()
        if not self._stop and (self.interrupted or now - self._asked > ASK_SECONDS):
            self._asked = now
            asked = self.interrupted or self._observer.stop_requested()
            self._stop = bool(asked) or self._store.stop_requested(self._run_id)
            if asked:
                self.log(f"Asked to stop{f' by {self.interrupted}' if self.interrupted else ''}.")
                with contextlib.suppress(RunError):
                    self._store.request_stop(self._run_id)
        return self._stop

    def log(self, text: str) -> None:
        """Add a line with the time to the run's log."""
        self.note(text)
        self._observer.log(text)

    def note(self, text: str) -> None:
        """Add a line to the log, unknown to the observer."""
        with self._log.open("a", encoding="utf-8") as stream:
            stream.write(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {text}\n")

    def model(self, trainable: int, total: int, device: str) -> None:
        """Keep what the run trains, so that it is shown from the start."""
        self._changed |= {"trainable": trainable, "total": total, "device": device}
        self.flush()
        self._observer.model(trainable, total, device)

    def secure(self) -> None:
        """Write everything that waits, so that not even a power failure takes it back."""
        self._store.log_metrics(self._run_id, self._waiting, durable=True, **self._changed)
        self._waiting, self._changed = [], {}
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
        """Write everything that waits, in one transaction."""
        if self._waiting or self._changed:
            self._store.log_metrics(self._run_id, self._waiting, **self._changed)
            self._waiting, self._changed = [], {}
        self._flushed = time.monotonic()

    def _flush_if_due(self) -> None:
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()
