"""What a run said about the studies of a split, as training wrote it."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.errors import DataError

PREDICTED = ("val", "test")


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model said about the studies of one split.

    Attributes:
        ids: Study ids of shape (studies,).
        patients: Whose each study is, of shape (studies,).
        findings: Names of the columns.
        labels: Shape (studies, findings): 1, 0, or NaN where not known.
        scores: Probabilities of the same shape, 0 to 1.
        sex: ``F``, ``M`` or empty, of shape (studies,); None in runs that did not keep it.
        age: In years, or NaN; likewise.
        view: ``PA``, ``AP``, ``LATERAL`` or empty; likewise.
    """

    ids: NDArray[np.str_]
    patients: NDArray[np.str_]
    findings: tuple[str, ...]
    labels: NDArray[np.float32]
    scores: NDArray[np.float32]
    sex: NDArray[np.str_] | None = None
    age: NDArray[np.float32] | None = None
    view: NDArray[np.str_] | None = None


def read_predictions(folder: Path, split: str = "test") -> Predictions:
    """Read a run's predictions on one split.

    Args:
        folder: The run's folder.
        split: ``val`` or ``test``.

    Raises:
        DataError: There is no such split, the run has no predictions yet, or they are damaged.
    """
    if split not in PREDICTED:
        raise DataError(f"A run predicts no split “{split}”.", f"Known: {', '.join(PREDICTED)}.")
    path = folder / "predictions" / f"{split}.npz"
    try:
        return _read(path, path.stat().st_mtime_ns)
    except FileNotFoundError as error:
        raise DataError(
            f"This run has no predictions on the {split} split.",
            "Wait until it has completed; a data set without a test split has none.",
        ) from error
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"The predictions {path.name} of this run cannot be read ({error}).",
            "Train the run again.",
        ) from error


@lru_cache(maxsize=64)
def _read(path: Path, changed: int) -> Predictions:
    # Opened here, because NumPy leaves a damaged archive open.
    with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
        return Predictions(
            file["ids"].astype(np.str_),
            file["patients"].astype(np.str_),
            tuple(map(str, file["findings"])),
            file["labels"].astype(np.float32),
            file["scores"].astype(np.float32),
            *(
                file[name].astype(kind) if name in file else None
                for name, kind in (("sex", np.str_), ("age", np.float32), ("view", np.str_))
            ),
        )


def aligned(predictions: Sequence[Predictions]) -> list[Predictions]:
    """Cut several runs' predictions to the studies and findings that all of them share.

    Args:
        predictions: At least one.

    Returns:
        As many, all with equal ids, patients, findings and labels.

    Raises:
        DataError: Nothing is shared, or the runs disagree on a label: then their studies are not
            the same, whatever they are called.
    """
    ids = set.intersection(*(set(map(str, one.ids)) for one in predictions))
    findings = [
        name for name in predictions[0].findings if all(name in p.findings for p in predictions)
    ]
    if not ids or not findings:
        shared = "finding" if ids else "study"
        raise DataError(
            f"These runs share no {shared}, so that they cannot be compared.",
            "Choose runs of the same data set.",
        )
    cut = [_cut(one, ids, findings) for one in predictions]
    for one in cut[1:]:
        if not np.array_equal(one.labels, cut[0].labels, equal_nan=True):
            raise DataError(
                "These runs have studies of the same names with different labels.",
                "Choose runs of the same data set and of the same version of its labels.",
            )
    return cut


def _cut(one: Predictions, ids: set[str], findings: Sequence[str]) -> Predictions:
    rows = np.array([i for i in np.argsort(one.ids, kind="stable") if str(one.ids[i]) in ids])
    columns = [one.findings.index(name) for name in findings]
    return Predictions(
        one.ids[rows],
        one.patients[rows],
        tuple(findings),
        one.labels[rows][:, columns],
        one.scores[rows][:, columns],
        *(None if kept is None else kept[rows] for kept in (one.sex, one.age, one.view)),
    )
