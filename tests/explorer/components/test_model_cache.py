"""Preloading of libraries, and how often a file is decoded."""

import sys
import threading
from pathlib import Path

import pytest

from core.config.run import RunSpec
from core.runs import queue
from core.runs.store import open_store
from core.workspace import open_workspace
from explorer.components import model_cache


@pytest.mark.parametrize("idle", [True, False])
def test_libraries_are_preloaded_unless_a_run_needs_the_processor(
    idle: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "xml.dom.pulldom"  # nothing else imports it
    monkeypatch.setattr(model_cache, "SLOW_IMPORTS", (module,))
    monkeypatch.delitem(sys.modules, module, raising=False)
    workspace = open_workspace(tmp_path)
    store = open_store(workspace, create=True)
    models = model_cache.ModelCache(workspace, store)

    def loaded() -> bool:
        models.warm(idle=idle)
        for thread in threading.enumerate():
            if thread.name == "warm":
                thread.join()
        return module in sys.modules

    run = queue.submit(store, RunSpec())
    assert loaded() is not idle
    queue.stop(store, run.id)
    assert loaded()
