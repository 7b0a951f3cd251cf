"""The few kinds of error a user can meet, each with its cause and its remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CoreError(Exception):
    """A fault that a user can understand and mend.

    Args:
        cause: What is wrong, as a sentence that names the thing.
        remedy: What the user can do about it, as a sentence; empty where nothing can be done.
        field: The dotted name of the ``RunSpec`` field at fault (``"data.root"``), if there is
            one: a form shows the message beside that field.
    """

    kind = "other"

    def __init__(self, cause: str, remedy: str = "", *, field: str | None = None) -> None:
        super().__init__(f"{cause} {remedy}".strip())
        self.cause = cause
        self.remedy = remedy
        self.field = field


class ConfigurationError(CoreError):
    """The settings of a run cannot be carried out as they stand."""

    kind = "configuration"


class DataError(CoreError):
    """A data set, a split or an image is missing, incomplete or unreadable."""

    kind = "data"


class WriteError(DataError):
    """A file of a run cannot be written: the disk is full, or the folder not writable."""

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
    """A run is unknown, or in a state that does not allow what was asked."""

    kind = "other"


def unknown_name(
    kind: str,
    name: str,
    known: Iterable[str],
    *,
    error: type[CoreError] = ConfigurationError,
    field: str | None = None,
) -> CoreError:
    """Build the error for a name that is in no registry, naming the closest known ones first.

    Args:
        kind: What was looked up, in the singular: ``"backbone"``.
        name: The name that was not found.
        known: Every name that would have been found.
        error: The class of the error to build.
        field: The ``RunSpec`` field at fault, if there is one.

    Returns:
        The error, to be raised by the caller.
    """
    everything = list(known)
    close = difflib.get_close_matches(name.lower(), everything, n=3, cutoff=0.4)
    rest = [one for one in everything if one not in close]
    listed = ", ".join(close + rest)
    meant = f"Did you mean {close[0]}? " if close else ""
    return error(f"Unknown {kind} “{name}”.", f"{meant}Known: {listed}.", field=field)


class Stopped(Exception):  # noqa: N818 - it is an answer to a request, not an error
    """The user asked a run to stop, and it did so after writing a checkpoint."""
