"""Two methods are tuned from the Launch page; the app is killed meanwhile, and continues."""

from __future__ import annotations

from typing import Any

import pytest

from core.experiments.tune import study as studies
from core.experiments.tune.tune import Tuning
from core.runs import queue
from core.runs.run import RunState
from core.runs.store import open_store
from core.workspace import open_workspace
from tests.support.served import PATIENCE, Explorer, keep, leave

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def fill(page: Any) -> None:
    """One percent of the labels, two epochs; two methods with two trials each."""
    page.locator("#f-data-label-fraction").get_by_text("1%", exact=True).click()
    page.locator("#f-train-epochs input").fill("2")
    page.locator("#f-train-epochs input").blur()
    page.locator("#f-tune").get_by_text("Tune: several methods").click()
    for method in ("LoRA", "Linear probe"):
        page.locator("#f-tune-methods").get_by_text(method, exact=True).click()
    for field, text in (("trials", "2"), ("final-seeds", "2")):
        page.locator(f"#f-tune-{field} textarea, #f-tune-{field} input").first.fill(text)


def test_two_methods_are_tuned_while_the_page_is_closed(explorer: Explorer, visitor: Any) -> None:
    page = visitor
    page.goto(explorer.url)
    page.wait_for_selector("#launch-command", timeout=PATIENCE)
    fill(page)
    page.wait_for_selector("#tune-preview:has-text('8 runs')", timeout=PATIENCE)
    preview = page.inner_text("#tune-preview")
    assert "log scale" in preview
    assert "4 with the chosen settings and the seeds 1, 2" in preview
    page.wait_for_selector("#launch-cost .cxr-live:not([data-stale]) >> text=--epochs 2")
    keep(page, "tune-1-preview")
    page.click("[data-theme-label]")
    keep(page, "tune-1-preview-light")
    page.click("[data-theme-label]")
    page.locator("#f-tune-budget textarea, #f-tune-budget input").first.fill("soon")
    page.wait_for_selector("#f-tune-budget .cxr-beside", timeout=PATIENCE)
    keep(page, "tune-2-error")
    page.click("#tune-button")
    page.wait_for_selector("#f-tune-budget .cxr-beside:has-text('Both a number')")
    page.locator("#f-tune-budget textarea, #f-tune-budget input").first.fill("")
    page.wait_for_selector("#tune-preview:has-text('8 runs')", timeout=PATIENCE)
    page.click("#tune-button")
    page.wait_for_selector("#tuning", state="visible", timeout=PATIENCE)
    page.wait_for_selector("#runs-tunings .cxr-state:has-text('running')", timeout=PATIENCE)
    page.wait_for_selector(".cxr-runs tbody tr[data-run]", timeout=PATIENCE)
    keep(page, "tune-3-running")
    address = page.url
    assert "tuning=tune-" in address

    leave(page)
    explorer.kill()
    explorer.start()
    page.goto(address)
    page.wait_for_selector("#tuning", state="visible", timeout=PATIENCE)
    # Eight runs, one after the other, on a machine that may run other tests.
    page.wait_for_selector("#runs-tunings .cxr-state:has-text('completed')", timeout=3 * PATIENCE)
    page.wait_for_selector("#tuning .cxr-verdicts p", timeout=PATIENCE)
    page.reload()
    page.wait_for_selector("#tuning .cxr-verdicts p", timeout=PATIENCE)
    shown = page.inner_text("#tuning")
    assert "Chosen settings" in shown
    assert "LoRA r 4 (tuned, 2 trials)" in shown
    keep(page, "tune-4-result")
    page.click("[data-theme-label]")
    keep(page, "tune-5-result-light")

    workspace = open_workspace(explorer.workspace)
    store = open_store(workspace, create=False)
    (name,) = studies.stored_names(studies.open_storage(workspace))
    tuning = Tuning.stored(name, store, studies.open_storage(workspace))
    runs = store.list()
    assert {run.state for run in runs} == {RunState.COMPLETED}
    assert len(runs) == len({run.fingerprint for run in runs}) == 2 * (2 + 2)
    assert [len(method.study.trials()) for method in tuning.methods] == [2, 2]
    assert not store.list(states=queue.PENDING)
    page.click("#tuning button[data-act=tuning-compare]")
    page.wait_for_selector("#compare-body .cxr-panel", timeout=PATIENCE)
    assert "compare=" in page.url
