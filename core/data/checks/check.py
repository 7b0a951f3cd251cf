"""Everything that is wrong with a data set, told at once.

The reader's own rules are heard through ``faults.gathering``; what no reader has to look at (spare
files, empty classes, copies, boxes beyond the edge) is looked at here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import numpy as np

from core.data import problems
from core.data.base import SPLITS, ChestDataset
from core.data.checks import image_checks, image_scan
from core.data.checks.image_scan import Inspection
from core.data.checks.report import RESTORE, Report, fault, ordered
from core.data.datasets.files import FileDataset
from core.data.images.reader import SUFFIXES
from core.data.problems import Fault
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
        opener: Opens it; what it refuses becomes part of the report.
        pixels: Whether to decode every picture, too.
        progress: Told how many of how many pictures are decoded.
        should_stop: Asked now and then; what is known by then is reported.

    Raises:
        ConfigurationError: There is no data set of that name.
        DataError: A choice such as the split or the folder's name is wrong, so that there is
            nothing to be checked.
    """
    started = time.monotonic()
    with problems.gathering() as found:
        try:
            dataset = opener()
        except DataError as error:
            if not found and error.field not in (None, "data.root"):
                raise
            found.append(Fault("cannot be opened", error.cause, remedy=error.remedy))
            spent = time.monotonic() - started
            return Report("", "", 0, 0, 0, True, spent, ordered(found))
        for rule in (_files, _rows, _people, _labels, _boxes):
            found += list(rule(dataset, {fault.kind for fault in found}))
    seen = Inspection()
    if pixels:
        ids = [
            one for one in dict.fromkeys(map(str, dataset.table.index)) if _is_there(dataset, one)
        ]
        seen = image_scan.inspect(dataset, ids, progress, should_stop)
        found += image_checks.of_pictures(dataset, seen, should_stop)
    return Report(
        title=dataset.title,
        split=dataset.split_name,
        images=len(dataset.table),
        patients=int(dataset.table["patient"].nunique()),
        looked_at=len(seen.looks) + len(seen.unreadable),
        complete=seen.complete,
        seconds=time.monotonic() - started,
        faults=ordered(found),
    )


def _files(dataset: ChestDataset, known: set[str]) -> Iterator[Fault]:
    """Files that are empty, gone, or in no list."""
    if not isinstance(dataset, FileDataset):
        return
    sizes = _sizes(str(dataset.root))
    listed = dataset.files
    empty = [one for one, file in listed.items() if sizes.get(file) == 0]
    yield from fault("empty files", empty, "{} {file is|files are} empty (0 bytes).", RESTORE)
    if "missing files" not in known:
        gone = [one for one, file in listed.items() if not (file in sizes or _there(dataset, file))]
        yield from fault("missing files", gone, "{} listed {file is|files are} missing.", RESTORE)
    used = set(listed.values())
    spare = sorted(file for file in sizes if file not in used)
    yield from fault(
        "extra files",
        spare,
        "{} {picture|pictures} in the folder {is in no list|are in no list}: not used.",
        "Nothing needs to be done if they are meant to be left out.",
        error=False,
    )


def _sizes(root: str) -> dict[str, int]:
    """Bytes of each picture below a folder, by its path relative to it."""
    found: dict[str, int] = {}
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
                    continue  # a link that leads nowhere
                found[entry.path[len(root) + 1 :].replace(os.sep, "/")] = size
    return found


def _there(dataset: FileDataset, file: str) -> bool:
    try:
        return (dataset.root / file).is_file()
    except OSError:
        return False


def _is_there(dataset: ChestDataset, study_id: str) -> bool:
    """Whether there is anything to decode; what is missing or empty is told already."""
    try:
        dataset.source_key(study_id)
        return not (isinstance(dataset, FileDataset) and not dataset.path(study_id).stat().st_size)
    except (DataError, OSError):
        return False


def _rows(dataset: ChestDataset, known: set[str]) -> Iterator[Fault]:
    index = dataset.table.index
    again = [str(one) for one in dict.fromkeys(index[index.duplicated()])]
    yield from fault(
        "repeated rows",
        again,
        "{} {study stands|studies stand} in the lists several times.",
        "Keep one row each.",
    )
    odd = ~dataset.table["split"].isin(SPLITS)
    yield from fault(
        "unknown splits",
        list(index[odd]),
        "{} {study is|studies are} in no split.",
        f"Known splits: {', '.join(SPLITS)}.",
    )


def _people(dataset: ChestDataset, known: set[str]) -> Iterator[Fault]:
    if "patients in two splits" in known:
        return
    places = dataset.table.groupby("patient")["split"].nunique()
    shared = list(places.index[places > 1])
    yield from fault(
        "patients in two splits",
        shared,
        f"{{}} {{patient stands|patients stand}} in more than one split of “{dataset.split_name}”, "
        "which is read as it was published.",
        "Results on patients seen in training are too good; say so beside them.",
        error=False,
    )


def _labels(dataset: ChestDataset, known: set[str]) -> Iterator[Fault]:
    """Values that are no labels, studies without any, and findings without positives."""
    table = dataset.table
    labels = table[list(dataset.findings)].to_numpy(float)
    odd = ~(np.isnan(labels) | np.isin(labels, (0, 1))).all(axis=1)
    yield from fault(
        "unknown labels",
        list(table.index[odd]),
        "{} {study has|studies have} labels other than 1, 0 and not known.",
        "Correct the table of labels.",
    )
    blank = np.isnan(labels).all(axis=1)
    yield from fault(
        "unknown labels",
        list(table.index[blank]),
        "{} {study has|studies have} no known label at all: nothing is learnt from {it|them}.",
        "Add their labels, or take them out.",
        error=False,
    )
    for split in SPLITS:
        here = (table["split"] == split).to_numpy()
        if not here.any():
            continue
        for value, word in ((1, "positive"), (0, "negative")):
            lacks = (labels[here] == value).sum(axis=0) == 0
            names = [name for name, lacking in zip(dataset.findings, lacks, strict=True) if lacking]
            yield from fault(
                "empty classes",
                names,
                f"{{}} of {len(dataset.findings)} findings {{has|have}} no {word} study in "
                f"{split}.",
                "Nothing is learnt about them, or no AUROC exists; add studies, or leave them out.",
                error=len(names) == len(dataset.findings),
            )


def _boxes(dataset: ChestDataset, known: set[str]) -> Iterator[Fault]:
    """Boxes that have no area, begin before the edge, or contradict the labels."""
    wrong, unlabelled = [], []
    table, places = dataset.table, {one: i for i, one in enumerate(dataset.findings)}
    labels = table[list(dataset.findings)].to_numpy(float)
    for row, one in enumerate(table.index):
        for box in dataset.boxes(str(one)):
            if min(box.x, box.y) < -1 or min(box.width, box.height) <= 0:
                wrong.append(str(one))
            if labels[row, places[box.finding]] == 0:
                unlabelled.append(f"{one} ({box.finding})")
    yield from fault(
        "boxes outside the picture",
        list(dict.fromkeys(wrong)),
        "{} {study has|studies have} boxes that begin before the edge or have no area.",
        "Correct the list of boxes.",
    )
    yield from fault(
        "boxes without their label",
        unlabelled,
        "{} {box is|boxes are} drawn around a finding that the labels call absent.",
        "Labels mined from reports and boxes by readers may differ; know it when you score.",
        error=False,
    )
