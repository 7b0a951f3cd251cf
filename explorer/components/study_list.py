"""The studies of a split that are listed, and their order."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from core.data.base import ChestDataset
from explorer.components.model_cache import Predictions

LISTED = 400
"""Studies in a drop-down list: more make the browser slow, and previous/next reach all of them."""

Scores = NDArray[np.float64]
Key = Callable[[Scores, list[Scores], list[float]], Scores]
"""Sort key of studies, highest first: from the labels (1, 0, NaN), each run's probabilities of the
finding, and each run's operating point."""


def _error(labels: Scores, runs: list[Scores], thresholds: list[float]) -> Scores:
    return np.nan_to_num(np.abs(labels - runs[0]), nan=-1.0)


def _disagreement(labels: Scores, runs: list[Scores], thresholds: list[float]) -> Scores:
    stacked = np.stack(runs)
    difference: Scores = stacked.max(axis=0) - stacked.min(axis=0)
    return difference


def _gain(labels: Scores, runs: list[Scores], thresholds: list[float], first: int = 0) -> Scores:
    """By how much one run's probability is closer to the label than the other's.

    Above 1.2 exactly if its prediction is correct and the other's is wrong.
    """
    if len(runs) < 2:
        return np.zeros(len(labels))
    correct = [
        (run >= threshold) == (labels == 1) for run, threshold in zip(runs, thresholds, strict=True)
    ]
    second = 1 - first
    closer = np.abs(labels - runs[second]) - np.abs(labels - runs[first])
    # ``closer`` is within ±1, so that 2.5 separates the studies where only one run is correct.
    return np.where(np.isnan(labels), -9.0, closer + 2.5 * (correct[first] & ~correct[second]))


ORDERS: dict[str, tuple[str, Key | None]] = {
    "listed": ("As in the data set", None),
    "highest": ("Highest probability first", lambda labels, runs, thresholds: runs[0]),
    "lowest": ("Lowest probability first", lambda labels, runs, thresholds: -runs[0]),
    "wrong": ("Largest error first", _error),
    "disagree": ("Largest disagreement first", _disagreement),
    "gained": ("First run correct, second wrong", _gain),
    "lost": ("First run wrong, second correct", functools.partial(_gain, first=1)),
}
"""Orders by name, with title and sort key; None keeps the order of the data set."""

PAIRED = ("disagree", "gained", "lost")
"""Orders that need two runs."""


def orders(names: Sequence[str]) -> list[tuple[str, str]]:
    """Choices of orders, (text, name); those of two runs contain the runs' names."""
    choices = [(title, name) for name, (title, _) in ORDERS.items() if name not in PAIRED]
    if len(names) < 2:
        return choices
    first, second = names[0], names[1]
    return [
        *choices,
        (ORDERS["disagree"][0], "disagree"),
        (f"{first} correct, {second} wrong", "gained"),
        (f"{second} correct, {first} wrong", "lost"),
    ]


def studies(
    dataset: ChestDataset,
    split: str,
    *,
    finding: str,
    present: bool,
    marked: bool,
    order: str = "listed",
    predictions: Sequence[Predictions] = (),
    thresholds: Sequence[float] = (),
) -> list[str]:
    """List a split's studies.

    Args:
        dataset: The data set.
        split: ``train``, ``val`` or ``test``.
        finding: The finding that ``present``, ``marked`` and ``order`` refer to.
        present: Keep only studies labelled with the finding.
        marked: Keep only studies with a box or mask of the finding.
        order: A key of ``ORDERS``.
        predictions: Predictions of the runs to sort by, the main run first. Studies without a
            prediction follow in the order of the data set.
        thresholds: Operating points of these runs for the finding; 0.5 if there is none.
    """
    ids = dataset.ids(split)
    if (present or marked) and finding in dataset.findings:
        labels = dataset.labels(ids)[:, dataset.findings.index(finding)]
        ids = [study for study, label in zip(ids, labels, strict=True) if label == 1]
    if marked:
        ids = [study for study in ids if is_marked(dataset, study, finding)]
    key = ORDERS[order][1]
    if key is None:
        return ids
    predicted, values = _sort_values(key, dataset, ids, finding, predictions, thresholds)
    ranked = [predicted[i] for i in np.argsort(-values, kind="stable")]
    known = set(predicted)
    return ranked + [study for study in ids if study not in known]


def count_decided(
    dataset: ChestDataset,
    ids: Sequence[str],
    finding: str,
    order: str,
    predictions: Sequence[Predictions],
    thresholds: Sequence[float],
) -> int | None:
    """Number of studies where one of the first two runs is correct and the other wrong.

    Returns:
        The number, for the orders ``gained`` and ``lost``; None for the others.
    """
    key = ORDERS[order][1]
    if order not in {"gained", "lost"} or key is None or len(predictions) < 2:
        return None
    values = _sort_values(key, dataset, ids, finding, predictions, thresholds)[1]
    return int((values > 1.2).sum())


def _sort_values(
    key: Key,
    dataset: ChestDataset,
    ids: Sequence[str],
    finding: str,
    predictions: Sequence[Predictions],
    thresholds: Sequence[float],
) -> tuple[list[str], Scores]:
    """The studies that all runs predicted, and their sort values."""
    runs = [i for i, split in enumerate(predictions) if finding in split.findings]
    columns = [_column(predictions[i], finding) for i in runs]
    predicted = [study for study in ids if all(study in column for column in columns)]
    if not columns or not predicted or finding not in dataset.findings:
        return [], np.zeros(0)
    labels = dataset.labels(predicted)[:, dataset.findings.index(finding)].astype(np.float64)
    scores = [np.array([column[study] for study in predicted]) for column in columns]
    points = [thresholds[i] if i < len(thresholds) else 0.5 for i in runs]
    return predicted, key(labels, scores, points)


def is_marked(dataset: ChestDataset, study_id: str, finding: str) -> bool:
    """Whether the location of a finding is marked on a study."""
    if any(box.finding == finding for box in dataset.boxes(study_id)):
        return True
    mask = dataset.mask(study_id, finding)
    return mask is not None and bool(mask.any())


def choices(dataset: ChestDataset, ids: Sequence[str]) -> list[tuple[str, str]]:
    """Choices of the first studies of a list, with their findings: (text, id)."""
    first = list(ids[:LISTED])
    rows = list(dataset.labels(first)) if first else []
    return [
        (f"{study} · {', '.join(_present(dataset, row)) or 'no finding'}", study)
        for study, row in zip(first, rows, strict=True)
    ]


def step(ids: Sequence[str], current: str | None, by: int) -> str | None:
    """The study before or after the current one, cyclically; the first if it is not listed."""
    if not ids:
        return None
    if current is None or current not in ids:
        return ids[0]
    return ids[(list(ids).index(current) + by) % len(ids)]


def _present(dataset: ChestDataset, row: NDArray[np.float32]) -> list[str]:
    return [name for name, label in zip(dataset.findings, row, strict=True) if label == 1]


def _column(predictions: Predictions, finding: str) -> dict[str, float]:
    values = predictions.probabilities[:, predictions.findings.index(finding)]
    return dict(zip(predictions.ids, values.tolist(), strict=True))
