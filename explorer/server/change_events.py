"""Tells an open page that the store has changed: ``GET /api/version``, asked every second.

The page enters Gradio's queue only after a change, and only for the page whose tab is open: an
answer from there costs twenty times as much, in the server as in the browser, which computes on the
cores that the run is trained on. A window that nobody sees does not ask.
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
"""What the document then says, with the name of the page that is seen."""

HOLDS_SECONDS = 0.25
"""How long an answer is given to everybody who asks."""

ON_LOAD = f"""
let known = null, shown = null;
const ask = async () => {{
  if (!element.isConnected) return;
  if (!document.hidden) {{
    try {{
      const answer = await fetch('{PATH[1:]}', {{ cache: 'no-store' }});
      const said = answer.ok ? await answer.text() : null;
      const page = window.cxr.page();
      // Where nobody answers for the version, each time may be a change.
      if (said === null || said !== known || page !== shown) {{
        const told = new CustomEvent('{EVENT}', {{ detail: page, cancelable: true }});
        // A page that was not there yet is told again.
        if (!document.dispatchEvent(told)) [known, shown] = [said, page];
      }}
    }} catch {{ /* the explorer is not running; it may come back */ }}
  }}
  window.setTimeout(ask, 1000);
}};
document.addEventListener('visibilitychange', () => {{ if (!document.hidden) known = null; }});
ask();
"""
"""Script of the component that asks."""


def heard_by(page: str) -> str:
    """Script of a component whose ``click`` says that the store may have changed, to one page."""
    return f"""
document.addEventListener('{EVENT}', (event) => {{
  if (event.detail !== '{page}' || !element.isConnected) return;
  event.preventDefault();
  trigger('click', {{}});
}});
"""


class Pulse:
    """The store's version as it was at most a moment ago.

    Args:
        store: The store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._due = -float("inf")
        self._version = 0

    def route(self) -> Route:
        """The place in the explorer's server at which the version is asked for."""
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
                self._due = time.monotonic() + HOLDS_SECONDS
