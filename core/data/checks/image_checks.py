"""Problems of the images of a data set, after each has been decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np

from core.data.base import ChestDataset
from core.data.checks import image_scan
from core.data.checks.image_scan import ImageScan, ImageStatistics
from core.data.checks.report import RESTORE, problem
from core.data.problems import Problem

USUAL = 0.9
"""If this share of the images has the same size, the others are reported."""

SMALLEST = 64
"""Shorter side in pixels below which a radiograph shows hardly anything, unless all are small."""


def image_problems(
    dataset: ChestDataset, scan: ImageScan, should_stop: Callable[[], bool] | None = None
) -> Iterator[Problem]:
    """Find the problems of the decoded images; end early if ``should_stop`` returns True."""
    unreadable = [f"{study}: {reason}" for study, reason in scan.unreadable.items()]
    yield from problem(
        "unreadable images", unreadable, "{} {image|images} cannot be read.", RESTORE
    )
    yield from _sizes(scan)
    images = scan.statistics.items()
    yield from problem(
        "constant images",
        [study for study, image in images if image.spread <= image_scan.FLAT],
        "{} {image has|images have} the same grey level everywhere.",
        RESTORE,
    )
    yield from problem(
        "almost black images",
        [
            study
            for study, image in images
            if image.spread > image_scan.FLAT and image.bright < image_scan.BLACK
        ],
        "{} {image is|images are} almost black.",
        "Look at them: the window or the number of bits may be wrong.",
        error=False,
    )
    yield from _boxes(dataset, scan)
    yield from _duplicates(dataset, scan, should_stop)


def _sizes(scan: ImageScan) -> Iterator[Problem]:
    images = scan.statistics
    if not images:
        return
    sizes = Counter((image.height, image.width) for image in images.values())
    (usual, count), *_ = sizes.most_common(1)
    remedy = "Look at them: they may be thumbnails, crops, or exported in a different way."
    if count >= USUAL * len(images):
        yield from problem(
            "wrong size",
            [
                _with_size(study, image)
                for study, image in images.items()
                if (image.height, image.width) != usual
            ],
            f"{{}} {{image does|images do}} not have the usual size of {usual[1]} × {usual[0]} "
            "pixels.",
            remedy,
            error=False,
        )
    median = float(np.median([min(image.height, image.width) for image in images.values()]))
    yield from problem(
        "wrong size",
        [
            _with_size(study, image)
            for study, image in images.items()
            if min(image.height, image.width) < min(SMALLEST, median / 2)
        ],
        "{} {image is|images are} far smaller than the others.",
        remedy,
    )


def _with_size(study: str, image: ImageStatistics) -> str:
    return f"{study} ({image.width} × {image.height})"


def _boxes(dataset: ChestDataset, scan: ImageScan) -> Iterator[Problem]:
    outside = [
        study
        for study, image in scan.statistics.items()
        if any(
            box.x + box.width > image.width + 1 or box.y + box.height > image.height + 1
            for box in dataset.boxes(study)
        )
    ]
    yield from problem(
        "boxes outside the image",
        outside,
        "{} {study has|studies have} boxes that extend beyond the edge of the image.",
        "The boxes may refer to another image size; scale them.",
    )


def _duplicates(
    dataset: ChestDataset, scan: ImageScan, should_stop: Callable[[], bool] | None
) -> Iterator[Problem]:
    table = dataset.table["split"]
    splits = dict(zip(map(str, table.index), map(str, table), strict=True))
    across: list[str] = []
    within: list[str] = []
    for group in image_scan.duplicates(scan.statistics):
        listed = " = ".join(f"{study} ({splits[study]})" for study in group)
        (across if len({splits[study] for study in group}) > 1 else within).append(listed)
    yield from problem(
        "duplicates across splits",
        across,
        "{} {image is|images are} in several splits with identical pixels.",
        "Keep each image in one split: results on images seen in training are not valid.",
    )
    yield from problem(
        "duplicates in a split",
        within,
        "{} {image is|images are} several times in one split with identical pixels.",
        "Keep one copy of each image.",
        error=False,
    )
    near = [
        f"{a} ({splits[a]}) ≈ {b} ({splits[b]})"
        for a, b, _ in image_scan.near_duplicates(scan.statistics, splits, should_stop)
    ]
    yield from problem(
        "near-duplicates across splits",
        near,
        "{} {pair|pairs} of images in different splits {is|are} very similar.",
        "Look at them: the same radiograph may have been saved twice.",
        error=False,
    )
