"""Notify an open page when the store has changed: ``GET /api/version``, requested every second.

A page enters Gradio's queue only after a change, and only if its tab is open: a request there costs
twenty times as much, in the server and in the browser, which share the cores with training. A
hidden window sends no requests.
"""

from __future__ import annotations

import threading
import time

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from core.errors import StoreError
from core.runs.store import Store

PATH = "/api/version"
EVENT = "cxr-changed"
"""Event of the document after a change; its detail is the name of the visible page."""

REUSE_SECONDS = 0.25
"""Time for which one reading of the version answers all requests."""

POLL_SCRIPT = f"""
let version = null, shown = null;
const poll = async () => {{
  if (!element.isConnected) return;
  if (!document.hidden) {{
    try {{
      const answer = await fetch('{PATH[1:]}', {{ cache: 'no-store' }});
      const latest = answer.ok ? await answer.text() : null;
      const page = window.cxr.page();
      // Without a known version, every second may bring a change.
      if (latest === null || latest !== version || page !== shown) {{
        const change = new CustomEvent('{EVENT}', {{ detail: page, cancelable: true }});
        // No page has handled the event if it was not there yet: it gets the next one.
        if (!document.dispatchEvent(change)) [version, shown] = [latest, page];
      }}
    }} catch {{ /* the explorer is not running; it may come back */ }}
  }}
  window.setTimeout(poll, 1000);
}};
document.addEventListener('visibilitychange', () => {{ if (!document.hidden) version = null; }});
poll();
"""
"""Script of the component that requests the version."""


def listener_script(page: str) -> str:
    """Script of a component whose ``click`` notifies one page that the store may have changed."""
    return f"""
document.addEventListener('{EVENT}', (event) => {{
  if (event.detail !== '{page}' || !element.isConnected) return;
  event.preventDefault();
  trigger('click', {{}});
}});
"""


class StoreVersion:
    """The store's version, at most ``REUSE_SECONDS`` old.

    Args:
        store: The store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._due = -float("inf")
        self._version = 0

    def route(self) -> Route:
        """The route of the explorer's server that answers with the version."""
        return Route(PATH, self._answer, methods=["GET"])

    async def _answer(self, request: Request) -> Response:
        try:
            if time.monotonic() >= self._due:
                await to_thread.run_sync(self._refresh)
        except StoreError as error:
            return PlainTextResponse(str(error), status_code=503)
        return PlainTextResponse(str(self._version), headers={"Cache-Control": "no-store"})

    def _refresh(self) -> None:
        with self._lock:
            if time.monotonic() >= self._due:
                self._version = self._store.version()
                self._due = time.monotonic() + REUSE_SECONDS
