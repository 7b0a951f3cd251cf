"""Folds of a cross-validation: whole patients, stratified over all findings at once.

Stratification is iterative (Sechidis et al. 2011, "On the Stratification of Multi-label Data"),
with patients as the units: the rarest label is distributed first, each of its patients to the fold
that lacks it most. scikit-learn's ``StratifiedGroupKFold`` stratifies one label; with several
findings it would need each of their combinations as a class, most of which occur once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.data.base import ChestDataset
from core.data.splits import order_of
from core.errors import DataError

UNUSED = "unused"
"""Split of the studies that a cross-validation leaves untouched."""


def divide(dataset: ChestDataset, fold: str) -> None:
    """Replace the splits of a data set by those of one fold, in place.

    The training and validation studies are divided into n folds of whole patients, the same for all
    seeds. Fold k becomes the test split, the next one the validation split that selects the epoch,
    and the others are trained on. The data set's own test split is used only if this software drew
    it (``drawn_test``); otherwise it stays untouched.

    Args:
        dataset: The data set.
        fold: ``k/n``, such as ``1/5``.

    Raises:
        DataError: There are fewer patients than folds, or a fold has only one label of a finding.
    """
    number, count = map(int, fold.split("/"))
    table = dataset.table
    pool = (table["split"] != "test").to_numpy() | dataset.drawn_test
    ids = [str(study) for study in table.index[pool]]
    patients = table.loc[pool, "patient"].astype(str).tolist()
    labels = dataset.labels(ids)
    numbers = _checked(dataset, patients, labels, count)
    roles = np.full(count, "train", dtype=object)
    roles[number - 1], roles[number % count] = "test", "val"
    splits = np.full(len(table), UNUSED, dtype=object)
    splits[pool] = roles[numbers]
    dataset.table = table.assign(split=splits)
    dataset.split_name = f"{dataset.split_name}, fold {number} of {count}"


def assign(patients: Sequence[str], labels: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Assign whole patients to folds so that each has its share of every label.

    Args:
        patients: The patient of each study.
        labels: Shape (studies, findings): 1, 0 or NaN.
        count: Number of folds.

    Returns:
        The fold of each study, from 0. It depends on the names of the patients, not on their order.
    """
    numbers, names = pd.factorize(np.asarray(patients, dtype=object))
    each = np.concatenate([labels == 1, labels == 0, np.ones((len(labels), 1))], axis=1)
    having = np.zeros((len(names), each.shape[1]))
    np.add.at(having, numbers, each)
    order = order_of(names, f"folds {count}")
    wanted = np.tile(having.sum(axis=0) / count, (count, 1))
    folds = np.full(len(names), -1)
    while (free := folds < 0).any():
        left = having[free].sum(axis=0)
        label = int(np.argmin(np.where(left > 0, left, np.inf)))
        for patient in order[free[order] & (having[order, label] > 0)]:
            # The last column, which every study has, decides between folds that lack it equally.
            fold = np.lexsort((-wanted[:, -1], -wanted[:, label]))[0]
            folds[patient] = fold
            wanted[fold] -= having[patient]
    assigned: NDArray[np.int64] = folds[numbers]
    return assigned


def _checked(
    dataset: ChestDataset, patients: Sequence[str], labels: NDArray[np.float32], count: int
) -> NDArray[np.int64]:
    known = len(set(patients))
    if known < count:
        raise DataError(
            f"{dataset.title} has {known} patients for {count} folds.",
            "Give at most as many folds as patients.",
            field="data.fold",
        )
    folds = assign(patients, labels, count)
    names = np.asarray(patients, dtype=object)
    faults, most = [], count
    for finding, column in zip(dataset.findings, labels.T, strict=True):
        having = [column == value for value in (1, 0)]
        if not all(rows.any() for rows in having):
            continue  # no split could tell anything about it
        if any(len(set(folds[rows])) < count for rows in having):
            fewest = min(len(set(names[rows])) for rows in having)
            faults.append(f"{finding} ({fewest} patients)")
            most = min(most, fewest)
    if faults:
        raise DataError(
            f"{dataset.title}: with {count} folds, one of them has only positive or only negative "
            f"studies of {', '.join(faults)}.",
            f"Give {most} folds."
            if 3 <= most < count
            else "Leave these findings out, or give fewer folds.",
            field="data.fold",
        )
    return folds
