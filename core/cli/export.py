"""Verbs that carry models over to other programs, and adapters here."""

from __future__ import annotations

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
    run: Annotated[str, typer.Argument(help="Id, start of an id, or name of a finished run.")],
    format: Annotated[
        str,
        typer.Option(help="peft (an adapter folder), merged (timm's weights) or onnx (a graph)."),
    ] = "peft",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write; by default export/FORMAT in the run's own folder."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Write a finished run's model for peft, timm or ONNX, with a card; checked before it is."""
    from dataclasses import asdict

    from core.export import export as exports
    from core.runs.store import open_store
    from core.workspace import open_workspace

    workspace = open_workspace(folder)
    found = open_store(workspace, create=True).get(run)
    written = exports.export_run(workspace.run(found.id), format, out, force=force)
    answer(asdict(written), as_json, lambda: typer.echo(
        f"Wrote {written.folder}: {', '.join(written.files)} ({written.size / 1e6:,.1f} MB). "
        f"Loaded again, its logits differ from the run's by at most {written.difference:.1g}."
    ))  # fmt: skip


@with_source()
def import_adapter(
    adapter: Annotated[Path, typer.Argument(help="Folder with adapter_config.json.")],
    spec: RunSpec,
    folder: Folder = None,
    as_json: AsJson = False,
    name: str | None = None,
) -> None:
    """Test an adapter of peft's that was made elsewhere, as a run to compare with others."""
    from core.cli.progress_bar import ProgressBar
    from core.export import import_adapter as importing
    from core.runs import queue, worker
    from core.runs.store import open_store
    from core.training.loop import fine_tune
    from core.workspace import open_workspace

    source = adapter.expanduser().absolute()
    whole, notes = importing.prepare(source, spec)
    for note in notes:
        typer.echo(note, err=True)
    workspace = open_workspace(folder)
    store = open_store(workspace, create=True)

    def execute(
        spec: RunSpec, folder: Path, cache: Path, report: Reporter, resume: bool
    ) -> dict[str, Any]:
        importing.keep(source, folder)
        for note in notes:
            report.log(note)
        return fine_tune(spec, folder, cache, report, resume=resume)

    run = queue.claim_here(store, whole, name=name)
    with ProgressBar(run.name) as bar:
        code = worker.work(store, workspace, run.id, execute, observer=bar)
    run = store.get(run.id)
    if code != 0:
        raise CoreError(
            f"The import {run.id} ended as {run.state}: {run.failure_reason or run.state}",
            run.failure_remedy or "",
        )
    value = {"id": run.id, "name": run.name, "state": str(run.state), "scores": run.scores}
    splits = [f"{split} {score['auroc']:.3f}" for split, score in (run.scores or {}).items()
              if score["auroc"] is not None]  # fmt: skip
    answer(value, as_json, lambda: typer.echo(
        f"Imported as {run.id}: {run.name}. Mean AUROC: {', '.join(splits) or 'not defined'}."
    ))  # fmt: skip
