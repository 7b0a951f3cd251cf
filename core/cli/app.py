"""The command line ``python -m core VERB``, with the same functions as the explorer.

Every verb takes ``--workspace DIR``. With ``--json`` it prints one JSON value on standard output;
progress is printed on standard error.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from core.cli import combine, data, evaluate, export, lists, models, queue, runs, train
from core.cli.bench import bench
from core.cli.paper import paper
from core.cli.pretrain import pretrain
from core.cli.saliency_report import saliency_report
from core.cli.sweep import sweep
from core.cli.transfer import transfer
from core.cli.tune import tune
from core.errors import CoreError
from core.formatting import DISCLAIMER
from core.startup import relax_garbage_collection
from core.workspace import STORE, VARIABLE

app = typer.Typer(
    name="core",
    help="Fine-tune chest-radiograph foundation models with few labels, and compare the methods. "
    f"{DISCLAIMER}.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def common_options(
    store: Annotated[
        str | None,
        typer.Option(
            envvar=STORE,
            show_envvar=True,
            help="PostgreSQL database of the store, postgresql+psycopg://user@host/name, instead "
            "of a file in the workspace; must be given before the verb.",
        ),
    ] = None,
    workspace: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the store, runs and caches; may also be given after the verb."
        ),
    ] = None,
) -> None:
    """Options of every verb."""
    if store:
        os.environ[STORE] = store
    if workspace:
        os.environ[VARIABLE] = str(workspace)


app.add_typer(lists.app, name="list")
app.add_typer(data.app, name="data")
app.add_typer(models.app, name="models")
for verb in (
    paper, transfer, bench, train.train, train.submit, train.prepare, runs.runs, runs.show,
    runs.delete, evaluate.evaluate, evaluate.explain, saliency_report, export.export,
    export.import_adapter, combine.ensemble, combine.soup, sweep, tune, queue.queue, queue.move,
    queue.after, queue.stop, queue.resume, queue.serve, train.work, pretrain,
):  # fmt: skip
    app.command()(verb)


def main() -> None:
    """Run the command line; a ``CoreError`` is printed as one line, with exit code 1."""
    relax_garbage_collection()
    try:
        app()
    except CoreError as error:
        typer.echo(f"Error: {error}", err=True)
        raise SystemExit(1) from None
    except BrokenPipeError:
        raise SystemExit(141) from None
