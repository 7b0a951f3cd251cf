"""How fast the Runs page's queries are: ``python -m tests.benchmarks.store [--runs N] [--rows N]``.

Makes a store of 10,000 runs with 500 metric rows each in a temporary folder, which takes minutes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable

from core.config.run import RunSpec
from core.runs import schema
from core.runs.curves import Curves
from core.runs.run import RunState
from core.runs.store import Store, open_store
from core.workspace import open_workspace

SHOWN = 300
"""Rows of the Runs page's table."""
LIVE_ROWS = 50_000
NAMES = ("train/loss", "train/lr", "val/loss", "val/auroc", *(f"val/auroc/{i}" for i in range(14)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=500)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        workspace = open_workspace(place)
        store = open_store(workspace, create=True)
        began = time.perf_counter()
        fill(store, given.runs, given.rows)
        live = store.create(RunSpec(), name="live")
        values = [(NAMES[i % len(NAMES)], 1 / (i + 1), i / 100, i) for i in range(LIVE_ROWS)]
        store.log_metrics(live.id, values)
        store.close()
        size = workspace.store.stat().st_size / 1e6
        rows = given.runs * given.rows + LIVE_ROWS
        print(f"made {given.runs + 1:,} runs, {rows:,} metric rows, {size:,.0f} MB "
              f"in {time.perf_counter() - began:.0f} s")  # fmt: skip
        store = open_store(workspace, create=False)
        shown = store.list(limit=SHOWN)
        told("the newest 300 runs", lambda: store.list(limit=SHOWN))
        ids = [run.id for run in shown]
        told("their validation curves", lambda: store.curves(ids, "val/auroc"))
        told("the number of changes", store.version)
        told("what starts next", lambda: store.claim_next({"cpu": 0}))
        ordinary = store.metrics(ids[1])
        told(f"all {len(ordinary):,} rows of one run", lambda: store.metrics(ids[1]))
        curves = Curves(store)
        run = store.get(live.id)
        began = time.perf_counter()
        thinned = curves.rows(run)
        first = 1000 * (time.perf_counter() - began)
        print(f"{'a run of ' + format(LIVE_ROWS, ',') + ' rows, seen first':40} {first:8.1f} ms, "
              f"{len(thinned):,} points")  # fmt: skip

        def follow() -> None:
            store.log_metrics(live.id, [("train/loss", 0.5, 1.0, 1)])
            curves.rows(run)

        told("the same with a new row, written too", follow)


def fill(store: Store, runs: int, rows: int) -> None:
    """Make runs that are completed, but every twentieth, which waits."""
    first, table = store.create(RunSpec()), schema.runs
    with store._database.write() as connection:
        row = connection.execute(table.select().where(table.c.id == first.id)).one()
        base = dict(row._mapping)
        for start in range(1, runs, 1000):
            numbers = range(start + 1, min(start + 1000, runs) + 1)
            connection.execute(schema.runs.insert(), [
                base | {"number": n, "id": f"{n:08x}", "name": f"{first.name} {n}", "place": n,
                        "state": RunState.QUEUED if n % 20 == 0 else RunState.COMPLETED,
                        "best_auroc": 0.7, "scores": {"test": {"auroc": 0.7, "per_finding": {}}},
                        "attempts": 1, "finished_at": base["created_at"]}
                for n in numbers
            ])  # fmt: skip
    for start in range(1, runs + 1, 100):
        with store._database.write() as connection:
            connection.execute(schema.metrics.insert(), [
                {"run": n, "row": row, "name": NAMES[row % len(NAMES)], "value": 1 / (row + 1),
                 "epoch": row / len(NAMES), "step": row}
                for n in range(start, min(start + 100, runs + 1)) for row in range(rows)
            ])  # fmt: skip


def told(what: str, call: Callable[[], object], times: int = 20) -> None:
    """Print the median and the range of some calls."""
    spent = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        spent.append(1000 * (time.perf_counter() - began))
    print(f"{what:40} {statistics.median(spent):8.1f} ms, {min(spent):.1f} to {max(spent):.1f} ms")


if __name__ == "__main__":
    main()
