"""Words of reports as numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PAD, MASK, UNKNOWN = range(3)
"""What stands for no word, for a word that is to be guessed, and for a word that is not known."""

_WORD = re.compile(r"[a-z]+|[.,]")


def words(report: str) -> list[str]:
    """The words of a report in lower case; a full stop and a comma are words."""
    return _WORD.findall(report.lower())


@dataclass(frozen=True)
class Vocabulary:
    """The words that are known.

    Attributes:
        known: Words; the first one has the number ``UNKNOWN + 1``.
    """

    known: tuple[str, ...]

    @classmethod
    def of(cls, reports: Sequence[str], least: int = 2) -> Vocabulary:
        """The words that these reports use at least so often, the most frequent first."""
        counts = Counter(word for report in reports for word in words(report))
        often = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
        return cls(tuple(word for word, count in often if count >= least))

    def __len__(self) -> int:
        """How many numbers there are."""
        return UNKNOWN + 1 + len(self.known)

    def encode(self, reports: Sequence[str], longest: int = 96) -> NDArray[np.int64]:
        """Reports as numbers of shape [reports, words of the longest one]; empty ones are padding.

        Args:
            reports: Texts.
            longest: Words that are kept of a report.
        """
        number = {word: UNKNOWN + 1 + i for i, word in enumerate(self.known)}
        lines = [[number.get(w, UNKNOWN) for w in words(report)[:longest]] for report in reports]
        table = np.full((len(lines), max([1, *map(len, lines)])), PAD, np.int64)
        for row, line in zip(table, lines, strict=True):
            row[: len(line)] = line
        return table
