import math

import pytest

from core.config.run import RunSpec
from core.runs.curves import Curves, thin
from core.runs.run import MetricRow
from core.runs.store import Store


def line(count: int) -> list[MetricRow]:
    return [MetricRow("train/loss", 1 / (i + 1), i, i, i) for i in range(count)]


@pytest.mark.parametrize("count", [0, 1, 10, 11, 12, 25, 1003])
def test_a_thinned_curve_keeps_its_ends_and_extremes(count: int) -> None:
    rows = line(count)
    if count > 20:
        rows[15] = MetricRow("train/loss", 9.0, 15, 15, 15)
        rows[17] = MetricRow("train/loss", -9.0, 17, 17, 17)
    kept = thin(rows, 10)
    assert len(kept) == min(count, len(kept), 10)
    assert [row.row for row in kept] == sorted({row.row for row in kept})
    if rows:
        assert (kept[0], kept[-1]) == (rows[0], rows[-1])
        values = [row.value for row in rows]
        assert {min(values), max(values)} <= {row.value for row in kept}


def test_a_value_that_is_no_number_is_no_extreme() -> None:
    rows = line(100)
    rows[50] = MetricRow("train/loss", math.nan, 50, 50, 50)
    assert thin(rows, 10)


def test_only_what_is_new_is_read_and_what_was_rewound_is_forgotten(store: Store) -> None:
    run = store.create(RunSpec())
    curves = Curves(store, points=10)
    asked: list[int] = []

    class Counting:
        def metrics(self, run_id: str, after: int = -1) -> list[MetricRow]:
            asked.append(after)
            return store.metrics(run_id, after=after)

    curves._store = Counting()  # type: ignore[assignment]
    store.log_metrics(run.id, [("train/loss", float(i), i, i) for i in range(6)])
    assert [row.step for row in curves.rows(run)] == [0, 1, 2, 3, 4, 5]
    store.log_metrics(run.id, [("val/auroc", 0.5, 6, 6), ("train/loss", 6.0, 6, 6)])
    assert len(curves.rows(run)) == 8
    store.truncate_metrics(run.id, 2)
    store.log_metrics(run.id, [("train/loss", float(-i), i, i) for i in range(2, 12)])
    again = curves.rows(store.get(run.id))
    assert [row.value for row in again][:3] == [0, 1, -2]
    assert again[-1].value == -11
    assert asked == [-1, 5, -1]
    store.log_metrics(run.id, [("train/loss", 1.0, i, i) for i in range(12, 500)])
    assert len(curves.rows(store.get(run.id))) <= 10
