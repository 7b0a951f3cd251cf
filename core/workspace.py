"""Where a user's runs, caches and uploads are kept."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from core.errors import ConfigurationError

VARIABLE = "CXR_WORKSPACE"
STORE = "CXR_STORE"
"""Environment variable with the address of a PostgreSQL data base that holds the store; a run's
process inherits it, so that no password stands in a command line."""
ASSETS = Path(__file__).resolve().parent.parent / "assets"
BACKBONE_FILES, PRECOMPUTED = ASSETS / "backbones", ASSETS / "precomputed"
STYLES, SCRIPTS = ASSETS / "styles", ASSETS / "scripts"

SPEC, BEST, RESULT = "spec.json", "best.safetensors", "result.json"
"""Files in a run's folder: its resolved specification, the best epoch's weights, the scores."""

SUBSET = "subset.txt"
"""File in a run's folder that lists its labelled training studies; ``split_file`` takes it back."""

ADAPTER = "adapter"
"""Folder in a run's folder: the adapter it was imported with."""


@dataclass(frozen=True)
class Workspace:
    """The folders of one workspace; nothing is written outside them.

    Attributes:
        root: The workspace's folder, absolute.
        database: Address of the data base that holds the store, if that is no file in ``root``.
    """

    root: Path
    database: str | None = None

    @property
    def store(self) -> Path:
        """The SQLite file of the store."""
        return self.root / "store.sqlite"

    @property
    def cache(self) -> Path:
        """Decoded images and features, which can be deleted at any time."""
        return self.root / "cache"

    @property
    def names(self) -> Path:
        """Data sets that the user gave a name, a file each."""
        return self.root / "datasets"

    @property
    def uploads(self) -> Path:
        """Pictures a user uploaded, kept while their page is open."""
        return self.root / "uploads"

    def run(self, run_id: str) -> Path:
        """The folder of one run: log, checkpoints, predictions."""
        return self.root / "runs" / run_id


def workspace_at(folder: Path | str | None = None) -> Workspace:
    """The workspace that ``open_workspace`` would open; nothing is made."""
    chosen = folder or os.environ.get(VARIABLE) or platformdirs.user_data_dir("cxr-peft-explorer")
    return Workspace(Path(chosen).expanduser().resolve(), os.environ.get(STORE) or None)


def open_workspace(folder: Path | str | None = None) -> Workspace:
    """Open a workspace, making its folder if it does not exist.

    Args:
        folder: The folder; by default the value of ``CXR_WORKSPACE``, else a per-user data folder.
            The store is in it, or where ``CXR_STORE`` says.

    Raises:
        ConfigurationError: The folder cannot be made or written.
    """
    root = workspace_at(folder).root
    remedy = f"Choose another folder with --workspace DIR or {VARIABLE}."
    try:
        (root / "runs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"The workspace {root} cannot be made ({error.strerror}).", remedy
        ) from error
    if not os.access(root, os.W_OK):
        raise ConfigurationError(f"The workspace {root} cannot be written.", remedy)
    return Workspace(root, os.environ.get(STORE) or None)
