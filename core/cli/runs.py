"""Verbs on runs: list, show, delete."""

from __future__ import annotations

import json

import typer

from core.cli.output import (
    AsJson,
    Folder,
    RunName,
    answer,
    opened,
    print_scores,
    run_details,
    score,
    summary,
    table,
)  # fmt: skip


def runs(folder: Folder = None, as_json: AsJson = False) -> None:
    """List all runs, the latest first."""
    _, store = opened(folder)
    found = [summary(run) for run in store.list()]
    answer(found, as_json, lambda: table(
        ("id", "state", "val AUROC", "test AUROC", "name"),
        [
            (r["id"], r["state"], score(r["best_auroc"]), score(r["test_auroc"]), r["name"])
            for r in found
        ],
    ))  # fmt: skip


def show(run: RunName, folder: Folder = None, as_json: AsJson = False) -> None:
    """Show one run: settings, scores, environment."""
    from core.resources import memory
    from core.workspace import RESULT, SUBSET

    workspace, store = opened(folder)
    found = store.get(run)
    value = run_details(found) | {"metric_rows": store.count_metrics(found.id)}
    listed = workspace.run(found.id) / SUBSET
    value["subset"] = str(listed) if listed.exists() else None
    file = workspace.run(found.id) / RESULT
    if file.exists():
        result = json.loads(file.read_text())
        value["weights_sha256"] = result["weights_sha256"]
        value["memory"] = memory.memory_message(result)

    def human() -> None:
        for key in ("id", "name", "state", "phase", "best_auroc", "trainable", "total", "seconds"):
            typer.echo(f"{key:12} {value[key]}")
        if found.failure_reason:
            typer.echo(f"{'failed':12} {found.failure_reason} {found.failure_remedy or ''}")
        if value.get("memory"):
            typer.echo(f"{'memory':12} {value['memory']}")
        print_scores(found)

    answer(value, as_json, human)


def delete(run: RunName, folder: Folder = None, as_json: AsJson = False) -> None:
    """Delete a run that is not active, with its folder."""
    _, store = opened(folder)
    found = store.get(run)
    store.delete(found.id)
    answer({"deleted": found.id}, as_json, lambda: typer.echo(f"Deleted {found.id}."))
