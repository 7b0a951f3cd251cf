"""What a run reports reaches the store in few transactions, and in time for a checkpoint."""

import time
from typing import Any

from core.errors import Stopped
from core.reporter import Reporter
from core.runs import store_reporter
from core.runs.run import RunState
from core.runs.store import Store
from tests.support.runs import Noting


def test_values_are_written_a_validation_at_a_time(do: Any, store: Store) -> None:
    versions = []

    def steps(report: Reporter) -> dict[str, Any]:
        report.progress(0.1, None, "training")
        versions.append(store.version())
        for i in range(500):
            report.metric("train/loss", 0.1, epoch=1, step=i)
            report.progress(i / 500, None, "training")
        for finding in "ABC":
            report.metric(f"val/auroc/{finding}", 0.6, epoch=1, step=500)
        report.metric("val/auroc", 0.6, epoch=1, step=500)
        versions.append(store.version())
        return {}

    run, _ = do(steps)
    assert store.count_metrics(run.id) == 504
    assert versions[1] - versions[0] <= 3


def test_the_observer_may_stop_the_run(do: Any) -> None:
    observer = Noting()

    def steps(report: Reporter) -> dict[str, Any]:
        assert not report.stop_requested()
        observer.asks = True
        time.sleep(store_reporter.STOP_CHECK_SECONDS + 0.05)
        assert report.stop_requested()
        raise Stopped

    run, code = do(steps, observer)
    assert code == 0
    assert run.state is RunState.STOPPED
    assert run.stop_requested


def test_rewinding_forgets_the_later_best(do: Any, store: Store) -> None:
    def steps(report: Reporter) -> dict[str, Any]:
        for epoch, value in enumerate((0.6, 0.5, 0.9)):
            report.metric("val/auroc", value, epoch=epoch, step=epoch)
        report.rewind(2)
        raise Stopped

    run, _ = do(steps)
    assert store.count_metrics(run.id) == 2
    assert (run.best_auroc, run.last_auroc) == (0.6, 0.5)


def test_what_a_checkpoint_counts_is_in_the_store(do: Any, store: Store) -> None:
    counted = []

    def steps(report: Reporter) -> dict[str, Any]:
        for step in range(7):
            report.metric("train/loss", 1.0, epoch=0, step=step)
        report.secure()
        counted.append(store.count_metrics(store.list()[0].id))
        report.secure()
        return {}

    do(steps)
    assert counted == [7]
