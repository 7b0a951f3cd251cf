"""All runs as one JSON answer for frequent requests: ``GET /api/runs``.

Gradio's own protocol takes two requests and an event in its queue for each answer, some thirty
times the cost of the answer itself. Here an answer is made at most a few times per second, and only
if the store has changed; all requests in between get the same bytes.
"""

from __future__ import annotations

import json
import threading
import time

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from core.errors import StoreError
from core.runs.store import Store

PATH = "/api/runs"
REFRESH_SECONDS = 0.25
PAUSE = 4.0
"""Pause after an answer, as a multiple of the time that it took to make."""
MOST_SECONDS = 2.0
"""Longest pause."""


class RunList:
    """The runs of a store, the latest first, at most ``MOST_SECONDS`` old.

    Args:
        store: The store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._due = -float("inf")
        self._version: int | None = None
        self._body = b"[]", '"0"'

    def route(self) -> Route:
        """The route of the explorer's server that answers with the runs."""
        return Route(PATH, self._answer, methods=["GET"])

    def fresh(self) -> bool:
        """Whether the last answer is still valid, so that ``body`` does not read the store."""
        return time.monotonic() < self._due

    def body(self) -> tuple[bytes, str]:
        """The outlines of the runs as JSON, and a tag that changes whenever they may have.

        Raises:
            StoreError: The store cannot be read.
        """
        # While one thread makes a new answer, the others return the last one.
        if self.fresh() or not self._lock.acquire(blocking=self._version is None):
            return self._body
        try:
            if not self.fresh():
                self._refresh()
        finally:
            self._lock.release()
        return self._body

    def _refresh(self) -> None:
        began = time.monotonic()
        version = self._store.version()  # before the runs: a change in between is seen later
        if version != self._version:
            runs = self._store.outlines()
            self._body = json.dumps(runs, separators=(",", ":")).encode(), f'"{version}"'
            self._version = version
        took = time.monotonic() - began
        self._due = began + max(REFRESH_SECONDS, min(PAUSE * took, MOST_SECONDS))

    async def _answer(self, request: Request) -> Response:
        try:
            # A thread costs more than the answer, and is needed only to read the store.
            body, tag = self.body() if self.fresh() else await to_thread.run_sync(self.body)
        except StoreError as error:
            return PlainTextResponse(str(error), status_code=503)
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="application/json", headers=headers)
