"""Curves as a page draws them: read once, then only what is new, and thinned."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from core.runs.metrics import Metrics
from core.runs.run import MetricRow, Run

POINTS = 500
KEPT_RUNS = 64


@dataclass
class _Seen:
    """What is known of one run's curves."""

    rewinds: int
    last: int = -1
    series: dict[str, list[MetricRow]] = field(default_factory=dict)
    shown: dict[str, list[MetricRow]] = field(default_factory=dict)


class Curves:
    """The curves of the runs that are looked at; may be used by many threads.

    Args:
        store: Where they are.
        points: At most so many are given of each series.
    """

    def __init__(self, store: Metrics, points: int = POINTS) -> None:
        self._store = store
        self._points = points
        self._known: OrderedDict[str, _Seen] = OrderedDict()
        self._lock = threading.Lock()

    def rows(self, run: Run) -> list[MetricRow]:
        """A run's metrics, one series after the other, each in its order and thinned.

        The first and last point of a series stay, and the highest and lowest of each stretch.
        """
        with self._lock:
            seen = self._known.pop(run.id, None)
            if seen is None or seen.rewinds != run.rewinds:
                seen = _Seen(run.rewinds)
            changed = set()
            for row in self._store.metrics(run.id, after=seen.last):
                seen.series.setdefault(row.name, []).append(row)
                seen.last = row.row
                changed.add(row.name)
            for name in changed:
                series = seen.series[name]
                seen.shown[name] = thinned(series, self._points)
                if len(series) > 2 * self._points:
                    seen.series[name] = seen.shown[name]
            self._known[run.id] = seen
            while len(self._known) > KEPT_RUNS:
                self._known.popitem(last=False)
            return [row for series in seen.shown.values() for row in series]


def thinned(series: Sequence[MetricRow], points: int) -> list[MetricRow]:
    """At most ``points`` of a series: its ends, and the extremes of equal stretches between."""
    if len(series) <= points:
        return list(series)
    inner, stretches = series[1:-1], max(1, (points - 2) // 2)
    kept = [series[0]]
    for i in range(stretches):
        part = inner[i * len(inner) // stretches : (i + 1) * len(inner) // stretches]
        low, high = min(part, key=_value), max(part, key=_value)
        kept += sorted({low.row: low, high.row: high}.values(), key=lambda row: row.row)
    return [*kept, series[-1]]


def _value(row: MetricRow) -> float:
    return row.value if row.value == row.value else float("-inf")
