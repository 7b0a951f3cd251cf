"""Exports from the browser: what is offered, the work in another process, the file to download."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.config.run import RunSpec
from core.errors import CoreError
from core.export import export
from core.runs import queue, worker
from core.runs.run import Run, RunState
from core.runs.store import Store, open_store
from core.training.loop import fine_tune
from core.workspace import Workspace, open_workspace
from explorer.pages.runs import export as exporting

FIELDS = {
    "data.name": "folder", "data.label_fraction": 1.0, "model.backbone": "timm:test_vit",
    "model.pretrained": False, "model.input_size": 64, "train.epochs": 1, "train.device": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(
    radiographs: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Workspace, Store, Callable[[str], Run]]:
    """A workspace, and finished runs of one second in it by their method."""
    workspace = open_workspace(tmp_path_factory.mktemp("exporting"))
    store = open_store(workspace, create=True)

    def run(method: str) -> Run:
        spec = RunSpec.of(**FIELDS, **{"data.root": radiographs, "adapter.method": method})
        made = queue.claim_here(store, spec)

        def execute(spec: Any, folder: Any, cache: Any, report: Any, resume: Any) -> Any:
            return fine_tune(spec, folder, cache, report)

        assert worker.work(store, workspace, made.id, execute) == 0
        return store.get(made.id)

    return workspace, store, run


def test_the_formats_are_those_of_the_core() -> None:
    assert list(exporting.FORMATS) == list(export.FORMATS)


def test_only_a_completed_run_offers_formats(workspace: Workspace) -> None:
    run = open_store(workspace, create=True).create(RunSpec(), name="<b>")
    for state in RunState:
        html = exporting.menu(replace(run, state=state))
        done = state is RunState.COMPLETED
        assert html.count('data-act="export"') == (len(export.FORMATS) if done else 0)
        assert ("disabled title=" in html) is not done
        if not done:
            with pytest.raises(CoreError, match="only completed runs"):
                exporting.export_in_process(workspace, replace(run, state=state), "peft")
    with pytest.raises(CoreError, match="Did you mean peft"):
        exporting.export_in_process(workspace, replace(run, state=RunState.COMPLETED), "../peft")
    assert "<b></b>" not in exporting.busy(run, "peft")


def test_an_export_is_made_packed_and_told(
    finished: tuple[Workspace, Store, Callable[[str], Run]], tmp_path: Path
) -> None:
    workspace, _, make = finished
    run = make("lora")
    made = exporting.export_in_process(workspace, run, "peft")
    assert made.folder == workspace.run(run.id) / "export" / "peft"
    file = exporting.pack(made, run, "peft", tmp_path)
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        names = {Path(one).name for one in archive.namelist()}
        assert all(one.startswith(f"{run.id}-peft/") for one in archive.namelist())
    assert names == {one.name for one in made.folder.iterdir()}
    assert {"adapter_model.safetensors", "README.md"} <= names
    html = exporting.outcome(run, "peft", made)
    assert str(made.folder) in html
    assert "Loaded again, its logits" in html
    again = exporting.export_in_process(
        workspace, run, "peft"
    )  # in its own folder it replaces its own
    assert again == made


def test_what_cannot_be_exported_says_why(
    finished: tuple[Workspace, Store, Callable[[str], Run]],
) -> None:
    workspace, _, make = finished
    run = make("bitfit")
    with pytest.raises(CoreError, match="BitFit has no adapter that peft supports") as caught:
        exporting.export_in_process(workspace, run, "peft")
    html = exporting.failure(run, "peft", caught.value)
    assert 'role="alert"' in html
    assert "merged" in html
