"""``python app.py`` on a workspace of its own, and what people do with it in a browser.

Nothing is put into the store by hand: the explorer serves, its queue starts the runs, and the runs
train. Screenshots of each step are kept in ``screenshots/`` (or in CXR_SCREENSHOTS).
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
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT

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
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(self.url, timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                assert self.process.poll() is None, "the explorer ended before it answered"
                time.sleep(0.2)
        self.kill()
        raise AssertionError("the explorer does not answer")

    def kill(self) -> None:
        """As ``kill -9`` does: no farewell."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def runs(self) -> list[dict[str, Any]]:
        """What the command line says of the runs."""
        place = ["--workspace", str(self.workspace)]
        command = [sys.executable, "-m", "core", "runs", "--json", *place]
        said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
        found: list[dict[str, Any]] = json.loads(said)
        return found


def keep(page: Any, name: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280, name


def leave(page: Any) -> None:
    """Close what is shown: an open page would load itself again when the app comes back."""
    page.goto("about:blank")


def settle(page: Any, quiet: int = 500) -> None:
    """Wait until nothing in the page has changed for ``quiet`` milliseconds, 30 s at most."""
    page.evaluate(
        """(quiet) => new Promise((resolve, reject) => {
          const late = () => reject(new Error('the page does not come to rest'));
          const limit = setTimeout(late, 30000);
          let timer;
          const rest = () => { observer.disconnect(); clearTimeout(limit); resolve(); };
          const wait = () => { clearTimeout(timer); timer = setTimeout(rest, quiet); };
          const observer = new MutationObserver(wait);
          observer.observe(document, {
            subtree: true, childList: true, attributes: true, characterData: true,
          });
          wait();
        })""",
        quiet,
    )


def polls(page: Any, count: int = 2) -> None:
    """Wait until the page has asked for the store's version ``count`` more times."""
    for _ in range(count):
        with page.expect_response("**/api/version"):
            pass


def launch(page: Any) -> None:
    page.click("#launch-button")
    page.wait_for_selector("#runs-detail section", state="visible")


def wait_for_state(page: Any, state: str) -> None:
    page.wait_for_selector(f"#runs-detail .cxr-state:has-text('{state}')", timeout=PATIENCE)


def wait_until_drawn(page: Any, selector: str) -> None:
    """Wait until the first canvas of the selector shows a radiograph: more than 100 colours."""
    page.wait_for_function(
        """(selector) => {
          const canvas = document.querySelector(selector);
          if (!canvas || !canvas.width) return false;
          const {width, height} = canvas;
          const data = canvas.getContext('2d').getImageData(0, 0, width, height).data;
          return new Set(new Uint32Array(data.buffer)).size > 100;
        }""",
        arg=selector,
        timeout=PATIENCE,
    )
