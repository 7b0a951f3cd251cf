"""Who is trained on: label fractions by patient, drawn splits, and split lists in files."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.data.base import ChestDataset
from core.data.problems import examples as examples
from core.data.problems import refuse
from core.errors import DataError

PUBLISHED = {"train": "train_list.txt", "val": "val_list.txt", "test": "test_list.txt"}
"""Names of the split lists that Lian et al. published, by split."""


def subset(dataset: ChestDataset, fraction: float, seed: int) -> list[str]:
    """Draw the labelled training studies of a run: whole patients, nested over fractions.

    Patients come in an order that only the seed and their names decide, and a fraction takes them
    from its start until it has as many images as is nearest to ``fraction × images``. Beside these
    it holds, for each finding, a patient who has it, so that no finding is lost as long as the
    training split has one; these are the first such patients in the order, the same at every
    fraction. With very small fractions they can exceed the share that was asked for.

    Args:
        dataset: The data set.
        fraction: Share of the training images, in (0, 1].
        seed: Seed of the order.

    Returns:
        Ids of studies, in the data set's order; those of a smaller fraction are among those of a
        larger one with the same seed.

    Raises:
        DataError: The training split is empty or the fraction is not in (0, 1].
    """
    ids = dataset.ids("train")
    if not ids:
        raise DataError(
            f"{dataset.title} has no training studies in {dataset.split_name}.",
            "Choose another split or complete the folder.",
        )
    if not 0 < fraction <= 1:
        raise DataError(
            f"A label fraction of {fraction:g} is not possible.",
            "Give a number above 0 and at most 1.",
            field="data.label_fraction",
        )
    if fraction == 1:
        return ids
    numbers, patients = pd.factorize(dataset.table.loc[ids, "patient"])
    sizes = np.bincount(numbers)
    rank = np.empty(len(patients), np.int64)
    rank[_order(patients, f"subset {seed}")] = np.arange(len(patients))
    positive = dataset.labels(ids) == 1
    kept = _one_a_finding(numbers, rank, positive)
    # Images of the fraction if it took the first patients up to each rank, beside those kept.
    ahead = np.zeros(len(patients), np.int64)
    ahead[rank] = np.where(np.isin(np.arange(len(patients)), kept), 0, sizes)
    images = sizes[kept].sum() + np.concatenate([[0], np.cumsum(ahead)])
    if not len(kept):
        images[0] = -2 * len(ids)  # never nobody at all
    last = int(np.argmin(np.abs(images - round(fraction * len(ids)))))
    chosen = rank < last
    chosen[kept] = True
    return [one for one, inside in zip(ids, chosen[numbers], strict=True) if inside]


def positives(dataset: ChestDataset, ids: Sequence[str]) -> dict[str, int]:
    """Positive studies by finding, in the order of the data set's findings; 0 where there is none.

    Args:
        dataset: The data set.
        ids: The studies to count in.
    """
    counts = (dataset.labels(ids) == 1).sum(axis=0)
    return dict(zip(dataset.findings, map(int, counts), strict=True))


def draw(patients: Sequence[str], share: float, salt: str) -> NDArray[np.bool_]:
    """Draw about a share of the patients, each by its own name.

    Whether a patient is drawn depends on no other patient, so that a part of a data set is split as
    the whole is. At least one patient is drawn, and at least one is not, if there are two.

    Args:
        patients: The patient of each study.
        share: Expected share of the patients, in (0, 1).
        salt: Another salt draws other patients.

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
    patients: Sequence[str],
    labels: NDArray[np.float32],
    shares: Mapping[str, float],
    salt: str,
) -> list[str]:
    """Deal patients into splits so that each has its share of every finding.

    Patients with the same rarest finding are dealt together, in an order that the salt and their
    names decide. A split gets at least one of three or more such patients.

    Args:
        patients: The patient of each study.
        labels: Shape (studies, findings): 1, 0 or NaN.
        shares: Share of the patients by split; the rest goes to ``train``.
        salt: Another salt deals otherwise.

    Returns:
        The split of each study.
    """
    numbers, names = pd.factorize(np.asarray(patients, dtype=object))
    order = _order(names, salt)
    having = np.zeros((len(names), labels.shape[1] + 1), np.bool_)
    np.logical_or.at(having[:, :-1], numbers, labels == 1)
    having[:, -1] = True  # of those without a finding
    by_rarity = np.append(np.argsort(having[:, :-1].sum(axis=0), kind="stable"), labels.shape[1])
    rarest = having[:, by_rarity].argmax(axis=1)
    dealt = np.full(len(names), "train", dtype=object)
    for one in np.unique(rarest):
        left = order[rarest[order] == one]
        count = len(left)
        for split, share in shares.items():
            taken = round(share * count) or int(count >= 3)
            dealt[left[:taken]], left = split, left[taken:]
    return [str(one) for one in dealt[numbers]]


