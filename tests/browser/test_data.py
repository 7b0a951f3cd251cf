"""The Data page in a browser: a folder gets a name, is checked, and trains by its name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core.runs.store import open_store
from core.workspace import open_workspace
from tests.support.served import Explorer, keep

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def own(root: Path) -> Path:
    root.mkdir()
    rows = ["Bild,Wer,Teil,Plate"]
    for i in range(30):
        noise = np.random.default_rng(i).integers(0, 256, (12, 12)).astype(np.uint8)
        Image.fromarray(noise).resize((160, 160)).save(root / f"{i:02d}.png")
        rows.append(f"{i:02d}.png,P{i},{('train', 'val', 'test')[i % 3]},{i // 3 % 2}")
    (root / "05.png").write_text("no picture")
    (root / "labels.csv").write_text("\n".join(rows))
    return root


def test_a_folder_is_named_checked_and_launched(
    visitor: Any, explorer: Explorer, tmp_path: Path
) -> None:
    root = own(tmp_path / "own")
    visitor.goto(f"{explorer.url}?tab=data")
    visitor.wait_for_selector("#data-about .cxr-figures")
    visitor.click("#data-register > button")

    def typed(**fields: str) -> None:
        for key, value in fields.items():
            visitor.fill(f"#named-{key} :is(input, textarea)", value)

    typed(name="nih", root=str(root), path="Bild")
    visitor.click("#named-register")
    visitor.wait_for_selector("#named-name .cxr-fault")
    typed(name="ward")
    visitor.click("#named-register")
    visitor.wait_for_selector("#named-list tr[data-key=ward]")
    visitor.wait_for_function("document.querySelector('#data-name input').value === 'ward'")
    visitor.wait_for_selector("#data-about dd:text-is('30')")
    keep(visitor, "data-registered")

    visitor.click("#data-check [data-act=pictures]")
    visitor.wait_for_selector("#data-check .cxr-faults")
    said = visitor.inner_text("#data-check")
    assert "1 error" in said
    assert "05.png" in said
    keep(visitor, "data-checked")
    # The report belongs to the server: another visit finds it.
    visitor.goto(f"{explorer.url}?tab=data")
    visitor.wait_for_selector("#data-about .cxr-figures")
    visitor.click("#data-name input")
    visitor.click("[role=option]:has-text('ward')")
    visitor.wait_for_selector("#data-check .cxr-faults")
    for width in (1280, 1024):
        visitor.set_viewport_size({"width": width, "height": 800})
        assert visitor.evaluate("document.documentElement.scrollWidth <= innerWidth")

    visitor.click("button[role=tab]:has-text('Launch')")
    visitor.click("#f-data-name input")
    visitor.click("[role=option]:has-text('ward')")
    visitor.wait_for_selector("#launch-cost :text('--called ward')")
    visitor.click("#launch-button")
    visitor.wait_for_url(re.compile("run="))
    (run,) = open_store(open_workspace(explorer.workspace), create=False).list()
    assert (run.spec.data.name, run.spec.data.root) == ("folder", root)
    assert run.spec.data.called == "ward"
