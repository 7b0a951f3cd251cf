"""Errors that a user can fix, each with its cause and its remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CoreError(Exception):
    """Base class of errors that a user can understand and fix.

    Args:
        cause: What is wrong, as a sentence.
        remedy: What the user can do about it, as a sentence; empty if nothing can be done.
        field: Dotted name of the ``RunSpec`` field that causes the error (``"data.root"``), if
            there is one; the launch form shows the message next to that field.
    """

    kind = "other"

    def __init__(self, cause: str, remedy: str = "", *, field: str | None = None) -> None:
        super().__init__(f"{cause} {remedy}".strip())
        self.cause = cause
        self.remedy = remedy
        self.field = field


class ConfigurationError(CoreError):
    """The settings of a run are not valid or do not fit together."""

    kind = "configuration"


class DataError(CoreError):
    """A data set, a split or an image is missing, incomplete or unreadable."""

    kind = "data"


class WriteError(DataError):
    """A file of a run cannot be written: the disk is full or the folder is not writable."""

    kind = "other"


class ModelError(CoreError):
    """A backbone, a checkpoint or an adapter cannot be built or loaded."""

    kind = "configuration"


class NotFiniteError(CoreError):
    """The loss or the weights became NaN or infinite."""

    kind = "not finite"


class OutOfMemoryError(CoreError):
    """The device or the host has not enough memory for the run."""

    kind = "out of memory"


class StoreError(CoreError):
    """The store of runs is missing, locked, damaged or of another version."""

    kind = "other"


class RunError(CoreError):
    """A run is unknown, or its state does not allow the requested action."""

    kind = "other"


def unknown_name(
    kind: str,
    name: str,
    known: Iterable[str],
    *,
    error: type[CoreError] = ConfigurationError,
    field: str | None = None,
) -> CoreError:
    """Build the error for an unknown name; the closest known names are listed first.

    Args:
        kind: Kind of the name, in the singular: ``"backbone"``.
        name: The unknown name.
        known: All known names.
        error: The class of the error to build.
        field: The ``RunSpec`` field that holds the name, if there is one.

    Returns:
        The error, for the caller to raise.
    """
    names = list(known)
    close = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.4)
    listed = ", ".join(close + [other for other in names if other not in close])
    suggestion = f"Did you mean {close[0]}? " if close else ""
    return error(f"Unknown {kind} “{name}”.", f"{suggestion}Known: {listed}.", field=field)


class Stopped(Exception):  # noqa: N818 - the expected outcome of a request, not an error
    """A run stopped at the user's request, after it wrote a checkpoint."""
