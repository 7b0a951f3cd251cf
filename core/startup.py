"""How a process of this software starts, and how it ends."""

from __future__ import annotations

import atexit
import gc


def spare_garbage() -> None:
    """Look for garbage seldom, and not at the end: nearly all that a start makes stays.

    With Python's own thresholds it took a fifth of the seconds in which the libraries load; at the
    end of a process that has loaded torch it took another second and a half.
    """
    gc.set_threshold(100_000, 50, 100)
    atexit.register(gc.freeze)
