"""What is wrong with the pictures of a data set, once each has been looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np

from core.data.base import ChestDataset
from core.data.checks import image_scan
from core.data.checks.image_scan import Inspection
from core.data.checks.report import RESTORE, fault
from core.data.problems import Fault

USUAL = 0.9
"""If this share of the pictures has one size, the others are told."""

SMALLEST = 64
"""Shorter side in pixels below which a radiograph shows hardly anything, unless all are so."""


def of_pictures(
    dataset: ChestDataset, seen: Inspection, should_stop: Callable[[], bool] | None = None
) -> Iterator[Fault]:
    """Faults of the pictures that were looked at.

    Args:
        dataset: Where they come from.
        seen: What was seen of each.
        should_stop: Asked now and then; copies are then no longer looked for.
    """
    bad = [f"{one}: {why}" for one, why in seen.unreadable.items()]
    yield from fault("unreadable pictures", bad, "{} {picture|pictures} cannot be read.", RESTORE)
    yield from _odd_sizes(seen)
    flat = [one for one, what in seen.looks.items() if what.spread <= image_scan.FLAT]
    yield from fault(
        "constant pictures",
        flat,
        "{} {picture has|pictures have} the same grey everywhere.",
        RESTORE,
    )
    dark = [
        one
        for one, what in seen.looks.items()
        if what.spread > image_scan.FLAT and what.bright < image_scan.BLACK
    ]
    yield from fault(
        "almost black pictures",
        dark,
        "{} {picture is|pictures are} almost black.",
        "Look at them: the window or the number of bits may be wrong.",
        error=False,
    )
    yield from _beyond(dataset, seen)
    yield from _doubles(dataset, seen, should_stop)


def _odd_sizes(seen: Inspection) -> Iterator[Fault]:
    sizes = Counter((what.height, what.width) for what in seen.looks.values())
    if not sizes:
        return
    (usual, count), *_ = sizes.most_common(1)
    remedy = "Look at them: they may be thumbnails, parts, or exported otherwise than the rest."
    others: list[str] = []
    if count >= USUAL * len(seen.looks):
        others = [
            f"{one} ({what.width} × {what.height})"
            for one, what in seen.looks.items()
            if (what.height, what.width) != usual
        ]
        yield from fault(
            "wrong size",
            others,
            f"{{}} {{picture is|pictures are}} not of {usual[1]} × {usual[0]} pixels, as the "
            "others are.",
            remedy,
            error=False,
        )
    median = float(np.median([min(what.height, what.width) for what in seen.looks.values()]))
    tiny = [
        f"{one} ({what.width} × {what.height})"
        for one, what in seen.looks.items()
        if min(what.height, what.width) < min(SMALLEST, median / 2)
    ]
    yield from fault(
        "wrong size",
        tiny,
        "{} {picture is|pictures are} far smaller than the others.",
        remedy,
        error=True,
    )


def _beyond(dataset: ChestDataset, seen: Inspection) -> Iterator[Fault]:
    beyond = [
        one
        for one, what in seen.looks.items()
        if any(
            box.x + box.width > what.width + 1 or box.y + box.height > what.height + 1
            for box in dataset.boxes(one)
        )
    ]
    yield from fault(
        "boxes outside the picture",
        beyond,
        "{} {study has|studies have} boxes that reach beyond the edge of the picture.",
        "The boxes may refer to another size; scale them.",
    )


def _doubles(
    dataset: ChestDataset, seen: Inspection, should_stop: Callable[[], bool] | None
) -> Iterator[Fault]:
    split = dataset.table["split"]
    splits = dict(zip(map(str, split.index), map(str, split), strict=True))
    across: list[str] = []
    within: list[str] = []
    for group in image_scan.copies(seen.looks):
        named = " = ".join(f"{one} ({splits[one]})" for one in group)
        (across if len({splits[one] for one in group}) > 1 else within).append(named)
    yield from fault(
        "duplicates across splits",
        across,
        "{} {picture stands|pictures stand} in several splits with the very same pixels.",
        "Keep each in one split: results on pictures seen in training mean nothing.",
    )
    yield from fault(
        "duplicates in a split",
        within,
        "{} {picture stands|pictures stand} several times in one split with the very same pixels.",
        "Keep one of each.",
        error=False,
    )
    near = [
        f"{a} ({splits[a]}) ≈ {b} ({splits[b]})"
        for a, b, _ in image_scan.near_copies(seen.looks, splits, should_stop)
    ]
    yield from fault(
        "near-duplicates across splits",
        near,
        "{} {pair|pairs} of pictures in different splits {looks|look} alike.",
        "Look at them: the same picture may have been saved twice.",
        error=False,
    )
