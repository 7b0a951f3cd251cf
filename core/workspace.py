"""Folders of a workspace: runs, caches and uploads."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from core.errors import ConfigurationError

VARIABLE = "CXR_WORKSPACE"
STORE = "CXR_STORE"
"""Environment variable with the address of a PostgreSQL database that holds the store. A run's
process inherits it, so that no command line contains the password."""
ASSETS = Path(__file__).resolve().parent.parent / "assets"
BACKBONE_FILES, PRECOMPUTED = ASSETS / "backbones", ASSETS / "precomputed"
STYLES, SCRIPTS = ASSETS / "styles", ASSETS / "scripts"

SPEC, BEST, RESULT = "spec.json", "best.safetensors", "result.json"
"""Files in a run's folder: its resolved specification, the best epoch's weights, the result."""

SUBSET = "subset.txt"
"""File in a run's folder that lists its labelled training studies; ``split_file`` can read it."""

ADAPTER = "adapter"
"""Folder in a run's folder that holds its imported adapter."""


@dataclass(frozen=True)
class Workspace:
    """The folders of a workspace; nothing is written outside of them.

    Attributes:
        root: The workspace's folder, absolute.
        database: Address of the database that holds the store; None for a file in ``root``.
    """

    root: Path
    database: str | None = None

    @property
    def store(self) -> Path:
        """The SQLite file of the store."""
        return self.root / "store.sqlite"

    @property
    def cache(self) -> Path:
        """Decoded images and features; can be deleted at any time."""
        return self.root / "cache"

    @property
    def names(self) -> Path:
        """Registered data sets, one file each."""
        return self.root / "datasets"

    @property
    def uploads(self) -> Path:
        """Uploaded images, kept while their page is open."""
        return self.root / "uploads"

    def run(self, run_id: str) -> Path:
        """The folder of one run: log, checkpoints, predictions."""
        return self.root / "runs" / run_id


def workspace_at(folder: Path | str | None = None) -> Workspace:
    """The workspace that ``open_workspace`` would open; creates nothing."""
    chosen = folder or os.environ.get(VARIABLE) or platformdirs.user_data_dir("cxr-peft-explorer")
    return Workspace(Path(chosen).expanduser().resolve(), os.environ.get(STORE) or None)


def open_workspace(folder: Path | str | None = None) -> Workspace:
    """Open a workspace; its folder is created if it does not exist.

    Args:
        folder: The folder; by default the value of ``CXR_WORKSPACE``, otherwise a per-user data
            folder. The store is a file in it, or the database that ``CXR_STORE`` names.

    Raises:
        ConfigurationError: The folder cannot be created or is not writable.
    """
    root = workspace_at(folder).root
    remedy = f"Choose another folder with --workspace DIR or {VARIABLE}."
    try:
        (root / "runs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"The workspace {root} cannot be created ({error.strerror}).", remedy
        ) from error
    if not os.access(root, os.W_OK):
        raise ConfigurationError(f"The workspace {root} is not writable.", remedy)
    return Workspace(root, os.environ.get(STORE) or None)
