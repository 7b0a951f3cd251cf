"""Route ``GET /api/runs``: all runs as JSON, for frequent requests.

Gradio's own protocol takes two requests and an event of its queue per answer, about thirty times
the cost of the answer. Here the answer is made again only if the store has changed, at most a few
times per second; requests in between get the same bytes.
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
from explorer.server.store_version import StoreVersion

PATH = "/api/runs"
REST = 4.0
"""Pause after making an answer, as a multiple of the time it took."""
MAX_PAUSE_SECONDS = 2.0


class Listing:
    """JSON answer with the runs of a store, the latest first, cached by the store's version."""

    def __init__(self, store: Store, store_version: StoreVersion) -> None:
        self._store = store
        self._store_version = store_version
        self._lock = threading.Lock()
        self._due = -float("inf")
        self._version: int | None = None
        self._answer = b"[]", '"0"'

    def fresh(self) -> bool:
        """Whether ``body`` would return the last answer without reading the store."""
        current = self._store_version.is_fresh() and self._store_version.value == self._version
        return current or time.monotonic() < self._due

    def body(self) -> tuple[bytes, str]:
        """The fields ``OUTLINE`` of each run as JSON, and a tag that changes with them.

        Raises:
            StoreError: The store cannot be read.
        """
        self._refresh()
        return self._answer

    def _refresh(self) -> None:
        # While one thread makes a new answer, the others return the last one.
        if self.fresh() or not self._lock.acquire(blocking=self._version is None):
            return
        try:
            if self.fresh():
                return
            version = self._store_version.read()  # first: a change while the runs are read counts
            if version != self._version:
                began = time.monotonic()
                runs = self._store.outlines()
                self._answer = json.dumps(runs, separators=(",", ":")).encode(), f'"{version}"'
                self._version = version
                took = time.monotonic() - began
                self._due = began + took + min(REST * took, MAX_PAUSE_SECONDS)
        finally:
            self._lock.release()


def route(listing: Listing) -> Route:
    """Route of the explorer's server that answers with the runs."""
    return Route(PATH, partial(_answer, listing), methods=["GET"])


async def _answer(listing: Listing, request: Request) -> Response:
    try:
        # A thread costs more than the answer, and is needed only to read the store.
        body, tag = listing.body() if listing.fresh() else await to_thread.run_sync(listing.body)
    except StoreError as error:
        return PlainTextResponse(str(error), status_code=503)
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)
