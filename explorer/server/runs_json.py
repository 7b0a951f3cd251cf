"""All runs as one JSON answer for whoever asks again and again: ``GET /api/runs``.

Gradio's own protocol takes two requests and an event in its queue for each answer, some thirty
times what the answer itself costs. Here an answer is made at most a few times a second, and only
where the store has changed; everybody who asks in between is given the same bytes.
"""

from __future__ import annotations

import json
import threading
import time
from functools import partial

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from core.errors import StoreError
from core.runs.store import Store

PATH = "/api/runs"
REFRESH_SECONDS = 0.25
REST = 4.0
"""After an answer that took long to make, the next is not begun for so many times as long."""
MOST_SECONDS = 2.0


class Listing:
    """The runs of a store, the latest first, as they were at most a moment ago.

    Args:
        store: The store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._due = -float("inf")
        self._version: int | None = None
        self._answer = b"[]", '"0"'

    def fresh(self) -> bool:
        """Whether the last answer still holds, so that ``body`` does not touch the store."""
        return time.monotonic() < self._due

    def body(self) -> tuple[bytes, str]:
        """A few fields of each run as JSON, and a tag that changes whenever they may have.

        Raises:
            StoreError: The store cannot be read.
        """
        self._refresh()
        return self._answer

    def _refresh(self) -> None:
        # While one thread makes a new answer, the others give the last one.
        if self.fresh() or not self._lock.acquire(blocking=self._version is None):
            return
        try:
            if self.fresh():
                return
            began = time.monotonic()
            version = self._store.version()  # before the runs: a change in between is seen later
            if version != self._version:
                runs = self._store.outlines()
                self._answer = json.dumps(runs, separators=(",", ":")).encode(), f'"{version}"'
                self._version = version
            took = time.monotonic() - began
            self._due = began + max(REFRESH_SECONDS, min(REST * took, MOST_SECONDS))
        finally:
            self._lock.release()


def route(listing: Listing) -> Route:
    """The place in the explorer's server at which the list is asked for."""
    return Route(PATH, partial(_answer, listing), methods=["GET"])


async def _answer(listing: Listing, request: Request) -> Response:
    try:
        # A thread costs more than the answer, and is needed only where the store is asked.
        found = listing.body() if listing.fresh() else await to_thread.run_sync(listing.body)
    except StoreError as error:
        return PlainTextResponse(str(error), status_code=503)
    body, tag = found
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)
