"""Commands ``data register``, ``data names`` and ``data forget``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from core.cli.data import app
from core.cli.options import with_data
from core.cli.output import AsJson, Folder, answer, table
from core.config.run import DataSpec

Name = Annotated[str, typer.Argument(help="Name of the data set.", metavar="NAME")]


@app.command("register")
@with_data(positional=False)
def register_data(
    name: Name, data: DataSpec, folder: Folder = None, as_json: AsJson = False
) -> None:
    """Register a data set under a name, so that --data NAME selects its folder and options."""
    from core.data.datasets import registered
    from core.workspace import open_workspace

    dataset = registered.register(open_workspace(folder), name, data)
    answer(dataset.as_json(), as_json, lambda: typer.echo(
        f"Registered {dataset.name}: {dataset.data.name} in {dataset.data.root}."
    ))  # fmt: skip


@app.command("names")
def list_names(folder: Folder = None, as_json: AsJson = False) -> None:
    """List the registered data sets."""
    from core.data.datasets import registered
    from core.workspace import workspace_at

    values = [dataset.as_json() for dataset in registered.names(workspace_at(folder))]
    answer(values, as_json, lambda: table(
        ("name", "data set", "folder", "options"),
        [(row["name"], row["data"], str(row.get("root", "–")), _options(row)) for row in values],
    ))  # fmt: skip


@app.command("forget")
def forget_data(name: Name, folder: Folder = None, as_json: AsJson = False) -> None:
    """Remove a registered name; its folder and its runs are not changed."""
    from core.data.datasets import registered
    from core.workspace import workspace_at

    dataset = registered.forget(workspace_at(folder), name)
    answer({"forgotten": dataset.name}, as_json, lambda: typer.echo(f"Removed {dataset.name}."))


def _options(values: dict[str, Any]) -> str:
    options = {key: values[key] for key in values if key not in ("name", "data", "root")}
    return ", ".join(f"{key}={value}" for key, value in options.items())
