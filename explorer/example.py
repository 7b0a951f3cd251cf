"""The default run's pictures, drawn while nobody waits for them yet."""

from __future__ import annotations

import contextlib
import sys

from core.runs import processes
from core.workspace import Workspace


def draw(workspace: Workspace) -> None:
    """Begin to draw them beside the reader, so that the first run starts at once.

    The process computes only when no other wants the processor, and ends with this one.

    Args:
        workspace: Whose cache they go to.
    """
    command = [sys.executable, "-m", "core", "prepare", "--background"]
    command += ["--workspace", str(workspace.root)]
    with contextlib.suppress(OSError):
        processes.start(command, workspace.root / "prepare.log")
