"""What a user waits for, on this machine, with nothing else running.

Run with ``python -m tests.benchmarks.explorer``; it takes about six minutes. The aims on two cores
are: a served page in 10 s, the default run in 90 s with its first AUROC after 15 s, saliency in 5 s
cold and 1 s warm, and 50 phantoms a second.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.support import chromium
from tests.support.paths import ROOT

PORT = 7985
READING = 10.0
"""Seconds in which one looks at the form before the first click."""


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call, in seconds."""
    start = time.perf_counter()
    work()
    return round(time.perf_counter() - start, 2)


@contextmanager
def app(workspace: Path) -> Iterator[float]:
    """``python app.py``; gives the time until its page is served, in seconds."""
    start = time.perf_counter()
    options = ["--workspace", str(workspace), "--port", str(PORT), "--no-browser"]
    process = subprocess.Popen([sys.executable, str(ROOT / "app.py"), *options])
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/", timeout=5).close()
            break
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    yield round(time.perf_counter() - start, 2)
    process.kill()
    process.wait()


def phantoms() -> float:
    """Phantoms drawn a second by all cores, through the cache."""
    from core.data.cache.image_cache import ImageCache
    from core.data.phantoms.dataset import Phantom

    dataset = Phantom("phantom-14", seed=77, train=1000, val=1, test=1)
    with tempfile.TemporaryDirectory() as folder:
        ids = dataset.ids("train")
        return round(1000 / seconds(lambda: ImageCache(Path(folder), dataset, 256).ensure(ids)), 1)


def default_run(workspace: Path, reading: float = 0.0) -> dict[str, Any]:
    """Open the page, click Launch, and time what becomes of the run.

    Args:
        workspace: Of the explorer that is served.
        reading: Seconds that somebody looks at the form before the click.
    """
    from core.runs import queue
    from core.runs.store import open_store
    from core.workspace import open_workspace

    store, first = open_store(open_workspace(workspace), create=False), None
    with chromium.launched() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        opened = time.perf_counter()
        page.goto(f"http://127.0.0.1:{PORT}/?tab=launch")
        page.wait_for_selector("#launch-cost dl")
        told = time.perf_counter()
        page.wait_for_timeout(1000 * reading)
        page.click("#launch-button")
        clicked = time.perf_counter()
        page.wait_for_selector("#runs-detail section", state="visible", timeout=60_000)
        run = store.list()[0]
        while (run := store.get(run.id)).state in queue.PENDING:
            if first is None and run.best_auroc is not None:
                first = round(time.perf_counter() - clicked, 1)
            time.sleep(0.1)
    assert run.scores is not None, run.failure_reason
    return {
        "id": run.id,
        "cost told after, s": round(told - opened, 1),
        "clicked after, s": round(clicked - opened, 1),
        "first AUROC, s": first,
        "whole run, s": round(time.perf_counter() - clicked, 1),
        "test AUROC": round(run.scores["test"]["auroc"], 4),
    }


def saliency(workspace: Path, run: str) -> dict[str, float]:
    """Time of a map from a new process, of the next one with the model at hand, and of the verb."""
    program = (
        "import sys, time; start = time.perf_counter();"
        "from core.startup import relax_garbage_collection; relax_garbage_collection();"
        "from pathlib import Path; from core.saliency.request import explain_run, explain_study_of;"
        "from core.data.datasets.registry import open_dataset;"
        "from core.classifier.trained import load_trained;"
        "folder = Path(sys.argv[1]); data = open_dataset('phantom-14');"
        "one, two = data.ids('test')[:2];"
        "explain_run(folder, 'Effusion', study=one); cold = time.perf_counter() - start;"
        "model = load_trained(folder); start = time.perf_counter();"
        "explain_study_of(model, data, two, 'Effusion', 'grad-cam');"
        "print(cold, time.perf_counter() - start)"
    )
    command = [sys.executable, "-c", program, str(workspace / "runs" / run)]
    said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    cold, warm = map(float, said.split())
    verb = [sys.executable, "-m", "core", "explain", run, "--workspace", str(workspace)]
    verb += ["--study", "900001-1", "--finding", "Effusion", "--out", str(workspace / "map.png")]
    whole = seconds(lambda: subprocess.run(verb, check=True, capture_output=True, cwd=ROOT))
    return {
        "map in a new process, s": round(cold, 2),
        "map with the model at hand, s": round(warm, 2),
        "core explain, from Enter to the prompt, s": whole,
    }


def saliency_page(workspace: Path, run: str) -> float:
    """Seconds from the click on the Saliency tab to its first map, in an explorer just started."""
    with app(workspace), chromium.launched() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(60_000)
        page.goto(f"http://127.0.0.1:{PORT}/?run={run}")
        page.wait_for_selector(f"#runs-detail #run-{run}")
        page.wait_for_timeout(3000)

        def look() -> None:
            page.get_by_role("tab", name="Saliency").click()
            page.locator("#saliency-viewer canvas").first.wait_for(state="visible")

        return seconds(look)


def main() -> None:
    """Print the times as JSON."""
    found: dict[str, Any] = {
        "machine": f"{platform.machine()}, {psutil.cpu_count()} cores",
        "load before": round(os.getloadavg()[0], 2),
        "phantoms/s at 256 px": phantoms(),
    }
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        with app(workspace) as served:
            found["served page, s"] = served
            found["new workspace"] = default_run(workspace)
            found["pictures cached"] = default_run(workspace)
            run = found["pictures cached"]["id"]
            found |= saliency(workspace, run)
        found["first map in the browser, s"] = saliency_page(workspace, run)
    with tempfile.TemporaryDirectory() as folder, app(Path(folder)):
        found["new workspace, form read"] = default_run(Path(folder), READING)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
