"""Checks of whole data sets in a thread of the server, with their progress.

A check belongs to the server, not to a browser: it continues when the page is closed, and
anyone who opens the data set again sees its progress or its report. Checks run one at a time.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from markupsafe import Markup

from core.config.run import DataSpec
from core.data.checks import check as checks
from core.data.checks.report import Report
from core.data.datasets.registry import open_data
from core.errors import CoreError
from explorer.templates import error_message, render_macro

MOST_CHECKS = 32
"""Finished checks beyond this number are forgotten, the oldest first."""

_one_at_a_time = threading.Lock()


@dataclass
class Check:
    """One check of a data set.

    Attributes:
        data: The data set.
        pixels: Whether every image is decoded.
        done: Number of images decoded so far.
        total: Number of all images; 0 before it is known.
        report: The result, once it is there.
        error: Why there is no report.
        started: Start on the monotonic clock; None while it waits for another check.
    """

    data: DataSpec
    pixels: bool
    done: int = 0
    total: int = 0
    report: Report | None = None
    error: CoreError | None = None
    started: float | None = None
    _stop: threading.Event = field(default_factory=threading.Event)

    @property
    def running(self) -> bool:
        """Whether it waits or runs."""
        return self.report is None and self.error is None

    @property
    def message(self) -> Markup | None:
        """The error as HTML."""
        return None if self.error is None else error_message(self.error)

    def seconds_left(self) -> float | None:
        """Expected seconds until its end; None before the first image is decoded."""
        if self.started is None or not self.done:
            return None
        return (time.monotonic() - self.started) / self.done * (self.total - self.done)

    def stop(self) -> None:
        """Stop it; the report contains what was found so far."""
        self._stop.set()

    def run(self) -> None:
        """Run it after those before it have ended."""
        with _one_at_a_time:
            self.started = time.monotonic()
            try:
                self.report = checks.check(
                    lambda: open_data(self.data),
                    pixels=self.pixels and not self._stop.is_set(),
                    progress=self._note_progress,
                    should_stop=self._stop.is_set,
                )
            except CoreError as error:
                self.error = error
            except Exception as error:  # otherwise the page would wait for ever
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                self.error = CoreError(f"The check failed ({reason}).", "Please report this error.")

    def _note_progress(self, done: int, total: int) -> None:
        self.done, self.total = done, total


class Checks:
    """The checks of a server, by data set."""

    def __init__(self) -> None:
        self._known: dict[DataSpec, Check] = {}
        self._lock = threading.Lock()

    def start(self, data: DataSpec, *, pixels: bool) -> Check:
        """Start the check of a data set and return it, or the one that is running."""
        data = data.source()
        with self._lock:
            known = self._known.pop(data, None)
            if known is not None and known.running:
                self._known[data] = known
                return known
            check = self._known[data] = Check(data, pixels)
            for key in [key for key, other in self._known.items() if not other.running]:
                if len(self._known) > MOST_CHECKS:
                    del self._known[key]
        threading.Thread(target=check.run, name="check", daemon=True).start()
        return check

    def latest(self, data: DataSpec) -> Check | None:
        """The latest check of a data set."""
        with self._lock:
            return self._known.get(data.source())


def panel(check: Check | None) -> Markup:
    """A check as HTML: the buttons that start one, its progress, or its report."""
    eta = check.seconds_left() if check is not None else None
    return render_macro("pages/data/check.html.j2", "panel", check=check, eta=eta)
