"""The explorer's public interface for ``gradio_client``: one endpoint for each thing it can do.

The pages' own listeners are private; these few are meant, and take ids and settings, never paths
inside the workspace. Who asks for all runs again and again takes ``GET /api/runs`` instead (see
``explorer.server.runs_json``).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import gradio as gr

from core.config.run import RunSpec
from core.errors import CoreError
from core.runs import queue
from core.runs.run import Run
from core.runs.store import OUTLINE, Store
from core.workspace import Workspace
from explorer.pages.runs import export as exporting


def publish(store: Store, workspace: Workspace) -> None:
    """Add the endpoints to the explorer that is being built, before any listener takes a name."""

    def submit(settings: dict[str, Any]) -> dict[str, Any]:
        """Queue a run. settings: values by dotted name, e.g. {"adapter.method": "full"}."""
        from core.data.datasets.registered import resolved_run
        from core.resources.preflight import check

        spec = resolved_run(store.workspace, RunSpec.of(**settings))
        check(spec)
        return summary(queue.submit(store, spec))

    def runs() -> list[dict[str, Any]]:
        """All runs, the latest first."""
        return list(store.outlines())

    def run(name: str) -> dict[str, Any]:
        """One run by id, start of an id, or name: state, settings, scores, failure."""
        found = store.get(name)
        return summary(found) | {
            "settings": json.loads(found.spec.to_json()),
            "scores": found.scores,
            "failure": {"reason": found.failure_reason, "remedy": found.failure_remedy},
        }

    def stop(name: str) -> dict[str, Any]:
        """Stop a run; it keeps a checkpoint and can be resumed."""
        return summary(queue.stop(store, store.get(name).id))

    def resume(name: str) -> dict[str, Any]:
        """Queue a stopped, failed or lost run again."""
        return summary(queue.resume(store, store.get(name).id))

    def delete(name: str) -> dict[str, Any]:
        """Delete a run that is not active, with its folder."""
        found = store.get(name)
        store.delete(found.id)
        return {"deleted": found.id}

    def export(name: str, format: str) -> dict[str, Any]:
        """Write a finished run for peft, timm (merged) or onnx into its own folder; where it is."""
        made = exporting.export_in_process(workspace, store.get(name), format)
        return {"folder": str(made.folder), "size": made.size, "difference": made.difference}

    for verb in (submit, runs, run, stop, resume, delete, export):
        # Those that only read need not wait for each other.
        limit = None if verb in (runs, run) else 1
        gr.api(_worded(verb), api_name=verb.__name__, concurrency_limit=limit)


def summary(run: Run) -> dict[str, Any]:
    """A run in a few fields."""
    return {name: getattr(run, name) for name in OUTLINE} | {"state": str(run.state)}


def _worded(verb: Callable[..., Any]) -> Callable[..., Any]:
    """The same, with faults a user can mend as Gradio's own error: its words reach the caller."""
    import functools

    @functools.wraps(verb)
    def answered(*given: Any, **named: Any) -> Any:
        try:
            return verb(*given, **named)
        except CoreError as error:
            raise gr.Error(str(error), print_exception=False) from error

    return answered
