"""The report of a check of a data set."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from core.data.problems import KINDS, MOST_EXAMPLES, Problem

RESTORE = "Copy or download these files again, or remove them from the lists."


@dataclass(frozen=True)
class Report:
    """The result of a check.

    Attributes:
        title: The displayed name of the data set.
        split: The split that was checked.
        images: Number of studies in its lists.
        patients: Number of patients.
        decoded: Number of decoded images; 0 if only lists and files were checked.
        complete: False if the check was stopped.
        seconds: Duration.
        problems: All problems, in the order of ``KINDS``, errors before warnings of a kind.
    """

    title: str
    split: str
    images: int
    patients: int
    decoded: int
    complete: bool
    seconds: float
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> int:
        """Number of problems that make results wrong or impossible."""
        return sum(problem.error for problem in self.problems)

    @property
    def warnings(self) -> int:
        """Number of problems that do not prevent a run."""
        return len(self.problems) - self.errors

    def verdict(self) -> str:
        """Return one sentence with the numbers of errors, warnings and images."""
        size = f"{self.images:,} images of {self.patients:,} patients"
        decoded = f"{self.decoded:,} images decoded" if self.decoded else "no image decoded"
        stopped = "" if self.complete else " The check was stopped."
        errors = f"{self.errors} error{'' if self.errors == 1 else 's'}"
        warnings = f"{self.warnings} warning{'' if self.warnings == 1 else 's'}"
        return f"{errors}, {warnings}: {size}, {decoded} in {self.seconds:.1f} s.{stopped}"

    def as_json(self) -> dict[str, Any]:
        """Return the report as one JSON value."""
        values = asdict(self)
        values["looked_at"], values["faults"] = values.pop("decoded"), values.pop("problems")
        return values | {"errors": self.errors, "warnings": self.warnings}


def problem(
    kind: str, names: Sequence[str], cause: str, remedy: str = "", *, error: bool = True
) -> Iterator[Problem]:
    """Yield one problem, or none if there are no names.

    Args:
        kind: One of ``KINDS``.
        names: What has the problem.
        cause: A sentence; ``{}`` is replaced by the number of names, ``{is|are}`` by the form for
            this number.
        remedy: What to do about it.
        error: False for a warning.
    """
    if names:
        cause = cause.replace("{}", f"{len(names):,}")
        cause = re.sub(r"\{(.*?)\|(.*?)\}", r"\1" if len(names) == 1 else r"\2", cause)
        shown = tuple(map(str, names[:MOST_EXAMPLES]))
        yield Problem(kind, cause, len(names), shown, remedy, error)


def ordered(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    """Sort problems by the order of ``KINDS``, errors of a kind before its warnings."""
    return tuple(sorted(problems, key=lambda each: (KINDS.index(each.kind), not each.error)))
