"""The main job in a real browser: launch, watch, refresh, restart, compare, inspect."""

from __future__ import annotations

from typing import Any

import psutil
import pytest

from tests.support.served import (
    PATIENCE,
    Explorer,
    keep,
    launch,
    leave,
    settle,
    wait_for_state,
    wait_until_drawn,
)

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def fill_form(page: Any, method: str, epochs: int) -> None:
    """On the Launch page: a method, one percent of the labels, a few epochs."""
    page.locator("#f-data-label-fraction").get_by_text("1%", exact=True).click()
    page.locator("#f-adapter-method").get_by_text(method, exact=True).click()
    page.locator("#f-train-epochs input").fill(str(epochs))
    page.locator("#f-train-epochs input").blur()
    page.wait_for_selector(f"#launch-command:has-text('--epochs {epochs}')")


def test_the_main_job_from_the_first_click_to_the_heat_map(
    explorer: Explorer, visitor: Any
) -> None:
    page = visitor
    # Launch: the consequence stands beside the form before anything starts.
    page.goto(explorer.url)
    fill_form(page, "LoRA", 3)
    cost = page.inner_text("#launch-cost")
    assert "Labelled images" in cost
    assert "parameters are trainable" in cost
    keep(page, "1-launch")
    launch(page)

    # Watch: the curve grows while the run works.
    wait_for_state(page, "running")
    page.wait_for_selector("#runs-detail .scatterlayer path", state="attached", timeout=PATIENCE)
    keep(page, "2-running")
    run = explorer.runs()[0]

    # A refresh changes nothing; nor does the end of the app, whose run goes on without it.
    page.reload()
    page.wait_for_selector(f"#runs-detail #run-{run['id']}", state="visible")
    explorer.kill()
    workers = [
        p for p in psutil.process_iter(["cmdline"]) if run["id"] in (p.info["cmdline"] or [])
    ]
    assert len(workers) == 1 or explorer.runs()[0]["state"] == "completed"
    leave(page)
    explorer.start()
    page.goto(f"{explorer.url}?run={run['id']}")
    wait_for_state(page, "completed")
    settle(page)
    keep(page, "3-completed")
    assert explorer.runs()[0]["test_auroc"] is not None

    # A second run to hold it against.
    page.get_by_role("tab", name="Launch").click()
    fill_form(page, "Linear probe", 3)
    launch(page)
    page.wait_for_selector("#runs-detail section:has-text('Linear')")
    wait_for_state(page, "completed")
    keep(page, "4-two-runs")

    # Compare: the verdict in words, findings side by side, the same radiograph under each.
    ids = [one["id"] for one in explorer.runs()]
    page.goto(f"{explorer.url}?compare={','.join(ids)}")
    page.wait_for_selector("#compare-body .cxr-verdict")
    assert "point" in page.inner_text("#compare-body .cxr-verdict")
    page.click("#compare-look")
    wait_until_drawn(page, "#compare-viewer canvas")
    settle(page)
    keep(page, "5-compare")

    # Saliency: a picture with its map, the probability and the caveat.
    page.goto(f"{explorer.url}?saliency={ids[-1]}")
    wait_until_drawn(page, "#saliency-viewer canvas")
    settle(page)
    keep(page, "6-saliency")
    assert "%" in page.inner_text("#saliency-below") or "0." in page.inner_text("#saliency-below")

    for number, name in ((7, "Data"), (8, "Paper")):
        page.get_by_role("tab", name=name, exact=True).click()
        settle(page, 1500)
        keep(page, f"{number}-{name.lower()}")
