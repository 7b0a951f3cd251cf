"""Checks of whole data sets: carried out beside the pages, told as they go on.

A check belongs to the server, not to a browser: closing the page leaves it running, and whoever
opens the data set again sees how far it is, or what it found. One runs at a time.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from html import escape

from core import formatting
from core.config.run import DataSpec
from core.data.checks import check as checks
from core.data.checks.report import Report
from core.data.datasets.registry import open_data
from core.data.problems import Problem
from core.errors import CoreError
from explorer.templates import error_message

KEPT = 32
"""Checks that are remembered, the latest."""

_turn = threading.Lock()


@dataclass
class Check:
    """One check of a data set.

    Attributes:
        data: What is checked.
        pixels: Whether every picture is decoded.
        done: Pictures decoded so far.
        total: Pictures there are; 0 before that is known.
        report: What was found, at the end.
        fault: Why there is no report.
        started: When it began to work, on the monotonic clock; None while it waits its turn.
    """

    data: DataSpec
    pixels: bool
    done: int = 0
    total: int = 0
    report: Report | None = None
    fault: CoreError | None = None
    started: float | None = None
    _stop: threading.Event = field(default_factory=threading.Event)

    @property
    def running(self) -> bool:
        """Whether it waits or works still."""
        return self.report is None and self.fault is None

    def stop(self) -> None:
        """Ask it to stop; what is known by then is reported."""
        self._stop.set()

    def work(self) -> None:
        """Carry it out, once those before it have ended."""
        with _turn:
            self.started = time.monotonic()
            try:
                self.report = checks.check(
                    lambda: open_data(self.data),
                    pixels=self.pixels and not self._stop.is_set(),
                    progress=self._tell,
                    should_stop=self._stop.is_set,
                )
            except CoreError as error:
                self.fault = error
            except Exception as error:  # a page must not wait for ever
                words = f"{type(error).__name__}: {error}".splitlines()[0]
                self.fault = CoreError(f"The check broke off ({words}).", "Report this, please.")

    def _tell(self, done: int, total: int) -> None:
        self.done, self.total = done, total


class Checks:
    """The checks of a server, by data set."""

    def __init__(self) -> None:
        self._known: dict[DataSpec, Check] = {}
        self._lock = threading.Lock()

    def start(self, data: DataSpec, *, pixels: bool) -> Check:
        """Begin to check a data set; one that is being checked goes on."""
        data = data.source()
        with self._lock:
            known = self._known.pop(data, None)
            if known is not None and known.running:
                self._known[data] = known
                return known
            check = self._known[data] = Check(data, pixels)
            for other in [key for key, one in self._known.items() if not one.running]:
                if len(self._known) > KEPT:
                    del self._known[other]
        threading.Thread(target=check.work, name="check", daemon=True).start()
        return check

    def of(self, data: DataSpec) -> Check | None:
        """The latest check of a data set."""
        with self._lock:
            return self._known.get(data.source())


def panel(check: Check | None) -> str:
    """HTML of a check: how to begin one, how far it is, or what it found."""
    if check is None:
        body = (
            '<p class="cxr-muted cxr-small">Missing and spare files, unreadable and odd pictures, '
            "copies across splits, contradicting labels, patients in two splits, boxes beyond the "
            "edge, findings without positives: all at once.</p>"
        )
    elif check.running:
        body = _progress(check)
    elif check.fault is not None:
        body = error_message(check.fault)
    else:
        assert check.report is not None
        body = _report(check.report)
    return (
        '<section class="cxr-panel cxr-check" aria-label="Check"><div class="cxr-headline">'
        f'<h3>Check</h3><div class="cxr-row">{_buttons(check)}</div></div>{body}</section>'
    )


def _buttons(check: Check | None) -> str:
    if check is not None and check.running:
        return (
            '<button type="button" class="cxr-button cxr-button-bad" data-act="stop">Stop</button>'
        )
    again = "" if check is None else " again"
    return (
        '<button type="button" class="cxr-button" data-act="lists" title="Decodes no picture: '
        f'takes seconds">Check lists and files{again}</button>'
        '<button type="button" class="cxr-button" data-act="pictures" title="Decodes every picture '
        f'once">Check every picture{again}</button>'
    )


def _progress(check: Check) -> str:
    if check.started is None:
        return '<p role="status">Waits for another check to end.</p>'
    spent = time.monotonic() - check.started
    if not check.total:
        return '<p role="status">Reading lists, labels and the folder …</p>'
    left = ""
    if check.done:
        seconds = spent / check.done * (check.total - check.done)
        left = f", about {formatting.duration(seconds)} left"
    words = f"{check.done:,} of {check.total:,} pictures decoded{left}"
    return (
        f'<div class="cxr-bar" role="img" aria-label="{escape(words)}">'
        f'<i style="width:{100 * check.done / check.total:.1f}%"></i></div>'
        f'<p class="cxr-small" role="status">{escape(words)}. It goes on when this page is '
        "closed.</p>"
    )


def _report(report: Report) -> str:
    words = report.verdict()
    if not report.problems:
        return f'<p role="status"><span class="cxr-dot-good">●</span> {escape(words)}</p>'
    dot = "bad" if report.errors else "warn"
    rows = "".join(_fault(one) for one in sorted(report.problems, key=lambda one: not one.error))
    return (
        f'<p role="status"><span class="cxr-dot-{dot}">●</span> {escape(words)}</p>'
        f'<ul class="cxr-faults">{rows}</ul>'
    )


def _fault(fault: Problem) -> str:
    kind, dot = ("Error", "bad") if fault.error else ("Warning", "warn")
    named = "".join(f"<li><code>{escape(one)}</code></li>" for one in fault.examples)
    more = fault.count - len(fault.examples)
    if fault.examples and more > 0:
        named += f'<li class="cxr-muted">and {more:,} more</li>'
    listed = f"<ul>{named}</ul>" if named else ""
    remedy = f'<p class="cxr-muted">{escape(fault.remedy)}</p>' if fault.remedy else ""
    return (
        f'<li data-key="{escape(fault.kind + str(fault.error) + fault.cause[:40])}">'
        f'<p><b class="cxr-dot-{dot}">{kind}</b> <b>{escape(fault.kind)}</b> '
        f'<span class="cxr-num cxr-muted">{fault.count:,}</span></p>'
        f"<p>{escape(fault.cause)}</p>{listed}{remedy}</li>"
    )
