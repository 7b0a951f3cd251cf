"""A run on real radiographs, started in the browser and followed to its heat map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.served import Explorer, keep, launch, settle, wait_for_state, wait_until_drawn

pytestmark = [pytest.mark.browser, pytest.mark.real, pytest.mark.slow]


def test_nih_from_the_form_to_the_heat_map(
    explorer: Explorer, visitor: Any, real_data: Path
) -> None:
    page = visitor
    page.goto(explorer.url)
    page.locator("#f-data-name input").click()
    page.get_by_role("option", name="NIH ChestX-ray14").click()
    page.locator("#f-data-root textarea, #f-data-root input").fill(
        str(real_data / "nih_chestxray14")
    )
    page.locator("#f-data-root textarea, #f-data-root input").blur()
    page.locator("#f-data-label-fraction").get_by_text("100%", exact=True).click()
    page.locator("#f-train-epochs input").fill("2")
    page.locator("#f-train-epochs input").blur()
    page.wait_for_selector("#launch-command:has-text('--epochs 2')")
    page.wait_for_selector("#launch-cost:has-text('Pneumonia')")
    keep(page, "nih-1-launch")
    launch(page)
    wait_for_state(page, "completed")
    settle(page)
    keep(page, "nih-2-completed")
    run = explorer.runs()[0]
    assert run["state"] == "completed"
    assert run["data"] == "nih"
    assert 0.3 < run["test_auroc"] < 0.95

    page.goto(f"{explorer.url}?saliency={run['id']}")
    wait_until_drawn(page, "#saliency-viewer canvas")
    settle(page)
    keep(page, "nih-3-saliency")
