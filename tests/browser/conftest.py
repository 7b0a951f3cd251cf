"""An explorer of its own for each test, and a page that notices faults and foreign requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.served import Explorer


@pytest.fixture
def explorer(tmp_path: Path, pictures: Path) -> Iterator[Explorer]:
    one = Explorer(tmp_path / "workspace")
    one.workspace.mkdir()
    (one.workspace / "cache").symlink_to(pictures)
    one.start()
    yield one
    one.kill()
    for process in psutil.process_iter(["cmdline"]):
        if str(one.workspace) in " ".join(process.info["cmdline"] or []):
            process.kill()


@pytest.fixture
def visitor(chromium: Any, explorer: Explorer) -> Iterator[Any]:
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
