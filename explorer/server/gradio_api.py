"""The explorer's public interface for ``gradio_client``: one endpoint for each action.

The events of the pages are private. These endpoints take ids and settings, never paths inside the
workspace. Programs that list all runs frequently use ``GET /api/runs`` instead (see
``explorer.server.runs_json``).
"""

from __future__ import annotations

import functools
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
from explorer.pages.runs.export import export_in_process


class Endpoints:
    """The endpoints; their docstrings are the descriptions on the API page."""

    def __init__(self, store: Store, workspace: Workspace) -> None:
        self._store, self._workspace = store, workspace

    def submit(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Queue a run. settings: values by dotted name, e.g. {"adapter.method": "full"}."""
        from core.data.datasets.registered import resolved_run
        from core.resources.preflight import check

        spec = resolved_run(self._workspace, RunSpec.of(**settings))
        check(spec)
        return summary(queue.submit(self._store, spec))

    def runs(self) -> list[dict[str, Any]]:
        """All runs, the latest first."""
        return list(self._store.outlines())

    def run(self, name: str) -> dict[str, Any]:
        """One run by id, start of an id, or name: state, settings, scores, failure."""
        run = self._store.get(name)
        return summary(run) | {
            "settings": json.loads(run.spec.to_json()),
            "scores": run.scores,
            "failure": {"reason": run.failure_reason, "remedy": run.failure_remedy},
        }

    def stop(self, name: str) -> dict[str, Any]:
        """Stop a run; it keeps a checkpoint and can be resumed."""
        return summary(queue.stop(self._store, self._store.get(name).id))

    def resume(self, name: str) -> dict[str, Any]:
        """Queue a stopped, failed or lost run again."""
        return summary(queue.resume(self._store, self._store.get(name).id))

    def delete(self, name: str) -> dict[str, Any]:
        """Delete a run that is not active, with its folder."""
        run = self._store.get(name)
        self._store.delete(run.id)
        return {"deleted": run.id}

    def export(self, name: str, format: str) -> dict[str, Any]:
        """Export a finished run for peft, timm (merged) or onnx into its folder."""
        exported = export_in_process(self._workspace, self._store.get(name), format)
        return {
            "folder": str(exported.folder),
            "size": exported.size,
            "difference": exported.difference,
        }


def publish(store: Store, workspace: Workspace) -> None:
    """Add the endpoints to the explorer that is being built, before events take their names."""
    api = Endpoints(store, workspace)
    for endpoint in (api.submit, api.runs, api.run, api.stop, api.resume, api.delete, api.export):
        # Endpoints that only read do not wait for each other.
        limit = None if endpoint in (api.runs, api.run) else 1
        gr.api(_with_messages(endpoint), api_name=endpoint.__name__, concurrency_limit=limit)


def summary(run: Run) -> dict[str, Any]:
    """The outline of a run."""
    return {name: getattr(run, name) for name in OUTLINE} | {"state": str(run.state)}


def _with_messages(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """The endpoint with errors of the core as Gradio's own, whose message reaches the caller."""

    @functools.wraps(endpoint)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return endpoint(*args, **kwargs)
        except CoreError as error:
            raise gr.Error(str(error), print_exception=False) from error

    return call
