"""What a data set holds: prevalence by split, and what a label fraction selects of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

FEW = 5
"""Fewer positive images than this are marked: little can be learnt or measured on them."""
SPLITS = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Count:
    """How often a finding occurs in one split.

    Attributes:
        positives: Positive studies.
        known: Studies whose label is known.
    """

    positives: int
    known: int

    @property
    def share(self) -> float:
        """Prevalence, 0 to 1; 0 where nothing is known."""
        return self.positives / self.known if self.known else 0.0


@dataclass(frozen=True)
class Selection:
    """What one label fraction selects.

    Attributes:
        fraction: In (0, 1].
        images: Labelled training images.
        patients: Patients they come from.
        positives: Positive images by finding.
    """

    fraction: float
    images: int
    patients: int
    positives: Mapping[str, int]


def prevalence(counts: Mapping[str, Mapping[str, Count]]) -> str:
    """A table of prevalences with a bar for each split.

    Args:
        counts: By finding, then by split.
    """
    splits = [name for name in SPLITS if any(name in one for one in counts.values())]
    top = max((c.share for one in counts.values() for c in one.values()), default=0) or 1.0
    heads = "".join(
        f'<th class="cxr-num" scope="col"><i class="cxr-key cxr-key-{name}"></i>{SPLITS[name]}</th>'
        for name in splits
    )
    rows = "".join(_finding(name, one, splits, top) for name, one in counts.items())
    return (
        '<table class="cxr-table cxr-prevalence" aria-label="Prevalence by finding and split">'
        f'<thead><tr><th scope="col">Finding</th><th class="cxr-bars"></th>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def _finding(name: str, one: Mapping[str, Count], splits: Sequence[str], top: float) -> str:
    readable = escape(name.replace("_", " "))
    bars, cells = "", ""
    for split in splits:
        count = one.get(split, Count(0, 0))
        words = f"{readable}, {SPLITS[split]}: {count.positives:,} of {count.known:,}"
        bars += (
            f'<div class="cxr-stripe" title="{words} ({count.share:.1%})">'
            f'<i class="cxr-key-{split}" style="width:{100 * count.share / top:.2f}%"></i></div>'
        )
        few = " cxr-few" if count.positives < FEW else ""
        cells += (
            f'<td class="cxr-num{few}" title="{words}">{count.positives:,}'
            f' <span class="cxr-muted cxr-small">{100 * count.share:.1f}%</span></td>'
        )
    return (
        f'<tr data-key="{escape(name)}"><th scope="row">{readable}</th>'
        f'<td class="cxr-bars">{bars}</td>{cells}</tr>'
    )


def selections(found: Sequence[Selection], findings: Sequence[str]) -> str:
    """A table of what each label fraction selects: images, patients, positives by finding."""
    heads = "".join(f'<th class="cxr-num" scope="col">{one.fraction:.0%}</th>' for one in found)
    rows = _counts("Images", [one.images for one in found], "cxr-total")
    rows += _counts("Patients", [one.patients for one in found], "cxr-total cxr-last")
    for name in findings:
        rows += _counts(name, [one.positives[name] for one in found])
    return (
        '<table class="cxr-table cxr-selections" aria-label="What a label fraction selects">'
        f'<thead><tr><th scope="col">Label fraction</th>{heads}</tr></thead><tbody>{rows}</tbody>'
        "</table>"
    )


def _counts(name: str, counts: Sequence[int], kind: str = "") -> str:
    cells = "".join(
        f'<td class="cxr-num{" cxr-few" if not kind and count < FEW else ""}">{count:,}</td>'
        for count in counts
    )
    return (
        f'<tr class="{kind}" data-key="{escape(name)}"><th scope="row">'
        f"{escape(name.replace('_', ' '))}</th>{cells}</tr>"
    )
