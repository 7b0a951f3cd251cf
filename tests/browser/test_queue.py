"""Ten runs in a real browser: queue and reorder them, close the lid, come back to a new app.

Everything is as it was left; then one is stopped and resumed.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import psutil
import pytest

from core.runs import queue
from core.runs.run import RunState
from core.runs.store import Store, open_store
from core.workspace import open_workspace
from tests.support.served import PATIENCE, Explorer, keep, leave

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def waiting(store: Store) -> list[str]:
    runs = store.list(states=[RunState.QUEUED])
    return [run.id for run in sorted(runs, key=lambda run: run.queue_key)]


def close_the_lid(explorer: Explorer, store: Store) -> None:
    """Let nothing of it get any time for a while, as a laptop that sleeps does."""
    (active,) = store.list(states=[RunState.STARTING, RunState.RUNNING])
    asleep = [explorer.process.pid if explorer.process else None, active.pid]
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in asleep:
            if pid is not None and psutil.pid_exists(pid):
                os.kill(pid, number)
        time.sleep(3.0)
    assert [run.state for run in store.list(states=[RunState.LOST, RunState.FAILED])] == []


def test_ten_runs_are_queued_reordered_and_found_again(explorer: Explorer, visitor: Any) -> None:
    page = visitor
    page.goto(explorer.url)
    page.wait_for_selector("#launch-command", timeout=PATIENCE)
    page.locator("#f-sweep").get_by_text("Sweep: several").click()
    for method in ("LoRA", "Linear probe"):
        page.locator("#f-sweep-methods").get_by_text(method, exact=True).click()
    page.locator("#f-repeats input").fill("5")
    page.locator("#f-repeats input").blur()
    page.wait_for_selector("#launch-button:has-text('Launch 10 runs')", timeout=PATIENCE)
    assert "10 runs, about" in page.inner_text("#f-sweep-sentence")
    keep(page, "queue-1-sweep")
    page.click("#launch-button")
    page.wait_for_selector("#runs-detail section", state="visible")

    store = open_store(open_workspace(explorer.workspace), create=False)
    try:
        assert len(store.list()) == 10
        last = waiting(store)[-1]
        page.goto(f"{explorer.url}?run={last}")
        page.click("#queue-place >> text=Move to the front")
        page.wait_for_selector("#queue-place:has-text('Number 1 of')")
        page.click("#queue-place >> text=Later")
        page.wait_for_selector("#queue-place:has-text('Number 2 of')")
        assert waiting(store)[1] == last
        keep(page, "queue-2-reordered")

        leave(page)
        order = waiting(store)
        close_the_lid(explorer, store)
        explorer.kill()
        (active,) = store.list(states=[RunState.STARTING, RunState.RUNNING])
        before = store.count_metrics(active.id)
        explorer.start()
        page.goto(f"{explorer.url}?run={active.id}")
        page.wait_for_selector("#runs-detail section", timeout=PATIENCE)
        shown = page.locator(".cxr-runs tbody tr").evaluate_all("rows => rows.map(r => r.id)")
        assert shown == [f"row-{run.id}" for run in store.list()]
        left = waiting(store)
        assert left == order[len(order) - len(left) :]
        assert all(run.attempts <= 1 for run in store.list())
        assert store.count_metrics(active.id) >= before
        assert store.get(active.id).state in queue.PENDING
        keep(page, "queue-3-back")
        page.click("#runs-detail button[data-act=stop]")
        page.wait_for_selector("#runs-detail button[data-act=resume]:enabled", timeout=PATIENCE)
        assert store.get(active.id).state is RunState.STOPPED
        page.click("#runs-detail button[data-act=resume]")
        page.wait_for_selector("#queue-place", timeout=PATIENCE)
        assert waiting(store)[-1] == active.id
        keep(page, "queue-4-resumed")
    finally:
        for run in store.list(states=[RunState.QUEUED]):
            queue.stop(store, run.id)
        for run in store.list(states=queue.PENDING):
            queue.stop_now(store, run.id)
