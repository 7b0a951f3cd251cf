"""Data sets that a user registered under a name, one file each in the workspace.

A run does not store such a name: it is resolved to data set, folder and options when the run is
created. A queued run is therefore not affected if the name is removed or given to another folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.config.run import OPTIONS, DataSpec, RunSpec
from core.data.datasets.registry import DATASETS, open_data
from core.errors import ConfigurationError, WriteError, unknown_name
from core.files import write_atomically
from core.workspace import Workspace

PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}"
SUFFIX = ".json"

OF_RUN = ("label_fraction", "subset_seed", "split_file", "fold", "skip_bad", "shuffle_labels")
"""Settings of a run that do not belong to a registered data set."""


@dataclass(frozen=True)
class RegisteredDataset:
    """A data set, with its folder, split and options, and the name that a user gave it."""

    name: str
    data: DataSpec

    def as_json(self) -> dict[str, Any]:
        """Return name, data set, folder, split and options as JSON values."""
        values = self.data.model_dump(mode="json", exclude_none=True)
        included = {key: values[key] for key in values if key in {"root", "split", *OPTIONS}}
        return {"name": self.name, "data": self.data.name, **included}


def register(workspace: Workspace, name: str, data: DataSpec) -> RegisteredDataset:
    """Register a data set under a name, after checking that it opens.

    Args:
        workspace: The workspace that stores the name.
        name: Letters, digits, ``_``, ``.`` and ``-``; not a name of ``DATASETS``.
        data: The data set; label fraction, seed and split list are ignored.

    Raises:
        ConfigurationError: The name is not allowed, or is used for another data set.
        DataError: The data set cannot be opened.
        WriteError: The file cannot be written.
    """
    _check_name(name)
    root = None if data.root is None else data.root.expanduser().absolute()
    plain = data.source().model_copy(update={"root": root, "skip_bad": False})
    for other in names(workspace):
        if other.name.lower() != name.lower():
            continue
        if other == RegisteredDataset(name, plain):
            return other
        raise ConfigurationError(
            f"The name “{other.name}” is already used for {other.data.name} in {other.data.root}.",
            "Choose another name, or remove that one first.",
            field="named.name",
        )
    open_data(plain)
    file = _file(workspace, name)
    remedy = f"Check the permissions and the free space of {file.parent}."
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(
            f"The folder {file.parent} cannot be created ({error.strerror}).", remedy
        ) from error
    write_atomically(file, plain.model_dump_json(exclude_none=True).encode(), remedy)
    return RegisteredDataset(name, plain)


def names(workspace: Workspace) -> list[RegisteredDataset]:
    """List the registered data sets, in alphabetical order; unreadable files are skipped."""
    return sorted(_read_all(workspace), key=lambda dataset: dataset.name.lower())


def forget(workspace: Workspace, name: str) -> RegisteredDataset:
    """Remove a name; the folder and its runs are not changed.

    Raises:
        ConfigurationError: The name is not registered.
    """
    known = {dataset.name: dataset for dataset in names(workspace)}
    if name not in known:
        raise unknown_name("name of a data set", name, known or ["none yet"], field="named.name")
    _file(workspace, name).unlink(missing_ok=True)
    return known[name]


def resolved(workspace: Workspace, data: DataSpec) -> DataSpec:
    """Replace a registered name by its data set, folder and options.

    Args:
        workspace: The workspace that stores the names.
        data: The settings, whose ``name`` may be a registered name or one of ``DATASETS``. Its
            other settings take precedence over the registered ones.

    Raises:
        ConfigurationError: The name is unknown.
    """
    if data.name in DATASETS:
        return data
    known = {dataset.name: dataset.data for dataset in names(workspace)}
    if data.name not in known:
        raise unknown_name("data set", data.name, [*known, *DATASETS], field="data.name")
    settings = {name: getattr(data, name) for name in ("root", "split", *OPTIONS)}
    given = {name: value for name, value in settings.items() if value is not None}
    subset = {name: getattr(data, name) for name in OF_RUN}
    return known[data.name].model_copy(update={**given, **subset, "called": data.name})


def resolved_run(workspace: Workspace, spec: RunSpec) -> RunSpec:
    """Return a run with the name of its data set resolved; see ``resolved``."""
    return spec.model_copy(update={"data": resolved(workspace, spec.data)})


def name_of(workspace: Workspace, data: DataSpec) -> str | None:
    """Return the name of a run's data set if it is still registered with equal settings."""
    if data.called is None:
        return None
    registered = RegisteredDataset(
        data.called, data.source().model_copy(update={"skip_bad": False})
    )
    return data.called if registered in names(workspace) else None


def _check_name(name: str) -> None:
    if not re.fullmatch(PATTERN, name):
        raise ConfigurationError(
            f"“{name[:60]}” is not allowed as the name of a data set.",
            "Use up to 40 letters, digits, “_”, “.” and “-”, starting with a letter or digit.",
            field="named.name",
        )
    if name.lower() in DATASETS:
        raise ConfigurationError(
            f"“{name}” is the name of a built-in data set.",
            f"Choose another name, such as my-{name.lower()}.",
            field="named.name",
        )


def _file(workspace: Workspace, name: str) -> Path:
    return workspace.names / f"{name}{SUFFIX}"


def _read_all(workspace: Workspace) -> Iterator[RegisteredDataset]:
    try:
        files = [file for file in workspace.names.iterdir() if file.suffix == SUFFIX]
    except OSError:
        return
    for file in files:
        if re.fullmatch(PATTERN, file.stem):
            try:
                data = DataSpec.model_validate_json(file.read_text("utf-8"))
            except (OSError, ValueError, ValidationError):
                continue
            yield RegisteredDataset(file.stem, data)
