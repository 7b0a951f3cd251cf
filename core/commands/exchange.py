"""Verbs that carry models over to other programs, and adapters here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from core.commands.answers import AsJson, Folder, answer


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

    from core import export as exports
    from core.runs.store import open_store
    from core.workspace import open_workspace

    workspace = open_workspace(folder)
    found = open_store(workspace, create=True).get(run)
    written = exports.export(workspace.run(found.id), format, out, force=force)
    answer(asdict(written), as_json, lambda: typer.echo(
        f"Wrote {written.folder}: {', '.join(written.files)} ({written.size / 1e6:,.1f} MB). "
        f"Loaded again, its logits differ from the run's by at most {written.difference:.1g}."
    ))  # fmt: skip
