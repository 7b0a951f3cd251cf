"""A finished run is exported in a real browser, and the file it downloads holds the export."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.config.run import RunSpec
from core.runs import queue, worker
from core.runs.store import Store, open_store
from core.training.loop import fine_tune
from core.workspace import open_workspace
from explorer import app
from tests.core.conftest import radiographs

pytestmark = [pytest.mark.browser, pytest.mark.slow]
__all__ = ["radiographs"]
PATIENCE = 180_000


@pytest.fixture
def served(radiographs: Path, tmp_path: Path) -> Iterator[tuple[str, Store]]:
    """The explorer on two finished runs of a second, by LoRA and by BitFit."""
    workspace = open_workspace(tmp_path / "workspace")
    store = open_store(workspace, create=True)
    for method in ("bitfit", "lora"):
        fields = {
            "data.name": "folder", "data.root": radiographs, "data.label_fraction": 1.0,
            "model.backbone": "timm:test_vit", "model.pretrained": False, "model.input_size": 64,
            "train.epochs": 1, "train.device": "cpu", "adapter.method": method,
        }  # fmt: skip
        run = queue.claim_here(store, RunSpec.of(**fields), name=method)
        worker.work(store, workspace, run.id, lambda *asked: fine_tune(*asked[:4]))
    blocks = app.build(workspace)
    url = app.show(blocks, host="127.0.0.1", port=app.free_port("127.0.0.1", 7980))
    yield url, store
    blocks.close(verbose=False)


def choose(page: Any, words: str) -> None:
    page.click("#runs-detail .cxr-menu summary")
    page.click(f"#runs-detail .cxr-menu button:has-text('{words}')")


def test_a_finished_run_is_exported_and_downloaded(
    chromium: Any, served: tuple[str, Store], tmp_path: Path
) -> None:
    url, store = served
    page = chromium.new_page(viewport={"width": 1280, "height": 800})
    faults: list[str] = []
    page.on("pageerror", lambda fault: faults.append(str(fault)))
    run = store.get("lora")
    page.goto(f"{url}?run={run.id}")
    page.wait_for_selector("#runs-detail h2:has-text('lora')")
    choose(page, "peft adapter")
    page.wait_for_selector("#runs-export-answer:has-text('Exporting lora as peft adapter')")
    assert not page.locator("#runs-detail .cxr-menu").evaluate("menu => menu.open")
    # The page goes on while another process works.
    page.click("#runs-list tr:has-text('bitfit')")
    page.wait_for_selector("#runs-detail h2:has-text('bitfit')")
    page.wait_for_selector("#runs-export-answer:has-text('its logits')", timeout=PATIENCE)
    with page.expect_download(timeout=PATIENCE) as waiting:
        page.click("#runs-export-file")
    assert waiting.value.suggested_filename == f"{run.id}-peft.zip"
    waiting.value.save_as(tmp_path / "export.zip")
    with zipfile.ZipFile(tmp_path / "export.zip") as archive:
        assert f"{run.id}-peft/adapter_model.safetensors" in archive.namelist()

    choose(page, "peft adapter")
    page.wait_for_selector("#runs-export-answer [role=alert]", timeout=PATIENCE)
    assert "has no adapter that peft supports" in page.inner_text("#runs-export-answer")
    assert not page.locator("#runs-export-file").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert not faults
    page.close()
