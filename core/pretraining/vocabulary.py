"""Vocabulary of the reports: words as numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PAD, MASK, UNKNOWN = range(3)
"""Numbers of padding, of a masked word, and of a word that is not in the vocabulary."""

_WORD = re.compile(r"[a-z]+|[.,]")


def words(report: str) -> list[str]:
    """The words of a report in lower case; full stops and commas count as words."""
    return _WORD.findall(report.lower())


@dataclass(frozen=True)
class Vocabulary:
    """The words of a vocabulary.

    Attributes:
        known: The words; the first one has the number ``UNKNOWN + 1``.
    """

    known: tuple[str, ...]

    @classmethod
    def of(cls, reports: Sequence[str], least: int = 2) -> Vocabulary:
        """The words that occur at least ``least`` times in the reports, the most frequent first."""
        counts = Counter(word for report in reports for word in words(report))
        by_frequency = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return cls(tuple(word for word, count in by_frequency if count >= least))

    def __len__(self) -> int:
        """Number of word numbers, padding, mask and unknown included."""
        return UNKNOWN + 1 + len(self.known)

    def encode(self, reports: Sequence[str], longest: int = 96) -> NDArray[np.int64]:
        """Reports as word numbers, int64 of shape [reports, words of the longest report].

        Args:
            reports: Texts; an empty text becomes padding.
            longest: Largest number of words per report; further words are dropped.
        """
        number = {word: UNKNOWN + 1 + i for i, word in enumerate(self.known)}
        lines = [[number.get(w, UNKNOWN) for w in words(report)[:longest]] for report in reports]
        table = np.full((len(lines), max([1, *map(len, lines)])), PAD, np.int64)
        for row, line in zip(table, lines, strict=True):
            row[: len(line)] = line
        return table
