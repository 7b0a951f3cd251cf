"""A finished run for other programs: what is offered, the work in a process of its own, the answer.

An export loads and compares models, which takes seconds to minutes and much memory; the explorer's
own process stays light.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from html import escape
from pathlib import Path

from core.errors import CoreError, RunError, unknown_name
from core.runs.run import Run, RunState
from core.workspace import Workspace
from explorer.templates import error_message

FORMATS = {
    "peft": ("peft adapter", "Adapter and classifier, for peft on a plain timm model"),
    "merged": ("timm weights", "All weights in one file, as timm loads them"),
    "onnx": ("ONNX graph", "For onnxruntime, with any batch size"),
}
"""What is offered: format → words on its button, and what it is."""


@dataclass(frozen=True)
class Exported:
    """What came of an export.

    Attributes:
        folder: Where it is, on the machine of the explorer.
        size: Its size in bytes.
        difference: Largest difference of the logits from those of the run.
    """

    folder: Path
    size: int
    difference: float


def check_export(run: Run, format: str) -> None:
    """Refuse what cannot be exported, before anything is started.

    Raises:
        CoreError: The run has not completed, or there is no such format.
    """
    if format not in FORMATS:
        raise unknown_name("format", format, FORMATS)
    if run.state is not RunState.COMPLETED:
        raise RunError(f"The run {run.id} is {run.state}; only completed runs can be exported.")


def export_in_process(workspace: Workspace, run: Run, format: str) -> Exported:
    """Export a run into its own folder, where an earlier export of the format is replaced.

    Raises:
        CoreError: As ``refuse``, and whatever the export says.
    """
    check_export(run, format)
    command = [
        sys.executable, "-m", "core", "export", run.id, "--format", format, "--force", "--json",
        "--workspace", str(workspace.root),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it was killed"]
        said = next((line for line in lines if line.startswith("Error: ")), lines[-1])
        raise CoreError(said.removeprefix("Error: "))
    written = json.loads(done.stdout)
    return Exported(Path(written["folder"]), written["size"], written["difference"])


def pack(exported: Exported, run: Run, format: str, place: Path) -> Path:
    """Put an export into one file, stored as it is: weights do not shrink.

    Args:
        exported: What ``carry_out`` gave.
        run: The run, which names the file.
        format: The format, likewise.
        place: Folder for it; it gets a new one within.

    Raises:
        CoreError: The file cannot be written.
    """
    name = f"{run.id}-{format}"
    try:
        place.mkdir(parents=True, exist_ok=True)
        file = Path(tempfile.mkdtemp(dir=place)) / f"{name}.zip"
        with zipfile.ZipFile(file, "w") as archive:
            for one in sorted(exported.folder.iterdir()):
                archive.write(one, f"{name}/{one.name}")
    except OSError as error:
        raise CoreError(
            f"The export is in {exported.folder}, but cannot be packed ({error.strerror}).",
            "Take it from there, or free some space.",
        ) from error
    return file


def menu(run: Run) -> str:
    """HTML of the button that offers the formats, or says why it cannot."""
    if run.state is not RunState.COMPLETED:
        return (
            '<button type="button" class="cxr-button" disabled '
            'title="Only completed runs can be exported">Export</button>'
        )
    choices = "".join(
        f'<button type="button" class="cxr-button" data-act="export" data-run="{escape(run.id)}" '
        f'data-format="{format}" title="{escape(about)}">{escape(words)}</button>'
        for format, (words, about) in FORMATS.items()
    )
    return (
        '<details class="cxr-menu" data-key="export"><summary class="cxr-button">Export</summary>'
        f'<div class="cxr-row">{choices}</div></details>'
    )


def busy(run: Run, format: str) -> str:
    """HTML while an export is being made."""
    return (
        f'<p class="cxr-muted" role="status">Exporting {escape(run.name)} as {FORMATS[format][0]}: '
        "written, loaded again and compared. This takes from seconds to a few minutes.</p>"
    )


def outcome(run: Run, format: str, exported: Exported) -> str:
    """HTML of an export that was made: where it is, and how close it is to the run."""
    place = escape(str(exported.folder))
    close = "equal the run’s"
    if exported.difference > 0:
        close = f"differ from the run’s by at most {exported.difference:.1g}"
    return (
        f'<p role="status"><b>{escape(run.name)}</b> as {FORMATS[format][0]}, '
        f"{exported.size / 1e6:,.1f} MB. Loaded again, its logits {close}. "
        f'<span class="cxr-mono">{place}</span> '
        f'<button type="button" class="cxr-button" data-act="copy" data-text="{place}">Copy path'
        "</button></p>"
    )


def failure(run: Run, format: str, error: CoreError) -> str:
    """HTML of an export that was refused or failed."""
    heading = f"<b>{escape(run.name)}</b> as {escape(FORMATS.get(format, (format,))[0])}:"
    return f"<p>{heading}</p>{error_message(error)}"
