"""Splits: label fractions by patient, splits drawn by patient, and split lists in files."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.data.base import ChestDataset
from core.data.problems import examples, raise_or_collect
from core.errors import DataError

PUBLISHED = {"train": "train_list.txt", "val": "val_list.txt", "test": "test_list.txt"}
"""File names of the split lists of Lian et al., by split."""


def subset(dataset: ChestDataset, fraction: float, seed: int) -> list[str]:
    """Draw the labelled training studies of a run: whole patients, nested over fractions.

    The seed and the names of the patients determine an order of the patients. A fraction takes
    patients from its start until the number of images is nearest to ``fraction × images``. In
    addition it contains, for each finding, the first patient in the order who has it: every finding
    of the training split remains, and these patients are the same at every fraction. Very small
    fractions can therefore be larger than requested.

    Args:
        dataset: The data set.
        fraction: Share of the training images, in (0, 1].
        seed: Seed of the order.

    Returns:
        Ids of studies, in the data set's order. With the same seed, a smaller fraction is a subset
        of a larger one.

    Raises:
        DataError: The training split is empty or the fraction is not in (0, 1].
    """
    ids = dataset.ids("train")
    if not ids:
        raise DataError(
            f"{dataset.title} has no training studies in {dataset.split_name}.",
            "Choose another split, or complete the folder.",
        )
    if not 0 < fraction <= 1:
        raise DataError(
            f"The label fraction {fraction:g} is out of range.",
            "Give a number above 0 and at most 1.",
            field="data.label_fraction",
        )
    if fraction == 1:
        return ids
    numbers, patients = pd.factorize(dataset.table.loc[ids, "patient"])
    sizes = np.bincount(numbers)
    rank = np.empty(len(patients), np.int64)
    rank[order_of(patients, f"subset {seed}")] = np.arange(len(patients))
    positive = dataset.labels(ids) == 1
    kept = _patients_with_every_finding(numbers, rank, positive)
    # Number of images if the fraction ends at each rank; the kept patients are always included.
    ahead = np.zeros(len(patients), np.int64)
    ahead[rank] = np.where(np.isin(np.arange(len(patients)), kept), 0, sizes)
    images = sizes[kept].sum() + np.concatenate([[0], np.cumsum(ahead)])
    if not len(kept):
        images[0] = -2 * len(ids)  # at least one patient
    last = int(np.argmin(np.abs(images - round(fraction * len(ids)))))
    chosen = rank < last
    chosen[kept] = True
    return [one for one, inside in zip(ids, chosen[numbers], strict=True) if inside]


def positives(dataset: ChestDataset, ids: Sequence[str]) -> dict[str, int]:
    """Count positive studies by finding, in the order of the data set's findings."""
    counts = (dataset.labels(ids) == 1).sum(axis=0)
    return dict(zip(dataset.findings, map(int, counts), strict=True))


def draw(patients: Sequence[str], share: float, salt: str) -> NDArray[np.bool_]:
    """Draw a share of the patients, each by a hash of its name.

    Whether a patient is drawn does not depend on other patients: a part of a data set is split in
    the same way as the whole. Of two or more patients, at least one is drawn and at least one is
    not.

    Args:
        patients: The patient of each study.
        share: Expected share of the patients, in (0, 1).
        salt: A different salt draws different patients.

    Returns:
        For each study whether its patient was drawn.
    """
    numbers, names = pd.factorize(np.asarray(patients, dtype=object))
    keys = _keys(names, salt)
    drawn = keys < share
    if len(names) > 1:
        drawn[np.argmin(keys)], drawn[np.argmax(keys)] = True, False
    chosen: NDArray[np.bool_] = drawn[numbers]
    return chosen