def part(
    patients: Sequence[str], labels: NDArray[np.float32], count: int, salt: str
) -> NDArray[np.bool_]:
    """Choose whole patients, with enough positives even of rare findings.

    Patients come in an order that the salt and their names decide. First those are taken, for one
    finding after the other from the rarest on, that bring it to its share of half the studies (or
    to all that are positive); then the next ones, whatever they have. More positives do not change
    what an AUROC is expected to be, but how surely a few studies tell it.

    Args:
        patients: The patient of each study.
        labels: Shape (studies, findings): 1, 0 or NaN.
        count: Most studies to choose; a patient with more than are left is passed over.
        salt: Another salt chooses others.

    Returns:
        For each study whether it was chosen.
    """
    numbers, names = pd.factorize(np.asarray(patients, dtype=object))
    order, sizes = _order(names, salt), np.bincount(numbers)
    having = np.zeros((len(names), labels.shape[1]), np.int64)
    np.add.at(having, numbers, labels == 1)
    wanted = count // (2 * labels.shape[1])
    taken = np.zeros(len(names), np.bool_)

    def take(patients: Iterable[int], finding: int | None = None) -> None:
        for one in patients:
            if finding is not None and having[taken, finding].sum() >= wanted:
                return
            if not taken[one] and sizes[taken].sum() + sizes[one] <= count:
                taken[one] = True

    for finding in np.argsort(having.sum(axis=0), kind="stable"):
        take(order[having[order, finding] > 0], finding)
    take(order)
    chosen: NDArray[np.bool_] = taken[numbers]
    return chosen


def check_shared_patients(table: pd.DataFrame, title: str) -> None:
    """Refuse a table in which a patient stands in two splits.

    Args:
        table: With the columns ``patient`` and ``split``.
        title: The data set's name for people.

    Raises:
        DataError: It names some of the patients.
    """
    places = table.groupby("patient")["split"].nunique()
    shared = [str(one) for one in places.index[places > 1]]
    if shared:
        refuse(
            "patients in two splits",
            shared,
            DataError(
                f"{title}: {len(shared):,} patients stand in more than one split "
                f"({examples(shared)}).",
                "Correct the lists: results on patients seen in training mean nothing.",
            ),
        )


@dataclass(frozen=True)
class SplitList:
    """What a list of files with labels says.

    Attributes:
        files: File names, as they stand there.
        labels: Shape (files, labels a file): 1, 0 or NaN; no columns if the list has names only.
    """

    files: tuple[str, ...]
    labels: NDArray[np.float32]


