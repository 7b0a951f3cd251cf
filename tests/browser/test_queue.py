"""A sweep in a real browser: queue it, reorder it, kill the app, come back, stop and resume."""

from __future__ import annotations

from typing import Any

import pytest

from core.runs import queue
from core.runs.store import RunState, Store, open_store
from core.workspace import open_workspace
from tests.browser.served import PATIENCE, Explorer, keep, leave

pytestmark = pytest.mark.browser


def waiting(store: Store) -> list[str]:
    runs = store.list(states=[RunState.QUEUED])
    return [run.id for run in sorted(runs, key=lambda run: run.turn)]


def test_a_sweep_is_queued_reordered_and_found_again(explorer: Explorer, visitor: Any) -> None:
    page = visitor
    page.goto(explorer.url)
    page.wait_for_selector("#launch-command", timeout=PATIENCE)
    page.locator("#f-sweep").get_by_text("Sweep: several").click()
    for method in ("LoRA", "Linear probe"):
        page.locator("#f-sweep-methods").get_by_text(method, exact=True).click()
    page.locator("#f-sweep-ranks textarea, #f-sweep-ranks input").first.fill("2, 4")
    page.locator("#f-repeats input").fill("3")
    page.locator("#f-repeats input").blur()
    page.wait_for_selector("#launch-button:has-text('Launch 9 runs')", timeout=PATIENCE)
    assert "9 runs, about" in page.inner_text("#f-sweep-sentence")
    keep(page, "queue-1-sweep")
    page.click("#launch-button")
    page.wait_for_selector("#runs-detail section", state="visible")

    store = open_store(open_workspace(explorer.workspace), create=False)
    try:
        assert len(store.list()) == 9
        last = waiting(store)[-1]
        page.goto(f"{explorer.url}?run={last}")
        page.click("#queue-place >> text=Move to the front")
        page.wait_for_selector("#queue-place:has-text('Number 1 of')")
        page.click("#queue-place >> text=Later")
        page.wait_for_selector("#queue-place:has-text('Number 2 of')")
        assert waiting(store)[1] == last
        keep(page, "queue-2-reordered")

        leave(page)
        explorer.kill()
        explorer.start()
        (active,) = store.list(states=[RunState.RUNNING, RunState.STARTING])
        assert active.attempts <= 1
        page.goto(f"{explorer.url}?run={active.id}")
        page.click("#runs-detail button[data-act=stop]")
        page.wait_for_selector("#runs-detail button[data-act=resume]:enabled", timeout=PATIENCE)
        assert store.get(active.id).state is RunState.STOPPED
        page.click("#runs-detail button[data-act=resume]")
        page.wait_for_selector("#queue-place", timeout=PATIENCE)
        assert waiting(store)[-1] == active.id
        keep(page, "queue-3-resumed")
    finally:
        for run in store.list(states=[RunState.QUEUED]):
            queue.stop(store, run.id)
        for run in store.list(states=queue.PENDING):
            queue.stop_now(store, run.id)