def stratified(
    patients: Sequence[str], labels: NDArray[np.float32], shares: Mapping[str, float], salt: str
) -> list[str]:
    """Assign patients to splits so that each split has its share of every finding.

    Patients are grouped by the rarest finding that they have; each group is divided in an order
    that the salt and the names determine. Every split gets at least one patient of a group of three
    or more.

    Args:
        patients: The patient of each study.
        labels: Shape (studies, findings): 1, 0 or NaN.
        shares: Share of the patients by split; the rest is assigned to ``train``.
        salt: A different salt gives a different assignment.

    Returns:
        The split of each study.
    """
    numbers, names = pd.factorize(np.asarray(patients, dtype=object))
    order = order_of(names, salt)
    having = np.zeros((len(names), labels.shape[1] + 1), np.bool_)
    np.logical_or.at(having[:, :-1], numbers, labels == 1)
    having[:, -1] = True  # the group without a finding
    by_rarity = np.append(np.argsort(having[:, :-1].sum(axis=0), kind="stable"), labels.shape[1])
    rarest = having[:, by_rarity].argmax(axis=1)
    assigned = np.full(len(names), "train", dtype=object)
    for group in np.unique(rarest):
        remaining = order[rarest[order] == group]
        count = len(remaining)
        for split, share in shares.items():
            taken = round(share * count) or int(count >= 3)
            assigned[remaining[:taken]], remaining = split, remaining[taken:]
    return [str(split) for split in assigned[numbers]]


def part(
    patients: Sequence[str], labels: NDArray[np.float32], count: int, salt: str
) -> NDArray[np.bool_]:
    """Choose whole patients for a small evaluation set with enough positives of rare findings.

    The salt and the names of the patients determine an order. Half of the studies are reserved for
    positives, in equal shares per finding: starting with the rarest finding, patients who have it
    are taken until its share is reached. The next patients in the order fill the rest. More
    positives do not bias an AUROC; they reduce its variance.

    Args:
        patients: The patient of each study.
        labels: Shape (studies, findings): 1, 0 or NaN.
        count: Largest number of studies; a patient with more studies than remain is skipped.
        salt: A different salt chooses different patients.

    Returns:
        For each study whether it was chosen.
    """
    numbers, names = pd.factorize(np.asarray(patients, dtype=object))
    order, sizes = order_of(names, salt), np.bincount(numbers)
    having = np.zeros((len(names), labels.shape[1]), np.int64)
    np.add.at(having, numbers, labels == 1)
    wanted = count // (2 * labels.shape[1])
    taken = np.zeros(len(names), np.bool_)

    def take(patients: Iterable[int], finding: int | None = None) -> None:
        for patient in patients:
            if finding is not None and having[taken, finding].sum() >= wanted:
                return
            if not taken[patient] and sizes[taken].sum() + sizes[patient] <= count:
                taken[patient] = True

    for finding in np.argsort(having.sum(axis=0), kind="stable"):
        take(order[having[order, finding] > 0], finding)
    take(order)
    chosen: NDArray[np.bool_] = taken[numbers]
    return chosen


def check_shared_patients(table: pd.DataFrame, title: str) -> None:
    """Check that no patient is in two splits.

    Raises:
        DataError: A patient is in two splits; the message names some of the patients.
    """
    counts = table.groupby("patient")["split"].nunique()
    shared = list(map(str, counts.index[counts > 1]))
    if shared:
        raise_or_collect(
            "patients in two splits",
            shared,
            DataError(
                f"{title}: {len(shared):,} patients are in more than one split "
                f"({examples(shared)}).",
                "Correct the lists: results on patients seen in training are not valid.",
            ),
        )


@dataclass(frozen=True)
class SplitList:
    """The content of a split list.

    Attributes:
        files: File names, as in the list.
        labels: Shape (files, labels per file): 1, 0 or NaN; no columns if the list has no labels.
    """

    files: tuple[str, ...]
    labels: NDArray[np.float32]


