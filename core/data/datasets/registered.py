"""Data sets that a user gave a name: kept in the workspace, one file each.

A run never refers to such a name: when it is made, the name is resolved into data set, folder and
options, so that a queued run does what was asked even if the name is forgotten or given to another
folder meanwhile.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.config.run import OPTIONS, DataSpec, RunSpec
from core.data.datasets.registry import DATASETS, open_data
from core.errors import ConfigurationError, unknown_name
from core.workspace import Workspace

PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}"
SUFFIX = ".json"


@dataclass(frozen=True)
class Named:
    """A data set under a name.

    Attributes:
        name: What it is called.
        data: Data set, folder, split and options.
    """

    name: str
    data: DataSpec

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        about = self.data.model_dump(mode="json", exclude_none=True)
        kept = {"root", "split", *OPTIONS}
        chosen = {key: value for key, value in about.items() if key in kept}
        return {"name": self.name, "data": self.data.name, **chosen}


def register(workspace: Workspace, name: str, data: DataSpec) -> Named:
    """Give a data set a name, once it opens.

    Args:
        workspace: Where the name is kept.
        name: Letters, digits, ``_``, ``.`` and ``-``; none of the catalogue's own.
        data: What it stands for; label fraction, seed and list play no part.

    Raises:
        ConfigurationError: The name cannot be used, or stands for something else.
        DataError: The data set cannot be opened.
    """
    _check_name(name)
    root = None if data.root is None else data.root.expanduser().absolute()
    plain = data.source().model_copy(update={"root": root, "skip_bad": False})
    for other in names(workspace):
        if other.name.lower() != name.lower():
            continue
        if other == Named(name, plain):
            return other
        raise ConfigurationError(
            f"The name “{other.name}” stands for {other.data.name} in {other.data.root}.",
            "Choose another name, or forget that one first.",
            field="named.name",
        )
    open_data(plain)
    file = _file(workspace, name)
    partial = file.with_name(f".{file.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(plain.model_dump_json(exclude_none=True), encoding="utf-8")
        partial.replace(file)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ConfigurationError(
            f"The name cannot be kept in {file.parent} ({error.strerror}).",
            "Check the workspace's permissions and its disk.",
        ) from error
    return Named(name, plain)


def names(workspace: Workspace) -> list[Named]:
    """All names, in alphabetical order; files that hold none are passed over."""
    return sorted(_read_all(workspace), key=lambda one: one.name.lower())


def forget(workspace: Workspace, name: str) -> Named:
    """Forget a name; the folder and the runs on it stay as they are.

    Raises:
        ConfigurationError: There is no such name.
    """
    found = next((one for one in names(workspace) if one.name == name), None)
    if found is None:
        known = [one.name for one in names(workspace)]
        raise unknown_name("name of a data set", name, known or ["none yet"], field="named.name")
    _file(workspace, name).unlink(missing_ok=True)
    return found


def resolved(workspace: Workspace, data: DataSpec) -> DataSpec:
    """What a name stands for; a data set of the catalogue stands for itself.

    Args:
        workspace: Where names are kept.
        data: Its ``name`` may be a registered one; what else it says goes before what was
            registered.

    Raises:
        ConfigurationError: There is neither a data set nor a name like this.
    """
    if data.name in DATASETS:
        return data
    known = {one.name: one.data for one in names(workspace)}
    if data.name not in known:
        raise unknown_name("data set", data.name, [*known, *DATASETS], field="data.name")
    said = {name: getattr(data, name) for name in ("root", "split", *OPTIONS)}
    given = {name: value for name, value in said.items() if value is not None}
    drawn = {name: getattr(data, name)
             for name in ("label_fraction", "subset_seed", "split_file", "skip_bad")}  # fmt: skip
    return known[data.name].model_copy(update={**given, **drawn, "called": data.name})


def resolved_run(workspace: Workspace, spec: RunSpec) -> RunSpec:
    """A run with its data set's name resolved; see ``resolved``."""
    return spec.model_copy(update={"data": resolved(workspace, spec.data)})


def name_of(workspace: Workspace, data: DataSpec) -> str | None:
    """The name under which a run's data set is registered still, exactly so; else None."""
    if data.called is None:
        return None
    for one in names(workspace):
        if one.name == data.called and one.data == data.source().model_copy(
            update={"skip_bad": False}
        ):
            return one.name
    return None


def _check_name(name: str) -> None:
    if not re.fullmatch(PATTERN, name):
        raise ConfigurationError(
            f"“{name[:60]}” cannot be the name of a data set.",
            "Give up to 40 letters, digits, “_”, “.” and “-”, beginning with a letter or digit.",
            field="named.name",
        )
    if name.lower() in DATASETS:
        raise ConfigurationError(
            f"“{name}” is the name of a data set that is always there.",
            f"Choose another, such as my-{name.lower()}.",
            field="named.name",
        )


def _file(workspace: Workspace, name: str) -> Path:
    return workspace.names / f"{name}{SUFFIX}"


def _read_all(workspace: Workspace) -> Iterator[Named]:
    try:
        files = [one for one in workspace.names.iterdir() if one.suffix == SUFFIX]
    except OSError:
        return
    for file in files:
        if re.fullmatch(PATTERN, file.stem):
            try:
                yield Named(file.stem, DataSpec.model_validate_json(file.read_text("utf-8")))
            except (OSError, ValueError, ValidationError):
                continue
