"""The data sets that a form offers: those of the registry and the user's registered names."""

from __future__ import annotations

from dataclasses import replace

from core.data.datasets import registered
from core.data.datasets.registered import RegisteredDataset
from core.data.datasets.registry import DATASETS, DatasetEntry, Option
from core.workspace import Workspace


def choices(workspace: Workspace) -> list[tuple[str, str]]:
    """The data sets as (text, name) pairs, the user's own first."""
    own = [(dataset.name, dataset.name) for dataset in registered.names(workspace)]
    return own + [(entry.title, name) for name, entry in DATASETS.items()]


def dataset_entry(workspace: Workspace, data: str) -> DatasetEntry:
    """The description of a data set or of a registered name."""
    if data in DATASETS:
        return DATASETS[data]
    base = DATASETS[base_dataset(workspace, data)]
    named = _registered(workspace, data)
    sentence = (
        f"{base.title} in {named.data.root}." if named else "This name is no longer registered."
    )
    return replace(base, title=data, sentence=sentence, needs_root=False, splits=(), options={})


def base_dataset(workspace: Workspace, data: str) -> str:
    """The data set of the registry behind a registered name; ``folder`` if there is none."""
    if data in DATASETS:
        return data
    named = _registered(workspace, data)
    return named.data.name if named else "folder"


def options(data: str) -> dict[str, Option]:
    """The options of a data set by the paths of their settings."""
    entry = DATASETS.get(data)
    return {f"data.{name}": option for name, option in entry.options.items()} if entry else {}


def _registered(workspace: Workspace, name: str) -> RegisteredDataset | None:
    return next((named for named in registered.names(workspace) if named.name == name), None)
