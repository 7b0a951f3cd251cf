"""What every page gets: the workspace, the store, and requests to other pages."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from core.runs.store import Store
from core.workspace import Workspace

_serial = itertools.count(1)


@dataclass(frozen=True)
class Context:
    """The explorer as a page sees it.

    A page is a module with ``TITLE: str`` and ``build(context, tab) -> None``, which is called
    inside its ``gr.Tab``. Pages do not import each other; a page sends a request to another one,
    which receives it in its inbox::

        button.click(
            lambda run: context.request("saliency", run=run), run_id, context.outputs("saliency")
        )
        context.inboxes["saliency"].change(open_request, context.inboxes["saliency"], [...])

    Attributes:
        workspace: Place of runs and caches.
        store: The store of runs.
        blocks: The whole explorer; ``blocks.load`` fires when the explorer is opened in a browser.
        tabs: All pages; ``gr.Tabs(selected=NAME)`` shows one.
        inboxes: One state for each page: None, or the request as a dict (see ``request``).
        pulses: One component for each page: its ``click`` fires when a run, a metric or a state may
            have changed. Only the visible page is notified, within a second of the change or of
            being opened.
    """

    workspace: Workspace
    store: Store
    blocks: gr.Blocks
    tabs: gr.Tabs
    inboxes: Mapping[str, gr.State]
    pulses: Mapping[str, gr.HTML]

    def outputs(self, page: str) -> list[Any]:
        """The outputs of a handler that returns ``request(page, …)``."""
        return [self.tabs, self.inboxes[page]]

    def request(self, page: str, **wanted: Any) -> list[Any]:
        """Show another page and send it a request.

        Args:
            page: Name of the page.
            **wanted: ``launch``: ``spec`` (RunSpec as JSON). ``runs``: ``run`` (id) or ``tuning``
                (name). ``compare``: ``runs`` (ids). ``saliency``: ``run``, optionally ``study`` and
                ``finding``. ``data``: ``data`` (name of the data set), optionally ``study``.
        """
        return [gr.Tabs(selected=page), {"serial": next(_serial), **wanted}]
