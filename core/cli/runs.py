"""Verbs on runs: ``runs`` lists them, ``show`` and ``delete``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from core.cli.output import (
    AsJson,
    Folder,
    RunName,
    answer,
    opened,
    print_scores,
    run_details,
    summary,
    table,
)  # fmt: skip
from core.errors import RunError
from core.formatting import auroc

if TYPE_CHECKING:
    from core.runs.store import Store


def runs(folder: Folder = None, as_json: AsJson = False) -> None:
    """List all runs, the latest first."""
    _, store = opened(folder)
    summaries = [summary(run) for run in store.list()]
    answer(summaries, as_json, lambda: table(
        ("id", "state", "val AUROC", "test AUROC", "name"),
        [
            (r["id"], r["state"], auroc(r["best_auroc"]), auroc(r["test_auroc"]), r["name"])
            for r in summaries
        ],
    ))  # fmt: skip


def show(run: RunName, folder: Folder = None, as_json: AsJson = False) -> None:
    """Show one run: settings, scores, environment, memory."""
    from core.resources import memory
    from core.workspace import RESULT, SUBSET

    workspace, store = opened(folder)
    shown = store.get(run)
    run_folder = workspace.run(shown.id)
    value = run_details(shown) | {"metric_rows": store.count_metrics(shown.id)}
    members = shown.spec.adapter.members()
    if members:
        value["members"] = [_member(store, member) for member in members]
    subset = run_folder / SUBSET
    value["subset"] = str(subset) if subset.exists() else None
    if (run_folder / RESULT).exists():
        result = json.loads((run_folder / RESULT).read_text())
        value["weights_sha256"] = result["weights_sha256"]
        value["memory"] = memory.memory_message(result)

    def print_text() -> None:
        for key in ("id", "name", "state", "phase", "best_auroc", "trainable", "total", "seconds"):
            typer.echo(f"{key:12} {value[key]}")
        if shown.failure_reason:
            typer.echo(f"{'failed':12} {shown.failure_reason} {shown.failure_remedy or ''}")
        if value.get("memory"):
            typer.echo(f"{'memory':12} {value['memory']}")
        for member in value.get("members", ()):
            typer.echo(f"{'member':12} {member['id']}  {member['name'] or 'deleted'}")
        print_scores(shown)

    answer(value, as_json, print_text)


def _member(store: Store, run_id: str) -> dict[str, str | None]:
    """Id and name of a member of an ensemble or soup; the name is None if it was deleted."""
    try:
        return {"id": run_id, "name": store.get(run_id).name}
    except RunError:
        return {"id": run_id, "name": None}


def delete(run: RunName, folder: Folder = None, as_json: AsJson = False) -> None:
    """Delete a run that is not active, and its folder."""
    _, store = opened(folder)
    run_id = store.get(run).id
    store.delete(run_id)
    answer({"deleted": run_id}, as_json, lambda: typer.echo(f"Deleted {run_id}."))
