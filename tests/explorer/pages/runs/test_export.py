"""Export of a run from the browser: the check, the work in another process, the zip file."""

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
from explorer.pages.runs.export import FORMATS, export_in_process, pack
from explorer.pages.runs.export_panel import message

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
    assert list(FORMATS) == list(export.FORMATS)


def test_only_a_completed_run_can_be_exported(workspace: Workspace) -> None:
    run = open_store(workspace, create=True).create(RunSpec(), name="<b>")
    for state in set(RunState) - {RunState.COMPLETED}:
        with pytest.raises(CoreError, match="only completed runs"):
            export_in_process(workspace, replace(run, state=state), "peft")
    with pytest.raises(CoreError, match="Did you mean peft"):
        export_in_process(workspace, replace(run, state=RunState.COMPLETED), "../peft")
    assert "&lt;b&gt;" in message(run, "peft")


@pytest.mark.slow
def test_an_export_is_written_packed_and_reported(
    finished: tuple[Workspace, Store, Callable[[str], Run]], tmp_path: Path
) -> None:
    workspace, _, make = finished
    run = make("lora")
    exported = export_in_process(workspace, run, "peft")
    assert exported.folder == workspace.run(run.id) / "export" / "peft"
    file = pack(exported, run, "peft", tmp_path)
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        names = {Path(name).name for name in archive.namelist()}
        assert all(name.startswith(f"{run.id}-peft/") for name in archive.namelist())
    assert names == {path.name for path in exported.folder.iterdir()}
    assert {"adapter_model.safetensors", "README.md"} <= names
    html = message(run, "peft", exported=exported)
    assert str(exported.folder) in html
    assert "its logits" in html
    assert export_in_process(workspace, run, "peft") == exported  # replaces the earlier export


@pytest.mark.slow
def test_what_cannot_be_exported_says_why(
    finished: tuple[Workspace, Store, Callable[[str], Run]],
) -> None:
    workspace, _, make = finished
    run = make("bitfit")
    with pytest.raises(CoreError, match="BitFit has no adapter") as caught:
        export_in_process(workspace, run, "peft")
    html = message(run, "peft", error=caught.value)
    assert 'role="alert"' in html
    assert "merged" in html
