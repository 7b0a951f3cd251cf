"""Problems of a data set: a run raises the first one, a check collects all of them.

A reader calls ``raise_or_collect`` where a data set must not be used as it is, which ends a run. A
check opens the same reader inside ``collecting``: each problem is noted, the reader continues with
the rest of the data, and no rule is written twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from core.errors import DataError

MOST_EXAMPLES = 5
"""Examples in a message."""

KINDS = (
    "cannot be opened",
    "missing files",
    "extra files",
    "empty files",
    "unreadable images",
    "wrong size",
    "constant images",
    "almost black images",
    "duplicates across splits",
    "duplicates in a split",
    "near-duplicates across splits",
    "unknown labels",
    "contradictory labels",
    "repeated rows",
    "unknown splits",
    "paths outside the folder",
    "patients unknown",
    "patients in two splits",
    "boxes outside the image",
    "boxes without their label",
    "empty classes",
    "empty splits",
)
"""All kinds of problems, in the order in which they are reported."""


@dataclass(frozen=True)
class Problem:
    """One kind of problem of a data set, with the number of cases.

    Attributes:
        kind: One of ``KINDS``.
        cause: What is wrong, as a sentence.
        count: Number of images, rows, patients or findings with this problem.
        examples: Some of their names, at most ``MOST_EXAMPLES``.
        remedy: What to do about it, as a sentence; empty if nothing needs to be done.
        error: Whether results would be wrong or impossible; otherwise it is a warning.
    """

    kind: str
    cause: str
    count: int = 1
    examples: tuple[str, ...] = ()
    remedy: str = ""
    error: bool = True


_collected: ContextVar[list[Problem] | None] = ContextVar("collected", default=None)
_ignored: ContextVar[dict[str, list[str]] | None] = ContextVar("ignored", default=None)


@contextmanager
def collecting() -> Iterator[list[Problem]]:
    """Inside, ``raise_or_collect`` and ``warn`` append to the yielded list; nothing is raised."""
    problems: list[Problem] = []
    token = _collected.set(problems)
    try:
        yield problems
    finally:
        _collected.reset(token)


@contextmanager
def ignoring(*kinds: str) -> Iterator[dict[str, list[str]]]:
    """Inside, problems of these kinds are not raised; the yielded dict lists the names by kind."""
    ignored: dict[str, list[str]] = {kind: [] for kind in kinds}
    token = _ignored.set(ignored)
    try:
        yield ignored
    finally:
        _ignored.reset(token)


def raise_or_collect(kind: str, names: Sequence[str], error: DataError) -> None:
    """Raise an error; inside ``collecting``, or ``ignoring`` its kind, note it and return.

    Args:
        kind: One of ``KINDS``.
        names: What has the problem; at least one name.
        error: The error to raise.

    Raises:
        DataError: ``error``, outside of these two contexts.
    """
    collected, ignored = _collected.get(), _ignored.get()
    if collected is not None:
        shown = tuple(names[:MOST_EXAMPLES])
        collected.append(Problem(kind, error.cause, len(names), shown, error.remedy))
    elif ignored is not None and kind in ignored:
        ignored[kind] += names
    else:
        raise error


def warn(kind: str, names: Sequence[str], cause: str, remedy: str, *, error: bool = False) -> None:
    """Note what a run tolerates, inside ``collecting``; otherwise do nothing.

    Args:
        kind: One of ``KINDS``.
        names: What has the problem; nothing is noted if there is none.
        cause: What is wrong, as a sentence.
        remedy: What to do about it, as a sentence.
        error: Whether results would be wrong.
    """
    collected = _collected.get()
    if collected is not None and names:
        shown = tuple(names[:MOST_EXAMPLES])
        collected.append(Problem(kind, cause, len(names), shown, remedy, error))


def examples(names: Iterable[str]) -> str:
    """Some names for a message, with an ellipsis if there are more."""
    listed = list(names)
    return ", ".join(listed[:MOST_EXAMPLES]) + (", …" if len(listed) > MOST_EXAMPLES else "")
