"""The main job in a real browser: launch, watch, refresh, restart, compare, inspect.

Nothing is put into the store by hand: ``python app.py`` serves, its queue starts the runs, and the
runs train. Screenshots of each step are kept in ``screenshots/`` (or in CXR_SCREENSHOTS).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parent.parent.parent
SCREENSHOTS = Path(os.environ.get("CXR_SCREENSHOTS", ROOT / "screenshots"))
PATIENCE = 240_000
"""Milliseconds a run may take on a busy machine."""


class Explorer:
    """``python app.py`` on a workspace, which can be killed and started again."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        options = ["--workspace", str(self.workspace), "--port", str(self.port), "--no-browser"]
        self.process = subprocess.Popen([sys.executable, str(ROOT / "app.py"), *options])
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(self.url, timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise AssertionError("the explorer does not answer")

    def kill(self) -> None:
        """As ``kill -9`` does: no farewell."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def runs(self) -> list[dict[str, Any]]:
        """What the command line says of the runs."""
        command = [sys.executable, "-m", "core", "runs", "--json", "--workspace", self.workspace]
        said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
        found: list[dict[str, Any]] = json.loads(said)
        return found


@pytest.fixture
def explorer(tmp_path: Path) -> Iterator[Explorer]:
    one = Explorer(tmp_path / "workspace")
    one.start()
    yield one
    one.kill()
    for process in psutil.process_iter(["cmdline"]):
        if str(one.workspace) in " ".join(process.info["cmdline"] or []):
            process.kill()


@pytest.fixture
def page(chromium: Any, explorer: Explorer) -> Iterator[Any]:
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(60_000)
    asked: list[str] = []
    faults: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda fault: faults.append(str(fault)))
    yield page
    page.close()
    assert not faults
    assert not [one for one in asked if not one.startswith((explorer.url, "data:", "blob:"))]


def keep(page: Any, name: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280, name


def fill_form(page: Any, method: str, epochs: int) -> None:
    """On the Launch page: a method, one percent of the labels, a few epochs."""
    page.locator("#f-data-label-fraction").get_by_text("1%", exact=True).click()
    page.locator("#f-adapter-method").get_by_text(method, exact=True).click()
    page.locator("#f-train-epochs input").fill(str(epochs))
    page.locator("#f-train-epochs input").blur()
    page.wait_for_selector(f"#launch-command:has-text('--epochs {epochs}')")


def launch(page: Any) -> None:
    page.click("#launch-button")
    page.wait_for_selector("#runs-detail section", state="visible")


def wait_for_state(page: Any, state: str) -> None:
    page.wait_for_selector(f"#runs-detail .cxr-state:has-text('{state}')", timeout=PATIENCE)


def test_the_main_job_from_the_first_click_to_the_heat_map(explorer: Explorer, page: Any) -> None:
    # Launch: the consequence stands beside the form before anything starts.
    page.goto(explorer.url)
    fill_form(page, "LoRA", 3)
    cost = page.inner_text("#launch-cost")
    assert "Labelled images" in cost
    assert "parameters train" in cost
    keep(page, "1-launch")
    launch(page)

    # Watch: the curve grows while the run works.
    wait_for_state(page, "running")
    page.wait_for_selector("#runs-detail .cxr-chart polyline", state="attached", timeout=PATIENCE)
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
    explorer.start()
    page.goto(f"{explorer.url}?run={run['id']}")
    wait_for_state(page, "completed")
    page.wait_for_timeout(1500)
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
    page.wait_for_selector("#compare-viewer canvas", timeout=PATIENCE)
    page.wait_for_timeout(3000)
    keep(page, "5-compare")

    # Saliency: a picture with its map, the probability and the caveat.
    page.goto(f"{explorer.url}?saliency={ids[-1]}")
    page.wait_for_selector("#saliency-viewer canvas", timeout=PATIENCE)
    page.wait_for_timeout(3000)
    keep(page, "6-saliency")
    assert "%" in page.inner_text("#saliency-below") or "0." in page.inner_text("#saliency-below")
    assert drawn(page, "#saliency-viewer canvas")

    for number, name in ((7, "Data"), (8, "Paper")):
        page.get_by_role("tab", name=name, exact=True).click()
        page.wait_for_timeout(4000)
        keep(page, f"{number}-{name.lower()}")


def drawn(page: Any, selector: str) -> bool:
    """Whether a canvas shows more than one colour."""
    script = """(canvas) => {
      const {width, height} = canvas;
      const data = canvas.getContext('2d').getImageData(0, 0, width, height).data;
      return new Set(new Uint32Array(data.buffer)).size;
    }"""
    return int(page.locator(selector).first.evaluate(script)) > 100
