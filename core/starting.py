"""How a process of this software starts."""

from __future__ import annotations

import gc


def spare_garbage() -> None:
    """Look for garbage seldom: nearly all that a start makes, modules and functions, stays.

    With Python's own thresholds it took a fifth of the seconds in which the libraries load.
    """
    gc.set_threshold(100_000, 50, 100)