def read_list(path: Path) -> SplitList:
    """Read a split list in the format of MED-PEFT: lines of the form ``file 0 1 …``.

    Args:
        path: The list. Labels are 1, 0, and -1 or nan if not known; names may contain spaces.

    Raises:
        DataError: The list is missing or empty, or the number of labels differs between lines.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise DataError(
            f"The list {path} cannot be read ({reason}).", "Restore the file."
        ) from error
    rows = [(number, line.split()) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise DataError(f"The list {path} is empty.", "Restore the file.")
    count = _count_labels(rows[0][1])
    files, values = [], np.empty((len(rows), count), np.float32)
    for i, (number, words) in enumerate(rows):
        cut = len(words) - count
        try:
            if cut < 1 or _count_labels(words) != count:
                raise ValueError
            values[i] = [float(word) for word in words[cut:]]
        except ValueError as error:
            raise DataError(
                f"Line {number} of {path} is not a file name with {count} labels: "
                f"“{lines[number - 1][:80]}”.",
                "Correct the line. Labels are 1, 0, or -1 if not known.",
            ) from error
        files.append(" ".join(words[:cut]))
    values[values == -1] = np.nan
    return SplitList(tuple(files), values)


def published(
    root: Path, name: str, title: str, labels: int, *, optional: Collection[str] = ()
) -> dict[str, SplitList]:
    """Read the split lists of Lian et al. (MED-PEFT), by split.

    Args:
        root: The data set's folder, which contains the lists or a folder of them.
        name: Name of that folder: ``NIH_ChestX-ray``.
        title: The displayed name of the data set.
        labels: Number of labels per file.
        optional: Splits whose list may be missing.

    Raises:
        DataError: The lists do not exist, cannot be read, or have another number of labels.
    """
    for folder in (root / name, root / "DatasetsSplits" / name, root):
        files = {split: folder / file for split, file in PUBLISHED.items()}
        existing = {split: file for split, file in files.items() if file.is_file()}
        if set(files) <= {*existing, *optional}:
            return {split: _read_published(file, labels, title) for split, file in existing.items()}
    raise DataError(
        f"{title}: the paper's split lists ({', '.join(PUBLISHED.values())}) are neither in {root} "
        f"nor in {root / name}.",
        f"Copy the folder {name} of the published split lists there, or choose another split.",
        field="data.split",
    )


def _read_published(path: Path, labels: int, title: str) -> SplitList:
    read = read_list(path)
    if read.labels.shape[1] != labels:
        raise DataError(
            f"{title}: {path} has {read.labels.shape[1]} labels per line instead of {labels}: it "
            "is not the published list.",
            "Restore the published split list, or choose another split.",
            field="data.split",
        )
    return read


def write_list(path: Path, dataset: ChestDataset, ids: Sequence[str]) -> None:
    """Write studies in the format of ``read_list``, with -1 if a label is not known.

    Raises:
        DataError: The file cannot be written.
    """
    labels = np.nan_to_num(dataset.labels(ids), nan=-1).astype(int)
    rows = (
        f"{dataset.listed_as(study)} {' '.join(map(str, row))}"
        for study, row in zip(ids, labels, strict=True)
    )
    try:
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"The list {path} cannot be written ({error.strerror}).", "Choose another folder."
        ) from error


def _count_labels(words: Sequence[str]) -> int:
    count = 0
    for word in reversed(words[1:]):
        if word.lower() not in {"0", "1", "-1", "0.0", "1.0", "-1.0", "nan"}:
            break
        count += 1
    return count


def _keys(names: Iterable[str], salt: str) -> NDArray[np.float64]:
    """Hash each name to a number in [0, 1), the same on every machine and in every version."""
    digests = (hashlib.blake2b(f"{salt}/{name}".encode(), digest_size=8).digest() for name in names)
    drawn = np.frombuffer(b"".join(digests), "<u8")
    # 53 bits fit in a float; more would be rounded, possibly up to 1.
    return (drawn >> np.uint64(11)).astype(np.float64) / 2**53


def order_of(names: Iterable[str], salt: str) -> NDArray[np.intp]:
    """The order of names that a salt determines, the same on every machine.

    Args:
        names: Such as those of patients.
        salt: A different salt gives a different order.

    Returns:
        Indices into ``names``.
    """
    return np.argsort(_keys(names, salt), kind="stable")


def _patients_with_every_finding(
    numbers: NDArray[np.intp], rank: NDArray[np.int64], positive: NDArray[np.bool_]
) -> NDArray[np.intp]:
    """For each finding, rarest first, the first patient in the order who has it.

    A finding that a patient chosen before has, too, adds none.
    """
    kept: list[int] = []
    for finding in np.argsort(positive.sum(axis=0), kind="stable"):
        having = np.unique(numbers[positive[:, finding]])
        if len(having) and not np.isin(kept, having).any():
            kept.append(int(having[np.argmin(rank[having])]))
    return np.array(kept, np.intp)
