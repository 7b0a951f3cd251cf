"""The data set that the fields of the Data page name: its fields, its studies, its latest run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from core.config.run import DataSpec
from core.data.base import ChestDataset
from core.data.datasets import registered
from core.data.images.radiograph import Radiograph
from core.runs.run import Run, RunState
from explorer.components import dataset_choice, model_cache
from explorer.context import Context
from explorer.pages.data.contents import ANY, NONE


class DataSource:
    """Data sets by key or registered name, folder and version of the split.

    Args:
        context: The explorer.
    """

    def __init__(self, context: Context) -> None:
        self._store, self._workspace = context.store, context.workspace
        self._models = model_cache.model_cache(context.workspace, context.store)

    def spec(self, name: str, root: str | None, version: str | None) -> DataSpec:
        """The data set that the fields name; a registered name is resolved.

        Raises:
            CoreError: A registered name does not exist any more, or the fields are not valid.
        """
        entry = dataset_choice.dataset_entry(self._workspace, name)
        folder = Path(root.strip()) if entry.needs_root and root and root.strip() else None
        data = DataSpec(name=name, root=folder, split=(version or None) if entry.splits else None)
        return registered.resolved(self._workspace, data)

    def open(self, name: str, root: str | None, version: str | None) -> ChestDataset:
        """Open the data set that the fields name.

        Raises:
            CoreError: It cannot be opened.
        """
        return self._models.dataset(self.spec(name, root, version))

    def radiograph(
        self, name: str, root: str | None, version: str | None, study_id: str
    ) -> Radiograph:
        """The radiograph of a study, decoded once for all pages.

        Raises:
            CoreError: The data set cannot be opened, or the file cannot be read.
        """
        return self._models.radiograph(self.spec(name, root, version), study_id)

    def fields(self, name: str, root: str | None = None) -> list[Any]:
        """The fields that a data set needs: folder, version of the split, findings.

        Args:
            name: Key or registered name.
            root: The folder if no run on the data set has one.
        """
        entry = dataset_choice.dataset_entry(self._workspace, name)
        folder = (self._last_root(name) or root) if entry.needs_root else ""
        return [
            gr.Textbox(value=folder, visible=entry.needs_root),
            gr.Dropdown(
                choices=list(entry.splits),
                value=entry.splits[0] if entry.splits else None,
                visible=len(entry.splits) > 1,
            ),
            gr.Dropdown(choices=finding_choices(entry.findings), value=ANY),
        ]

    def latest_run(self, name: str) -> Run | None:
        """The latest completed run on a data set."""
        runs = self._store.list(states=[RunState.COMPLETED])
        return next(
            (run for run in runs if (run.spec.data.called or run.spec.data.name) == name), None
        )

    def _last_root(self, name: str) -> str | None:
        """The folder of the latest run on a data set."""
        for run in self._store.list():
            if run.spec.data.name == name and run.spec.data.root is not None:
                return str(run.spec.data.root)
        return None


def finding_choices(names: tuple[str, ...]) -> list[tuple[str, str]]:
    """Choices of the finding that filters the studies, as (text, value) pairs."""
    each = [(name.replace("_", " "), name) for name in names]
    return [("All studies", ANY), ("No finding", NONE), *each]
