"""Cache of the curves that pages draw: reads only new rows of the store, and thins them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from core.runs.metrics import MetricStore
from core.runs.run import MetricRow, Run

MAX_POINTS = 500
MAX_CACHED_RUNS = 64


@dataclass
class _RunCurves:
    """Cached curves of one run."""

    rewinds: int
    last: int = -1
    series: dict[str, list[MetricRow]] = field(default_factory=dict)
    thinned: dict[str, list[MetricRow]] = field(default_factory=dict)


class Curves:
    """Curves of the runs that are displayed; may be used by many threads.

    Args:
        store: The store.
        points: Maximum number of points of each series.
    """

    def __init__(self, store: MetricStore, points: int = MAX_POINTS) -> None:
        self._store = store
        self._points = points
        self._cached: OrderedDict[str, _RunCurves] = OrderedDict()
        self._lock = threading.Lock()

    def rows(self, run: Run) -> list[MetricRow]:
        """Metrics of a run, one series after the other, each in its order and thinned.

        The first and last point of a series are kept, and the highest and lowest of each part.
        """
        with self._lock:
            curves = self._cached.pop(run.id, None)
            if curves is None or curves.rewinds != run.rewinds:
                curves = _RunCurves(run.rewinds)
            changed = set()
            for row in self._store.metrics(run.id, after=curves.last):
                curves.series.setdefault(row.name, []).append(row)
                curves.last = row.row
                changed.add(row.name)
            for name in changed:
                series = curves.series[name]
                curves.thinned[name] = thin(series, self._points)
                if len(series) > 2 * self._points:
                    curves.series[name] = curves.thinned[name]
            self._cached[run.id] = curves
            while len(self._cached) > MAX_CACHED_RUNS:
                self._cached.popitem(last=False)
            return [row for series in curves.thinned.values() for row in series]


def thin(series: Sequence[MetricRow], points: int) -> list[MetricRow]:
    """Reduce a series to at most ``points``: its ends, and the extremes of equal parts between."""
    if len(series) <= points:
        return list(series)
    inner, parts = series[1:-1], max(1, (points - 2) // 2)
    kept = [series[0]]
    for i in range(parts):
        part = inner[i * len(inner) // parts : (i + 1) * len(inner) // parts]
        low, high = min(part, key=_value), max(part, key=_value)
        kept += sorted({low.row: low, high.row: high}.values(), key=lambda row: row.row)
    return [*kept, series[-1]]


def _value(row: MetricRow) -> float:
    return row.value if row.value == row.value else float("-inf")
