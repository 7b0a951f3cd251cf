"""Check of a data set: all of its problems in one report.

The errors of the reader are collected with ``problems.collecting``. This module adds the checks
that a reader does not need: extra files, empty classes, duplicates, boxes outside the image.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import numpy as np

from core.data import problems
from core.data.base import SPLITS, ChestDataset
from core.data.checks import image_checks, image_scan
from core.data.checks.image_scan import ImageScan
from core.data.checks.report import RESTORE, Report, ordered, problem
from core.data.datasets.files import FileDataset
from core.data.images.reader import SUFFIXES
from core.data.problems import Problem
from core.errors import DataError


def check(
    opener: Callable[[], ChestDataset],
    *,
    pixels: bool = True,
    progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Report:
    """Check a data set.

    Args:
        opener: Opens the data set; its errors become part of the report.
        pixels: Whether to decode every image, too.
        progress: Called with the number of decoded images and of all images.
        should_stop: Called regularly; if it returns True, the report contains what is known.

    Raises:
        ConfigurationError: The data set is unknown.
        DataError: An option such as the split or the folder is wrong, so that there is nothing to
            check.
    """
    started = time.monotonic()
    with problems.collecting() as found_problems:
        try:
            dataset = opener()
        except DataError as error:
            if not found_problems and error.field not in (None, "data.root"):
                raise
            found_problems.append(Problem("cannot be opened", error.cause, remedy=error.remedy))
            seconds = time.monotonic() - started
            return Report("", "", 0, 0, 0, True, seconds, ordered(found_problems))
        for rule in (_files, _rows, _patients, _labels, _boxes):
            found_problems += list(rule(dataset, {each.kind for each in found_problems}))
    scan = ImageScan()
    if pixels:
        ids = [
            study
            for study in dict.fromkeys(map(str, dataset.table.index))
            if _has_content(dataset, study)
        ]
        scan = image_scan.scan(dataset, ids, progress, should_stop)
        found_problems += image_checks.image_problems(dataset, scan, should_stop)
    return Report(
        title=dataset.title,
        split=dataset.split_name,
        images=len(dataset.table),
        patients=int(dataset.table["patient"].nunique()),
        decoded=len(scan.statistics) + len(scan.unreadable),
        complete=scan.complete,
        seconds=time.monotonic() - started,
        problems=ordered(found_problems),
    )


def _files(dataset: ChestDataset, known: set[str]) -> Iterator[Problem]:
    """Find files that are empty, missing, or not listed."""
    if not isinstance(dataset, FileDataset):
        return
    sizes = _sizes(str(dataset.root))
    listed = dataset.files
    empty = [study for study, file in listed.items() if sizes.get(file) == 0]
    yield from problem("empty files", empty, "{} {file is|files are} empty (0 bytes).", RESTORE)
    if "missing files" not in known:
        missing = [
            study for study, file in listed.items() if not (file in sizes or _exists(dataset, file))
        ]
        yield from problem(
            "missing files", missing, "{} listed {file is|files are} missing.", RESTORE
        )
    used = set(listed.values())
    extra = sorted(file for file in sizes if file not in used)
    yield from problem(
        "extra files",
        extra,
        "{} {image|images} in the folder {is|are} not listed and not used.",
        "Nothing needs to be done if this is intended.",
        error=False,
    )


def _sizes(root: str) -> dict[str, int]:
    """Return the bytes of each image below a folder, by its path relative to it."""
    sizes: dict[str, int] = {}
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        for entry in entries:
            if entry.name[0] in "._":
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:  # noqa: PTH122
                try:
                    size = entry.stat().st_size
                except OSError:
                    continue  # a broken link
                sizes[entry.path[len(root) + 1 :].replace(os.sep, "/")] = size
    return sizes


def _exists(dataset: FileDataset, file: str) -> bool:
    try:
        return (dataset.root / file).is_file()
    except OSError:
        return False


def _has_content(dataset: ChestDataset, study_id: str) -> bool:
    """Whether there is a file to decode; missing and empty files are already reported."""
    try:
        dataset.source_key(study_id)
        return not (isinstance(dataset, FileDataset) and not dataset.path(study_id).stat().st_size)
    except (DataError, OSError):
        return False


def _rows(dataset: ChestDataset, known: set[str]) -> Iterator[Problem]:
    index = dataset.table.index
    repeated = list(map(str, dict.fromkeys(index[index.duplicated()])))
    yield from problem(
        "repeated rows",
        repeated,
        "{} {study is|studies are} several times in the lists.",
        "Keep one row per study.",
    )
    unknown = ~dataset.table["split"].isin(SPLITS)
    yield from problem(
        "unknown splits",
        list(index[unknown]),
        "{} {study is|studies are} in no split.",
        f"Known splits: {', '.join(SPLITS)}.",
    )


def _patients(dataset: ChestDataset, known: set[str]) -> Iterator[Problem]:
    if "patients in two splits" in known:
        return
    counts = dataset.table.groupby("patient")["split"].nunique()
    shared = list(counts.index[counts > 1])
    yield from problem(
        "patients in two splits",
        shared,
        f"{{}} {{patient is|patients are}} in more than one split of “{dataset.split_name}”, "
        "which is used as published.",
        "Results on patients seen in training are too good; report this with the results.",
        error=False,
    )


def _labels(dataset: ChestDataset, known: set[str]) -> Iterator[Problem]:
    """Find invalid labels, studies without labels, and findings without positives."""
    table = dataset.table
    labels = table[list(dataset.findings)].to_numpy(float)
    invalid = ~(np.isnan(labels) | np.isin(labels, (0, 1))).all(axis=1)
    yield from problem(
        "unknown labels",
        list(table.index[invalid]),
        "{} {study has|studies have} labels other than 1, 0 and unknown.",
        "Correct the table of labels.",
    )
    blank = np.isnan(labels).all(axis=1)
    yield from problem(
        "unknown labels",
        list(table.index[blank]),
        "{} {study has|studies have} no known label and {is|are} not used in training.",
        "Add the labels, or remove the studies.",
        error=False,
    )
    for split in SPLITS:
        in_split = (table["split"] == split).to_numpy()
        if not in_split.any():
            continue
        for value, word in ((1, "positive"), (0, "negative")):
            empty = (labels[in_split] == value).sum(axis=0) == 0
            names = [dataset.findings[i] for i in np.flatnonzero(empty)]
            yield from problem(
                "empty classes",
                names,
                f"{{}} of {len(dataset.findings)} findings {{has|have}} no {word} study in "
                f"{split}.",
                "They cannot be learnt, or have no AUROC. Add studies, or remove the findings.",
                error=len(names) == len(dataset.findings),
            )


def _boxes(dataset: ChestDataset, known: set[str]) -> Iterator[Problem]:
    """Find boxes that have no area, start outside of the image, or contradict the labels."""
    invalid, unlabelled = [], []
    table, column = dataset.table, {name: i for i, name in enumerate(dataset.findings)}
    labels = table[list(dataset.findings)].to_numpy(float)
    for row, study in enumerate(table.index):
        for box in dataset.boxes(str(study)):
            if min(box.x, box.y) < -1 or min(box.width, box.height) <= 0:
                invalid.append(str(study))
            if labels[row, column[box.finding]] == 0:
                unlabelled.append(f"{study} ({box.finding})")
    yield from problem(
        "boxes outside the image",
        list(dict.fromkeys(invalid)),
        "{} {study has|studies have} boxes that start outside of the image or have no area.",
        "Correct the list of boxes.",
    )
    yield from problem(
        "boxes without their label",
        unlabelled,
        "{} {box is|boxes are} drawn around a finding whose label is absent.",
        "Labels mined from reports may differ from boxes by radiologists; consider this in scores.",
        error=False,
    )
