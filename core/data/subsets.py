"""The labelled training studies of a run: drawn by a label fraction, or listed in a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from core.data import splits
from core.data.base import ChestDataset
from core.data.datasets.files import FileDataset
from core.data.problems import examples
from core.errors import DataError

if TYPE_CHECKING:
    from core.config.run import DataSpec


def labelled(dataset: ChestDataset, data: DataSpec) -> list[str]:
    """Return the studies whose labels a run is trained on, in the data set's order.

    They are those of ``split_file``, or else drawn by ``label_fraction`` and ``subset_seed``.

    Raises:
        DataError: As ``listed`` and ``splits.subset``.
    """
    if data.split_file is not None:
        return listed(dataset, data.split_file)
    return splits.subset(dataset, data.label_fraction, data.subset_seed or 0)


def labels(dataset: ChestDataset, ids: list[str], data: DataSpec) -> NDArray[np.float32]:
    """Return the labels that a run is trained with.

    Args:
        dataset: The data set.
        ids: The studies.
        data: If ``shuffle_labels`` is set, whole rows of labels are permuted between studies, with
            ``subset_seed``: prevalence and co-occurrence stay the same (Adebayo et al. 2018).

    Returns:
        Shape (studies, findings): 1, 0, or NaN if not known.
    """
    labels = dataset.labels(ids)
    if data.shuffle_labels:
        rng = np.random.default_rng([data.subset_seed or 0, 1])
        labels = labels[rng.permutation(len(ids))]
    return labels


def listed(dataset: ChestDataset, path: Path) -> list[str]:
    """Return the studies of a list.

    A line names a study by its id, its path (possibly below other folders) or its file name, each
    with or without suffix. Labels in the list are not used; see ``differing``.

    Args:
        dataset: The data set.
        path: A list in the format of ``splits.read_list``.

    Returns:
        Ids of studies, each once, in the data set's order.

    Raises:
        DataError: The list cannot be read, names unknown studies, or names studies of the
            validation or test split, whose patients the message gives. ``field`` is
            ``data.split_file``.
    """
    wanted = set(_named(dataset, path).values())
    table = dataset.table
    held_out = [study for study in wanted if table.at[study, "split"] != "train"]
    if held_out:
        patients = sorted({str(table.at[study, "patient"]) for study in held_out})
        raise DataError(
            f"{len(held_out):,} of {len(wanted):,} studies in {path} are in the validation or test "
            f"part of the split “{dataset.split_name}” of {dataset.title} (patients "
            f"{examples(patients)}).",
            "Remove them from the list, or choose the split that the list was made for: results on "
            "patients seen in training are not valid.",
            field="data.split_file",
        )
    return [study for study in dataset.ids("train") if study in wanted]


def differing(dataset: ChestDataset, path: Path) -> int:
    """Count the studies whose labels in a list differ from those of the data set, which are used.

    The count is 0 for a list without labels or with another number of labels.

    Raises:
        DataError: As ``listed``.
    """
    read = _read(path)
    if read.labels.shape[1] != len(dataset.findings):
        return 0
    named = _named(dataset, path)
    rows = [i for i, file in enumerate(read.files) if file in named]
    listed_labels, labels = read.labels[rows], dataset.labels([named[read.files[i]] for i in rows])
    same = (labels == listed_labels) | (np.isnan(labels) & np.isnan(listed_labels))
    return int((~same.all(axis=1)).sum())


def _named(dataset: ChestDataset, path: Path) -> dict[str, str]:
    """Return the study that each line of a list names."""
    known = _names(dataset)
    studies: dict[str, str] = {}
    unknown = []
    for name in _read(path).files:
        study = next((known[end] for end in _endings(name) if known.get(end)), None)
        if study is not None:
            studies[name] = study
        elif not any(end in dataset.skipped for end in _endings(name)):
            unknown.append(name)
    if unknown:
        raise DataError(
            f"{len(unknown):,} of {len(unknown) + len(studies):,} names in {path} are not studies "
            f"of {dataset.title} ({examples(unknown)}).",
            "Choose the data set and the folder that the list was made for, or remove these lines.",
            field="data.split_file",
        )
    return studies


def _read(path: Path) -> splits.SplitList:
    try:
        return splits.read_list(path.expanduser())
    except DataError as error:
        raise DataError(error.cause, error.remedy, field="data.split_file") from error


def _names(dataset: ChestDataset) -> dict[str, str]:
    """Map ids, paths and file names to studies; a file name of several studies maps to ``""``."""
    files = dataset.files if isinstance(dataset, FileDataset) else {}
    known: dict[str, str] = {}
    for study in map(str, dataset.table.index):
        for path in {study, files.get(study, study)}:
            name = path.rpartition("/")[2]
            for short in (name, _stem(name)):
                known[short] = study if known.get(short, study) == study else ""
    for study in map(str, dataset.table.index):
        for path in (files.get(study, study), study):
            known[_stem(path)] = known[path] = study
    return known


def _endings(name: str) -> Iterator[str]:
    """Yield a name of a list, with all of its leading folders, then with one less at a time."""
    rest = name.replace("\\", "/")
    while rest:
        yield rest
        yield _stem(rest)
        rest = rest.partition("/")[2]


def _stem(path: str) -> str:
    """Remove a suffix of at most five characters."""
    above, slash, name = path.rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    return f"{above}{slash}{stem}" if stem and dot and len(suffix) <= 5 else path
