"""The commands ``export`` and ``import-adapter``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.cli.options import with_source
from core.cli.output import AsJson, Folder, answer
from core.config.run import RunSpec
from core.errors import CoreError

if TYPE_CHECKING:
    from core.reporter import Reporter


def export(
    run: Annotated[str, typer.Argument(help="Id, beginning of an id, or name of a finished run.")],
    format: Annotated[
        str, typer.Option(help="peft (adapter folder), merged (timm weights) or onnx (ONNX graph).")
    ] = "peft",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write; by default export/FORMAT in the run's folder."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Export a finished run's model for peft, timm or ONNX, with a model card.

    The export is loaded again and compared with the run's model before it is kept.
    """
    from core.export.export import export_run
    from core.runs.store import open_store
    from core.workspace import open_workspace

    workspace = open_workspace(folder)
    run_id = open_store(workspace, create=True).get(run).id
    export = export_run(workspace.run(run_id), format, out, force=force)
    answer(asdict(export), as_json, lambda: typer.echo(
        f"Wrote {export.folder}: {', '.join(export.files)} ({export.size / 1e6:,.1f} MB). "
        f"The logits of the loaded export differ from the run's by at most {export.difference:.1g}."
    ))  # fmt: skip


@with_source()
def import_adapter(
    adapter: Annotated[Path, typer.Argument(help="Folder with adapter_config.json.")],
    spec: RunSpec,
    folder: Folder = None,
    as_json: AsJson = False,
    name: str | None = None,
) -> None:
    """Import a peft adapter made elsewhere: test it and store it as a run to compare."""
    from core.cli.progress_bar import ProgressBar
    from core.export.import_adapter import copy_adapter, prepare_import
    from core.runs import queue, worker
    from core.runs.store import open_store
    from core.training.loop import fine_tune
    from core.workspace import open_workspace

    source = adapter.expanduser().absolute()
    complete, notes = prepare_import(source, spec)
    for note in notes:
        typer.echo(note, err=True)
    workspace = open_workspace(folder)
    store = open_store(workspace, create=True)

    def execute(
        spec: RunSpec, folder: Path, cache: Path, report: Reporter, resume: bool
    ) -> dict[str, Any]:
        copy_adapter(source, folder)
        for note in notes:
            report.log(note)
        return fine_tune(spec, folder, cache, report, resume=resume)

    run = queue.claim_here(store, complete, name=name)
    with ProgressBar(run.name) as bar:
        code = worker.work(store, workspace, run.id, execute, observer=bar)
    run = store.get(run.id)
    if code != 0:
        raise CoreError(
            f"The import {run.id} ended with state {run.state}: {run.failure_reason or run.state}",
            run.failure_remedy or "",
        )
    value = {"id": run.id, "name": run.name, "state": str(run.state), "scores": run.scores}
    splits = [f"{split} {score['auroc']:.3f}" for split, score in (run.scores or {}).items()
              if score["auroc"] is not None]  # fmt: skip
    answer(value, as_json, lambda: typer.echo(
        f"Imported as {run.id}: {run.name}. Mean AUROC: {', '.join(splits) or 'not defined'}."
    ))  # fmt: skip
