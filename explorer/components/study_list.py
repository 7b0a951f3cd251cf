"""Which studies of a split are offered, and in which order."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from core.data.base import ChestDataset
from explorer.components.model_cache import Predictions

LISTED = 400
"""Studies offered in a list; more would make the browser slow, and previous/next reach them all."""

Scores = NDArray[np.float64]


Key = Callable[[Scores, list[Scores], list[float]], Scores]


def _wrongness(labels: Scores, runs: list[Scores], cuts: list[float]) -> Scores:
    return np.nan_to_num(np.abs(labels - runs[0]), nan=-1.0)


def _disagreement(labels: Scores, runs: list[Scores], cuts: list[float]) -> Scores:
    stacked = np.stack(runs)
    apart: Scores = stacked.max(axis=0) - stacked.min(axis=0)
    return apart


def _gain(labels: Scores, runs: list[Scores], cuts: list[float], first: int = 0) -> Scores:
    """Above 1 where one run calls it right and the other wrong, by how much closer it is."""
    if len(runs) < 2:
        return np.zeros(len(labels))
    right = [(run >= cut) == (labels == 1) for run, cut in zip(runs, cuts, strict=True)]
    second = 1 - first
    closer = np.abs(labels - runs[second]) - np.abs(labels - runs[first])
    return np.where(np.isnan(labels), -9.0, closer + 2.5 * (right[first] & ~right[second]))


ORDERS: dict[str, tuple[str, Key | None]] = {
    "listed": ("As in the data set", None),
    "highest": ("Highest probability first", lambda labels, runs, cuts: runs[0]),
    "lowest": ("Lowest probability first", lambda labels, runs, cuts: -runs[0]),
    "wrong": ("Most wrong first", _wrongness),
    "disagree": ("Runs disagree most first", _disagreement),
    "gained": ("First run right, second wrong", _gain),
    "lost": ("First run wrong, second right", functools.partial(_gain, first=1)),
}
"""Name → title, and what is sorted by, highest first: of labels (1, 0, NaN), each run's
probabilities of the chosen finding, and each run's operating point."""

PAIRED = ("disagree", "gained", "lost")
"""Orders that want two runs."""


def orders(names: Sequence[str]) -> list[tuple[str, str]]:
    """Orders to choose from, with the runs' names in them: (text, name)."""
    found = [(title, name) for name, (title, _) in ORDERS.items() if name not in PAIRED]
    if len(names) < 2:
        return found
    found.append((ORDERS["disagree"][0], "disagree"))
    first, second = names[0], names[1]
    found.append((f"{first} right, {second} wrong", "gained"))
    found.append((f"{second} right, {first} wrong", "lost"))
    return found


def studies(
    dataset: ChestDataset,
    split: str,
    *,
    finding: str,
    present: bool,
    marked: bool,
    order: str = "listed",
    predictions: Sequence[Predictions] = (),
    cuts: Sequence[float] = (),
) -> list[str]:
    """List a split's studies.

    Args:
        dataset: The data set.
        split: ``train``, ``val`` or ``test``.
        finding: The finding that ``present``, ``marked`` and ``order`` speak of.
        present: Keep only studies labelled with the finding.
        marked: Keep only studies with a box or mask of the finding.
        order: A key of ``ORDERS``.
        predictions: Of the runs to sort by, the main one first; without any, or for studies that
            they do not hold, the data set's order stays.
        cuts: Operating points of these runs for the finding; 0.5 where there is none.

    Returns:
        Ids in order.
    """
    ids = dataset.ids(split)
    if (present or marked) and finding in dataset.findings:
        labels = dataset.labels(ids)[:, dataset.findings.index(finding)]
        ids = [one for one, label in zip(ids, labels, strict=True) if label == 1]
    if marked:
        ids = [one for one in ids if is_marked(dataset, one, finding)]
    key = ORDERS[order][1]
    if key is None:
        return ids
    known, values = _ranked(key, dataset, ids, finding, predictions, cuts)
    held = set(known)
    order_of = np.argsort(-values, kind="stable")
    return [known[i] for i in order_of] + [one for one in ids if one not in held]


def decided(
    dataset: ChestDataset,
    ids: Sequence[str],
    finding: str,
    order: str,
    predictions: Sequence[Predictions],
    cuts: Sequence[float],
) -> int | None:
    """How many of some studies one of the first two runs calls right and the other wrong.

    Returns:
        The number, for the orders ``gained`` and ``lost``; None for the others.
    """
    key = ORDERS[order][1]
    if order not in {"gained", "lost"} or key is None or len(predictions) < 2:
        return None
    return int((_ranked(key, dataset, ids, finding, predictions, cuts)[1] > 1.2).sum())


def _ranked(
    key: Key,
    dataset: ChestDataset,
    ids: Sequence[str],
    finding: str,
    predictions: Sequence[Predictions],
    cuts: Sequence[float],
) -> tuple[list[str], Scores]:
    """The studies that all runs predicted, and what they are sorted by."""
    there = [i for i, one in enumerate(predictions) if finding in one.findings]
    columns = [_column(predictions[i], finding) for i in there]
    known = [one for one in ids if all(one in column for column in columns)]
    if not columns or not known or finding not in dataset.findings:
        return [], np.zeros(0)
    truth = dataset.labels(known)[:, dataset.findings.index(finding)].astype(np.float64)
    scores = [np.array([column[one] for one in known]) for column in columns]
    points = [cuts[i] if i < len(cuts) else 0.5 for i in there]
    return known, key(truth, scores, points)


def is_marked(dataset: ChestDataset, study_id: str, finding: str) -> bool:
    """Whether the data set knows where a finding is on a study."""
    if any(box.finding == finding for box in dataset.boxes(study_id)):
        return True
    mask = dataset.mask(study_id, finding)
    return mask is not None and bool(mask.any())


def choices(dataset: ChestDataset, ids: Sequence[str]) -> list[tuple[str, str]]:
    """The first studies of a list with their findings: (text, id), to be chosen from."""
    first = list(ids[:LISTED])
    rows = list(dataset.labels(first)) if first else []
    return [
        (f"{one} · {', '.join(_present(dataset, row)) or 'no finding'}", one)
        for one, row in zip(first, rows, strict=True)
    ]


def step(ids: Sequence[str], current: str | None, by: int) -> str | None:
    """The study before or after the current one, going round; the first if it is not listed."""
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
