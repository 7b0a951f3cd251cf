"""What a check of a data set answers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from core.data.problems import KINDS, NAMED, Fault

RESTORE = "Copy or download these files again, or take them out of the lists."


@dataclass(frozen=True)
class Report:
    """The answer of a check.

    Attributes:
        title: The data set's name for people.
        split: Which of its splits was checked.
        images: Studies in its lists.
        patients: Patients they come from.
        looked_at: Pictures that were decoded; 0 if only lists and files were checked.
        complete: False if it was stopped before the end.
        seconds: How long it took.
        faults: What was found, in the order of ``KINDS``, errors before warnings of a kind.
    """

    title: str
    split: str
    images: int
    patients: int
    looked_at: int
    complete: bool
    seconds: float
    faults: tuple[Fault, ...]

    @property
    def errors(self) -> int:
        """Kinds of faults that make results wrong or impossible."""
        return sum(fault.error for fault in self.faults)

    @property
    def warnings(self) -> int:
        """Kinds of faults to know of."""
        return len(self.faults) - self.errors

    def verdict(self) -> str:
        """One sentence: how many errors and warnings in how many images."""
        size = f"{self.images:,} images of {self.patients:,} patients"
        depth = f"{self.looked_at:,} pictures decoded" if self.looked_at else "no picture decoded"
        stopped = "" if self.complete else " Stopped before the end."
        errors = f"{self.errors} error{'' if self.errors == 1 else 's'}"
        warnings = f"{self.warnings} warning{'' if self.warnings == 1 else 's'}"
        return f"{errors}, {warnings}: {size}, {depth} in {self.seconds:.1f} s.{stopped}"

    def as_json(self) -> dict[str, Any]:
        """The report as one JSON value."""
        return asdict(self) | {"errors": self.errors, "warnings": self.warnings}


def fault(
    kind: str, names: Sequence[str], cause: str, remedy: str = "", *, error: bool = True
) -> Iterator[Fault]:
    """One fault, or none if there are no names.

    Args:
        kind: One of ``KINDS``.
        names: What is at fault.
        cause: A sentence; ``{}`` in it becomes their number, ``{is|are}`` the form that fits it.
        remedy: What to do about it.
        error: False for a warning.
    """
    if names:
        cause = cause.replace("{}", f"{len(names):,}")
        cause = re.sub(r"\{(.*?)\|(.*?)\}", r"\1" if len(names) == 1 else r"\2", cause)
        yield Fault(kind, cause, len(names), tuple(map(str, names[:NAMED])), remedy, error)


def ordered(found: Sequence[Fault]) -> tuple[Fault, ...]:
    """Faults in the order of ``KINDS``, errors of a kind before its warnings."""
    return tuple(sorted(found, key=lambda fault: (KINDS.index(fault.kind), not fault.error)))
