"""Cache of the store's version, shared by all routes that ask whether anything has changed."""

from __future__ import annotations

import threading
import time

from core.runs.store import Store

REFRESH_SECONDS = 0.25
"""How long a version is used before it is read again."""


class StoreVersion:
    """Version of a store, read at most once per ``REFRESH_SECONDS`` for all requests."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._due = -float("inf")
        self.value = 0

    def is_fresh(self) -> bool:
        """Whether ``read`` would return ``value`` without reading the store."""
        return time.monotonic() < self._due

    def read(self) -> int:
        """The version; it is read from the store if the last one is too old.

        Raises:
            StoreError: The store cannot be read.
        """
        with self._lock:
            if not self.is_fresh():
                self.value = self._store.version()
                self._due = time.monotonic() + REFRESH_SECONDS
            return self.value
