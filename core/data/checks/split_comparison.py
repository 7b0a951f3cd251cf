"""Whether two data sets are the same pictures in the same splits, as far as labels can tell."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.data.base import SPLITS, ChestDataset
from core.errors import DataError

SAME = 0.98
"""Share of agreeing rows from which an order is called the same: the label revision of NIH in 2020
changed 0.4% of its rows."""

BEYOND = 6.0
"""Standard deviations by which the agreement has to exceed that of a shuffled order. Lists that are
sorted by label agree without being of the same pictures; no published one is."""


@dataclass(frozen=True)
class SplitComparison:
    """One split of two data sets.

    Attributes:
        split: ``train``, ``val`` or ``test``.
        counts: Studies in the first and in the second.
        agreeing: Share of the positions at which both have the same labels in all findings they
            share, 0 to 1; None where the counts differ.
        chance: What that share would be if the second were shuffled; None likewise.
        shared: Share of the rows that can be paired with a row of the same labels in the other,
            whatever the order, of the larger of the two.
        verdict: ``same order``, ``same labels``, ``different`` or ``unclear``.
    """

    split: str
    counts: tuple[int, int]
    agreeing: float | None
    chance: float | None
    shared: float
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """The answer for all splits.

    Attributes:
        titles: The two data sets with their splits, for people.
        findings: Those that both know, in the first's order.
        splits: One answer a split.
    """

    titles: tuple[str, str]
    findings: tuple[str, ...]
    splits: tuple[SplitComparison, ...]

    @property
    def same(self) -> bool:
        """Whether every split has the same labels in the same order."""
        return all(one.verdict == "same order" for one in self.splits)

    def sentence(self) -> str:
        """The answer in words."""
        words = [one.verdict for one in self.splits]
        if self.same:
            return (
                "The same splits: in each, the labels agree in order far beyond chance, so the "
                "pictures are the same."
            )
        if all(one.counts[0] == one.counts[1] for one in self.splits):
            if all(word in ("same order", "same labels") for word in words):
                return (
                    "The same labels in each split, in another order: probably the same pictures; "
                    "only the pictures themselves can tell."
                )
            return (
                "Equal counts, yet not the same pictures: the labels differ."
                if "different" in words
                else "Equal counts; the labels vary too little to tell whether pictures are the "
                "same."
            )
        return "Not the same splits: the counts differ."


def compare(first: ChestDataset, second: ChestDataset) -> Comparison:
    """Compare the splits of two data sets by their labels in order.

    Args:
        first: One data set.
        second: The other; findings are matched by name, without regard to case and ``_``.

    Raises:
        DataError: They share no finding.
    """
    other = {_plain(name): i for i, name in enumerate(second.findings)}
    shared = [name for name in first.findings if _plain(name) in other]
    if not shared:
        raise DataError(
            f"{first.title} and {second.title} share no finding by name.",
            "Only data sets with common findings can be compared.",
        )
    columns = (
        [first.findings.index(name) for name in shared],
        [other[_plain(name)] for name in shared],
    )
    found = []
    for split in SPLITS:
        a, b = (
            dataset.labels(dataset.ids(split))[:, wanted]
            for dataset, wanted in zip((first, second), columns, strict=True)
        )
        found.append(_compared(split, a, b))
    titles = tuple(f"{one.title}, split {one.split_name}" for one in (first, second))
    return Comparison((titles[0], titles[1]), tuple(shared), tuple(found))


def _compared(split: str, a: NDArray[np.float32], b: NDArray[np.float32]) -> SplitComparison:
    counts = (len(a), len(b))
    rows = [_patterns(one) for one in (a, b)]
    often = [Counter(one) for one in rows]
    shared = sum((often[0] & often[1]).values()) / max(*counts, 1)
    if counts[0] != counts[1]:
        return SplitComparison(split, counts, None, None, shared, "different")
    total = max(counts[0], 1)
    agreeing = sum(x == y for x, y in zip(*rows, strict=True)) / total
    chance = sum(count * often[1][row] for row, count in often[0].items()) / total**2
    spread = math.sqrt(chance * (1 - chance) / total)
    beyond = agreeing - chance > BEYOND * spread
    if agreeing >= SAME:
        verdict = "same order" if beyond else "unclear"
    elif shared >= SAME:
        verdict = "same labels"
    else:
        verdict = "different"
    return SplitComparison(split, counts, agreeing, chance, shared, verdict)


def _patterns(labels: NDArray[np.float32]) -> Sequence[bytes]:
    """The labels of each study as a value that can be counted."""
    codes = np.nan_to_num(labels, nan=-1).astype(np.int8)
    return [row.tobytes() for row in codes]


def _plain(name: str) -> str:
    return name.lower().replace("_", " ")
