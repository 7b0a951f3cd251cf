"""Tells an open page that the store has changed: ``GET /api/version``, asked every second.

The page enters Gradio's queue only after a change, and only for the page whose tab is open: an
answer from there costs twenty times as much, in the server as in the browser, which computes on the
cores that the run is trained on. A window that nobody sees does not ask.
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
"""What the document then says, with the name of the page that is seen."""

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
