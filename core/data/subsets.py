"""The labelled training studies of a run: drawn by a fraction, or named in a list."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from core.data import splits
from core.data.base import ChestDataset
from core.data.datasets.files import FileDataset
from core.errors import DataError

if TYPE_CHECKING:
    from core.config.run import DataSpec


def labelled(dataset: ChestDataset, data: DataSpec) -> list[str]:
    """The studies whose labels a run learns from.

    Args:
        dataset: The data set.
        data: Says which: ``split_file``, or else ``label_fraction`` and ``subset_seed``.

    Returns:
        Ids of studies, in the data set's order.

    Raises:
        DataError: As ``listed`` and ``splits.subset``.
    """
    if data.split_file is not None:
        return listed(dataset, data.split_file)
    return splits.subset(dataset, data.label_fraction, data.subset_seed or 0)


def labels(dataset: ChestDataset, ids: list[str], data: DataSpec) -> NDArray[np.float32]:
    """What a run is taught of its studies.

    Args:
        dataset: The data set.
        ids: The studies.
        data: Says whether labels are shuffled, with ``subset_seed``: whole rows go from study to
            study, so that prevalence and co-occurrence stay (Adebayo et al. 2018).

    Returns:
        Shape (studies, findings): 1, 0, or NaN where not known.
    """
    found = dataset.labels(ids)
    if data.shuffle_labels:
        found = found[np.random.default_rng([data.subset_seed or 0, 1]).permutation(len(ids))]
    return found


def listed(dataset: ChestDataset, path: Path) -> list[str]:
    """The studies that a list names.

    A study may be named by its id, by its file's path (with other folders in front), or by its
    file's name, each with or without suffix. Labels in the list are not used; see ``differing``.

    Args:
        dataset: The data set.
        path: A list in the format of ``splits.read_list``.

    Returns:
        Ids of studies, each once, in the data set's order.

    Raises:
        DataError: The list cannot be read, names something else, or names studies that validate or
            test: then it tells their patients. ``field`` is ``data.split_file``.
    """
    wanted = set(_named(dataset, path).values())
    table = dataset.table
    elsewhere = [one for one in wanted if table.at[one, "split"] != "train"]
    if elsewhere:
        people = sorted({str(table.at[one, "patient"]) for one in elsewhere})
        raise DataError(
            f"{len(elsewhere):,} of {len(wanted):,} studies in {path} validate or test in the "
            f"split “{dataset.split_name}” of {dataset.title} (patients "
            f"{splits.examples(people)}).",
            "Take them out of the list, or choose the split it was made for: results on patients "
            "seen in training mean nothing.",
            field="data.split_file",
        )
    return [one for one in dataset.ids("train") if one in wanted]


def differing(dataset: ChestDataset, path: Path) -> int:
    """How many studies have other labels in a list than in the data set, which count.

    Lists of names, and such with another number of labels, differ in nothing.

    Raises:
        DataError: As ``listed``.
    """
    read = _read(path)
    if read.labels.shape[1] != len(dataset.findings):
        return 0
    named = _named(dataset, path)
    here = [i for i, one in enumerate(read.files) if one in named]
    theirs, labels = read.labels[here], dataset.labels([named[read.files[i]] for i in here])
    same = (labels == theirs) | (np.isnan(labels) & np.isnan(theirs))
    return int((~same.all(axis=1)).sum())


def _named(dataset: ChestDataset, path: Path) -> dict[str, str]:
    """The study that each line of a list means."""
    known = _names(dataset)
    found: dict[str, str] = {}
    unknown = []
    for name in _read(path).files:
        study = next((known[one] for one in _endings(name) if known.get(one)), None)
        if study is not None:
            found[name] = study
        elif not any(one in dataset.skipped for one in _endings(name)):
            unknown.append(name)
    if unknown:
        raise DataError(
            f"{len(unknown):,} of {len(unknown) + len(found):,} names in {path} are no studies of "
            f"{dataset.title} ({splits.examples(unknown)}).",
            "Choose the data set and the folder that the list was made for, or take these lines "
            "out.",
            field="data.split_file",
        )
    return found


def _read(path: Path) -> splits.SplitList:
    try:
        return splits.read_list(path.expanduser())
    except DataError as error:
        raise DataError(error.cause, error.remedy, field="data.split_file") from error


def _names(dataset: ChestDataset) -> dict[str, str]:
    """Studies by id and path, and by file name where no two share it (else under it is nothing)."""
    files = dataset.files if isinstance(dataset, FileDataset) else {}
    known: dict[str, str] = {}
    for one in map(str, dataset.table.index):
        for place in {one, files.get(one, one)}:
            name = place.rpartition("/")[2]
            for short in (name, _stem(name)):
                known[short] = one if known.get(short, one) == one else ""
    for one in map(str, dataset.table.index):
        for place in (files.get(one, one), one):
            known[_stem(place)] = known[place] = one
    return known


def _endings(name: str) -> Iterator[str]:
    """A name in a list as it stands, then with fewer and fewer folders in front."""
    left = name.replace("\\", "/")
    while left:
        yield left
        yield _stem(left)
        left = left.partition("/")[2]


def _stem(path: str) -> str:
    above, slash, name = path.rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    return f"{above}{slash}{stem}" if stem and dot and len(suffix) <= 5 else path