def read_list(path: Path) -> SplitList:
    """Read a list of files in the format of MED-PEFT's: ``file 0 1 …`` a line.

    Args:
        path: The list. Labels are 1, 0, and -1 or nan where not known; names may contain spaces.

    Raises:
        DataError: The list is missing, empty, or its lines differ in their number of labels.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise DataError(f"The list {path} cannot be read ({reason}).", "Restore it.") from error
    rows = [(number, line.split()) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise DataError(f"The list {path} is empty.", "Restore it.")
    count = _labels_a_line(rows[0][1])
    files, values = [], np.empty((len(rows), count), np.float32)
    for i, (number, words) in enumerate(rows):
        cut = len(words) - count
        try:
            if cut < 1 or _labels_a_line(words) != count:
                raise ValueError
            values[i] = [float(one) for one in words[cut:]]
        except ValueError as error:
            raise DataError(
                f"Line {number} of {path} does not read “file” and {count} labels: "
                f"“{lines[number - 1][:80]}”.",
                "Correct the line; labels are 1, 0, or -1 where not known.",
            ) from error
        files.append(" ".join(words[:cut]))
    values[values == -1] = np.nan
    return SplitList(tuple(files), values)


def published(
    root: Path, name: str, title: str, *, optional: Collection[str] = ()
) -> dict[str, SplitList]:
    """The split lists of Lian et al. (MED-PEFT), by split, as they are.

    Args:
        root: The data set's folder, which holds the lists or a folder of them.
        name: Name of that folder: ``NIH_ChestX-ray``.
        title: The data set's name for people.
        optional: Splits whose list may be missing.

    Raises:
        DataError: The lists are not there, or cannot be read.
    """
    for folder in (root / name, root / "DatasetsSplits" / name, root):
        files = {split: folder / file for split, file in PUBLISHED.items()}
        there = {split: file for split, file in files.items() if file.is_file()}
        if set(files) <= {*there, *optional}:
            return {split: read_list(file) for split, file in there.items()}
    raise DataError(
        f"{title}: the paper's lists ({', '.join(PUBLISHED.values())}) are neither in {root} nor "
        f"in {root / name}.",
        f"Copy the folder {name} of the published split lists there, or choose another split.",
        field="data.split",
    )


def write_list(path: Path, dataset: ChestDataset, ids: Sequence[str]) -> None:
    """Write studies in the format that ``read_list`` reads, -1 where a label is not known.

    Raises:
        DataError: The file cannot be written.
    """
    labels = np.nan_to_num(dataset.labels(ids), nan=-1).astype(int)
    rows = (
        f"{dataset.listed_as(one)} {' '.join(map(str, row))}"
        for one, row in zip(ids, labels, strict=True)
    )
    try:
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"The list {path} cannot be written ({error.strerror}).", "Choose another place."
        ) from error


def _labels_a_line(words: Sequence[str]) -> int:
    count = 0
    for word in reversed(words[1:]):
        if word.lower() not in {"0", "1", "-1", "0.0", "1.0", "-1.0", "nan"}:
            break
        count += 1
    return count


def _keys(names: Iterable[str], salt: str) -> NDArray[np.float64]:
    """A number in [0, 1) for each name, by hashing: the same on every machine, for ever."""
    digests = (hashlib.blake2b(f"{salt}/{one}".encode(), digest_size=8).digest() for one in names)
    drawn = np.frombuffer(b"".join(digests), "<u8")
    # The 53 bits that a float holds: rounding up would give 1.
    return (drawn >> np.uint64(11)).astype(np.float64) / 2**53


def _order(names: Iterable[str], salt: str) -> NDArray[np.intp]:
    return np.argsort(_keys(names, salt), kind="stable")


def _one_a_finding(
    numbers: NDArray[np.intp], rank: NDArray[np.int64], positive: NDArray[np.bool_]
) -> NDArray[np.intp]:
    """Patients who together have every finding: the rarest first, each the first in the order."""
    kept: list[int] = []
    for finding in np.argsort(positive.sum(axis=0), kind="stable"):
        having = np.unique(numbers[positive[:, finding]])
        if len(having) and not np.isin(kept, having).any():
            kept.append(int(having[np.argmin(rank[having])]))
    return np.array(kept, np.intp)
