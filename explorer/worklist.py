"""Which studies of a split are offered, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from core.data.base import ChestDataset
from explorer.gallery import Predictions

LISTED = 400
"""Studies offered in a list; more would make the browser slow, and previous/next reach them all."""

Scores = NDArray[np.float64]


def _wrongness(labels: Scores, runs: list[Scores]) -> Scores:
    return np.nan_to_num(np.abs(labels - runs[0]), nan=-1.0)


def _disagreement(labels: Scores, runs: list[Scores]) -> Scores:
    stacked = np.stack(runs)
    apart: Scores = stacked.max(axis=0) - stacked.min(axis=0)
    return apart


ORDERS: dict[str, tuple[str, Callable[[Scores, list[Scores]], Scores] | None]] = {
    "listed": ("As in the data set", None),
    "highest": ("Highest probability first", lambda labels, runs: runs[0]),
    "lowest": ("Lowest probability first", lambda labels, runs: -runs[0]),
    "wrong": ("Most wrong first", _wrongness),
    "disagree": ("Runs disagree most first", _disagreement),
}
"""Name → title, and what is sorted by, highest first: of labels (1, 0, NaN) and each run's
probabilities of the chosen finding."""


def studies(
    dataset: ChestDataset,
    split: str,
    *,
    finding: str,
    present: bool,
    marked: bool,
    order: str = "listed",
    predictions: Sequence[Predictions] = (),
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
    columns = [_column(one, finding) for one in predictions if finding in one.findings]
    if key is None or not columns or finding not in dataset.findings:
        return ids
    known = [one for one in ids if all(one in column for column in columns)]
    truth = dataset.labels(known)[:, dataset.findings.index(finding)].astype(np.float64)
    scores = [np.array([column[one] for one in known]) for column in columns]
    ranked = list(np.argsort(-key(truth, scores), kind="stable")) if known else []
    held = set(known)
    return [known[i] for i in ranked] + [one for one in ids if one not in held]


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
