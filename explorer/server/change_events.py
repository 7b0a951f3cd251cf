"""Notify an open page when the store has changed: ``GET /api/version``, requested every second.

A page enters Gradio's queue only after a change, and only if its tab is open: a request there costs
twenty times as much, in the server and in the browser, which share the cores with training. A
hidden window sends no requests.
"""

from __future__ import annotations

from functools import partial

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from core.errors import StoreError
from explorer.server.store_version import StoreVersion

PATH = "/api/version"
EVENT = "cxr-changed"
"""Event of the document after a change; its detail is the name of the visible page."""

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


def route(version: StoreVersion) -> Route:
    """Route of the explorer's server that answers with the version."""
    return Route(PATH, partial(_answer, version), methods=["GET"])


async def _answer(version: StoreVersion, request: Request) -> Response:
    try:
        # A thread costs more than the answer, and is needed only to read the store.
        value = version.value if version.is_fresh() else await to_thread.run_sync(version.read)
    except StoreError as error:
        return PlainTextResponse(str(error), status_code=503)
    return PlainTextResponse(str(value), headers={"Cache-Control": "no-store"})
