"""The row that shows an export: its progress, its result and the file to download."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from core.errors import CoreError
from core.runs.run import Run
from explorer.components.live_region import live
from explorer.components.page_actions import warn
from explorer.context import Context
from explorer.pages.runs.export import FORMATS, Exported, check_export, export_in_process, pack
from explorer.templates import render


class ExportPanel:
    """The row below the table of runs in which an export is answered; laid out where called."""

    def __init__(self, context: Context) -> None:
        self._context = context
        with gr.Row(elem_id="runs-export", visible=False) as self._row:
            self._message = live(elem_id="runs-export-answer")
            self._file = gr.DownloadButton(
                "Download as zip", size="sm", visible=False, elem_id="runs-export-file", scale=0
            )

    def listen(self, detail: gr.HTML) -> None:
        """Export the selected run when its menu asks for it, at most two at a time."""
        detail.click(
            self.export,
            outputs=[self._row, self._message, self._file],
            api_visibility="private",
            show_progress="hidden",
            trigger_mode="multiple",
            concurrency_id="export",
            concurrency_limit=2,
        )

    def export(self, event: gr.EventData) -> Iterator[list[Any]]:
        """Export a run; yields updates of the row, its message and its file."""
        yield from export_updates(
            self._context, dict(event._data), Path(self._file.GRADIO_CACHE)
        )  # fmt: skip


def export_updates(
    context: Context, request: Mapping[str, Any], cache: Path
) -> Iterator[list[Any]]:
    """Export a run as the page asks, and report each step.

    Args:
        context: The explorer.
        request: ``act``, ``run`` and ``format``; every other act than ``export`` is ignored.
        cache: Folder of files that may be downloaded.

    Yields:
        Updates of the row, its message and its file.
    """
    if request.get("act") != "export":
        yield [gr.skip()] * 3
        return
    format = str(request.get("format"))
    try:
        run = context.store.get(str(request.get("run")))
    except CoreError as error:
        warn(error)
        yield [gr.skip()] * 3
        return
    no_file = gr.DownloadButton(visible=False)
    try:
        check_export(run, format)
        yield [gr.Row(visible=True), message(run, format), no_file]
        exported = export_in_process(context.workspace, run, format)
        file = pack(exported, run, format, cache)
    except CoreError as error:
        yield [gr.Row(visible=True), message(run, format, error=error), no_file]
        return
    yield [
        gr.Row(visible=True),
        message(run, format, exported=exported),
        gr.DownloadButton(value=file, visible=True),
    ]


def message(
    run: Run, format: str, *, exported: Exported | None = None, error: CoreError | None = None
) -> Markup:
    """HTML of an export that is running, or of its result or error."""
    label, _ = FORMATS.get(format, (format, ""))
    return render(
        "pages/runs/export_panel.html.j2", run=run, label=label, exported=exported, error=error
    )
