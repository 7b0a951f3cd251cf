"""What several pages do for the user: open another page, queue runs, say what is not possible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from core.config.run import RunSpec
from core.errors import CoreError
from core.runs import queue
from core.runs.store import Store
from explorer.context import Context


class PageLinks:
    """The pages that a page sends the user to.

    A handler that may open one of them has ``outputs`` as its last outputs, and returns for them
    ``open(page, …)`` or ``stay()``.
    """

    def __init__(self, context: Context, pages: Sequence[str]) -> None:
        self._context = context
        self._pages = tuple(pages)

    @property
    def outputs(self) -> list[Any]:
        """The tabs, and the inbox of each page."""
        return [self._context.tabs, *(self._context.inboxes[page] for page in self._pages)]

    def stay(self) -> list[Any]:
        """Updates that leave the user on the page."""
        return [gr.skip()] * (1 + len(self._pages))

    def open(self, page: str, **request: Any) -> list[Any]:
        """Updates that open one of the pages with a request (see ``Context.request``)."""
        tabs, message = self._context.request(page, **request)
        return [tabs, *(message if name == page else gr.skip() for name in self._pages)]


def queue_runs(store: Store, specs: Sequence[RunSpec]) -> None:
    """Queue runs and show how many.

    Raises:
        CoreError: A run cannot be queued.
    """
    for spec in specs:
        queue.submit(store, spec)
    if specs:
        runs = "1 run" if len(specs) == 1 else f"{len(specs)} runs"
        gr.Info(f"{runs} queued. The Runs page shows the progress.", title="Queued", duration=6)


def warn(error: CoreError) -> None:
    """Show why an action is not possible."""
    gr.Warning(str(error), title="Not possible", duration=8)
