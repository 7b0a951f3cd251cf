"""Export of a completed run in another process.

An export loads models and compares their outputs, which takes seconds to minutes and much memory;
the explorer's own process stays small.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from core.errors import CoreError, RunError, unknown_name
from core.runs.run import Run, RunState
from core.workspace import Workspace

FORMATS = {
    "peft": ("peft adapter", "Adapter and classifier, for peft on a plain timm model"),
    "merged": ("timm weights", "All weights in one file, as timm loads them"),
    "onnx": ("ONNX graph", "For onnxruntime, with any batch size"),
}
"""Formats that are offered: name → label of the button, and description."""


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    Attributes:
        folder: Where it was written, on the explorer's machine.
        size: Size in bytes.
        difference: Largest absolute difference between its logits and those of the run.
    """

    folder: Path
    size: int
    difference: float


def check_export(run: Run, format: str) -> None:
    """Check that a run can be exported, before a process is started.

    Raises:
        CoreError: The run is not completed, or there is no such format.
    """
    if format not in FORMATS:
        raise unknown_name("format", format, FORMATS)
    if run.state is not RunState.COMPLETED:
        raise RunError(f"The run {run.id} is {run.state}; only completed runs can be exported.")


def export_in_process(workspace: Workspace, run: Run, format: str) -> Exported:
    """Export a run into its own folder; an earlier export in the same format is replaced.

    Raises:
        CoreError: As ``check_export``, or the export failed.
    """
    check_export(run, format)
    command = [
        sys.executable, "-m", "core", "export", run.id, "--format", format, "--force", "--json",
        "--workspace", str(workspace.root),
    ]  # fmt: skip
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        raise CoreError(_error(finished.stderr))
    answer = json.loads(finished.stdout)
    return Exported(Path(answer["folder"]), answer["size"], answer["difference"])


def _error(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.strip()]
    if not lines:
        return "The export process was killed."
    return next((line for line in lines if line.startswith("Error: ")), lines[-1]).removeprefix(
        "Error: "
    )


def pack(exported: Exported, run: Run, format: str, parent: Path) -> Path:
    """Write an export into one zip file in a new folder below ``parent``.

    It is not compressed because weights do not compress.

    Raises:
        CoreError: The file cannot be written.
    """
    name = f"{run.id}-{format}"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        file = Path(tempfile.mkdtemp(dir=parent)) / f"{name}.zip"
        with zipfile.ZipFile(file, "w") as archive:
            for path in sorted(exported.folder.iterdir()):
                archive.write(path, f"{name}/{path.name}")
    except OSError as error:
        raise CoreError(
            f"The export is in {exported.folder}, but no zip file can be made ({error.strerror}).",
            "Copy it from there, or free disk space and export again.",
        ) from error
    return file
