"""Settings of the Python process, applied at start-up."""

from __future__ import annotations

import atexit
import gc


def relax_garbage_collection() -> None:
    """Run the garbage collector less often during start-up, and not at exit.

    Nearly all objects that are created while the libraries load stay alive. With Python's default
    thresholds, collections take a fifth of the loading time, and the collection at the exit of a
    process that has loaded torch takes one and a half seconds.
    """
    gc.set_threshold(100_000, 50, 100)
    atexit.register(gc.freeze)
