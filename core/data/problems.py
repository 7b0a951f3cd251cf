"""What is wrong with a data set: refused at once, or gathered to be told all together.

A reader calls ``refuse`` where a data set must not be used as it is. A run ends there. A check
opens the same reader inside ``gathering``: each refusal is noted, the reader goes on with what is
left, and no rule is written twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from core.errors import DataError

NAMED = 5
"""Examples that a message names."""

KINDS = (
    "cannot be opened",
    "missing files",
    "extra files",
    "empty files",
    "unreadable pictures",
    "wrong size",
    "constant pictures",
    "almost black pictures",
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
    "boxes outside the picture",
    "boxes without their label",
    "empty classes",
    "empty splits",
)
"""All kinds of faults, in the order in which they are told."""


@dataclass(frozen=True)
class Fault:
    """One kind of fault of a data set, with how often it was met.

    Attributes:
        kind: One of ``KINDS``.
        cause: What is wrong, as a sentence.
        count: How many pictures, rows, patients or findings it concerns.
        examples: Some of their names, at most ``NAMED``.
        remedy: What to do about it, as a sentence; empty where nothing needs to be done.
        error: Whether results would be wrong or impossible; otherwise it is a warning.
    """

    kind: str
    cause: str
    count: int = 1
    examples: tuple[str, ...] = ()
    remedy: str = ""
    error: bool = True


_gathered: ContextVar[list[Fault] | None] = ContextVar("gathered", default=None)
_passed: ContextVar[dict[str, list[str]] | None] = ContextVar("passed", default=None)


@contextmanager
def gathering() -> Iterator[list[Fault]]:
    """Inside, ``refuse`` and ``warn`` note into the list that is given, and nothing is raised."""
    found: list[Fault] = []
    token = _gathered.set(found)
    try:
        yield found
    finally:
        _gathered.reset(token)


@contextmanager
def passing(*kinds: str) -> Iterator[dict[str, list[str]]]:
    """Inside, faults of these kinds are passed over, and who is at fault is noted by kind."""
    found: dict[str, list[str]] = {kind: [] for kind in kinds}
    token = _passed.set(found)
    try:
        yield found
    finally:
        _passed.reset(token)


def refuse(kind: str, names: Sequence[str], error: DataError) -> None:
    """Refuse a data set; inside ``gathering``, or ``passing`` its kind, note it and return.

    Args:
        kind: One of ``KINDS``.
        names: What is at fault; at least one.
        error: What is raised.

    Raises:
        DataError: ``error``, where nobody notes it.
    """
    gathered, passed = _gathered.get(), _passed.get()
    if gathered is None and passed is not None and kind in passed:
        passed[kind] += names
        return
    if gathered is None:
        raise error
    gathered.append(Fault(kind, error.cause, len(names), tuple(names[:NAMED]), error.remedy))


def warn(kind: str, names: Sequence[str], cause: str, remedy: str, *, error: bool = False) -> None:
    """Note what a run passes over, if somebody gathers; otherwise do nothing.

    Args:
        kind: One of ``KINDS``.
        names: What is meant; nothing is noted if there is none.
        cause: What is wrong, as a sentence.
        remedy: What to do about it, as a sentence.
        error: Whether results would be wrong.
    """
    gathered = _gathered.get()
    if gathered is not None and names:
        gathered.append(Fault(kind, cause, len(names), tuple(names[:NAMED]), remedy, error))


def examples(names: Iterable[str]) -> str:
    """Some names for a message, with an ellipsis if there are more."""
    listed = list(names)
    return ", ".join(listed[:NAMED]) + (", …" if len(listed) > NAMED else "")
