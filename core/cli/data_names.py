"""Verbs on names for data sets: register one, list them, forget one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from core.cli.data import app
from core.cli.options import with_data
from core.cli.output import AsJson, Folder, answer, table
from core.config.run import DataSpec

Called = Annotated[str, typer.Argument(help="What it is called.", metavar="NAME")]


@app.command("register")
@with_data(positional=False)
def register_data(
    called: Called, data: DataSpec, folder: Folder = None, as_json: AsJson = False
) -> None:
    """Give a data set a name: --data NAME then stands for its folder and options."""
    from core.data.datasets import registered
    from core.workspace import open_workspace

    found = registered.register(open_workspace(folder), called, data)
    answer(found.as_json(), as_json, lambda: typer.echo(
        f"{found.name} stands for {found.data.name} in {found.data.root}."
    ))  # fmt: skip


@app.command("names")
def list_names(folder: Folder = None, as_json: AsJson = False) -> None:
    """List the registered names and what they stand for."""
    from core.data.datasets import registered
    from core.workspace import workspace_at

    found = [one.as_json() for one in registered.names(workspace_at(folder))]
    answer(found, as_json, lambda: table(
        ("name", "data set", "folder", "options"),
        [(one["name"], one["data"], str(one.get("root", "–")), _options(one)) for one in found],
    ))  # fmt: skip


@app.command("forget")
def forget_data(called: Called, folder: Folder = None, as_json: AsJson = False) -> None:
    """Forget a name; its folder and the runs on it stay."""
    from core.data.datasets import registered
    from core.workspace import workspace_at

    found = registered.forget(workspace_at(folder), called)
    answer({"forgotten": found.name}, as_json, lambda: typer.echo(f"Forgot {found.name}."))


def _options(one: dict[str, Any]) -> str:
    rest = {key: value for key, value in one.items() if key not in ("name", "data", "root")}
    return ", ".join(f"{key}={value}" for key, value in rest.items())
