"""Choice of a data set in a form."""

from __future__ import annotations

from dataclasses import replace

from core.data.datasets import registered
from core.data.datasets.registry import DATASETS, DatasetEntry, Option
from core.workspace import Workspace


def entry(workspace: Workspace, data: str) -> DatasetEntry:
    """What is known of a data set, or of one that was registered under a name."""
    if data in DATASETS:
        return DATASETS[data]
    found = next((one for one in registered.names(workspace) if one.name == data), None)
    base = DATASETS[stands_for(workspace, data)]
    said = f"{base.title} in {found.data.root}." if found else "It is no longer registered."
    return replace(base, title=data, sentence=said, needs_root=False, splits=(), options={})


def stands_for(workspace: Workspace, data: str) -> str:
    """The data set of the catalogue that a registered name stands for; a folder if for none."""
    if data in DATASETS:
        return data
    return next(
        (one.data.name for one in registered.names(workspace) if one.name == data), "folder"
    )


def choices(workspace: Workspace) -> list[tuple[str, str]]:
    """The data sets that one can choose, those of the user's own first."""
    own = [(one.name, one.name) for one in registered.names(workspace)]
    return own + [(entry.title, name) for name, entry in DATASETS.items()]


def options(data: str) -> dict[str, Option]:
    """What a data set lets one choose, by the setting's path."""
    entry = DATASETS.get(data)
    return {f"data.{name}": one for name, one in entry.options.items()} if entry else {}
