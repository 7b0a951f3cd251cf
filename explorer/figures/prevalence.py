"""Content of a data set as tables: prevalence by split, and what each label fraction selects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from explorer.templates import render_macro

TEMPLATE = "figures/prevalence.html.j2"
FEW = 5
"""Counts of positive images below this are marked: too few to train or to evaluate on."""
SPLITS = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Count:
    """Count of one finding in one split.

    Attributes:
        positives: Positive studies.
        known: Studies whose label is known.
    """

    positives: int
    known: int

    @property
    def share(self) -> float:
        """Prevalence, 0 to 1; 0 if no label is known."""
        return self.positives / self.known if self.known else 0.0


@dataclass(frozen=True)
class Selection:
    """The training subset of one label fraction.

    Attributes:
        fraction: In (0, 1].
        images: Number of labelled training images.
        patients: Number of their patients.
        positives: Positive images by finding.
    """

    fraction: float
    images: int
    patients: int
    positives: Mapping[str, int]


def prevalence(counts: Mapping[str, Mapping[str, Count]]) -> Markup:
    """A table of prevalences with a bar for each split.

    Args:
        counts: By finding, then by split; every finding has the same splits.
    """
    splits = {
        name: title
        for name, title in SPLITS.items()
        if any(name in by_split for by_split in counts.values())
    }
    shares = [count.share for by_split in counts.values() for count in by_split.values()]
    top = max(shares, default=0) or 1.0
    return render_macro(TEMPLATE, "prevalence", counts=counts, splits=splits, top=top, few=FEW)


def selections(selections: Sequence[Selection], findings: Sequence[str]) -> Markup:
    """A table of label fractions: images, patients and positive images by finding."""
    return render_macro(TEMPLATE, "selections", selections=selections, findings=findings, few=FEW)
