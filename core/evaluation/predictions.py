"""Predictions of a run on a split, as training wrote them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import DataError
from core.files import write_atomically

PREDICTED = ("val", "test")
"""Splits that a run predicts."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """A model's predictions on one split.

    Attributes:
        ids: Study ids of shape (studies,).
        patients: Patient of each study, of shape (studies,).
        findings: Names of the findings, in the order of the columns.
        labels: Shape (studies, findings): 1, 0, or NaN where not known.
        scores: Probabilities of the same shape, 0 to 1.
        sex: ``F``, ``M`` or empty, of shape (studies,); None if the run did not store it.
        age: Age in years or NaN, of shape (studies,); None likewise.
        view: ``PA``, ``AP``, ``LATERAL`` or empty, of shape (studies,); None likewise.
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
        DataError: The split is unknown, the run has no predictions on it, or they are damaged.
    """
    if split not in PREDICTED:
        raise DataError(
            f"A run has no predictions on the split “{split}”.", f"Known: {', '.join(PREDICTED)}."
        )
    path = folder / "predictions" / f"{split}.npz"
    try:
        return _read(path, path.stat().st_mtime_ns)
    except FileNotFoundError as error:
        raise DataError(
            f"This run has no predictions on the {split} split.",
            "Wait until the run has completed. A data set without a test split has none.",
        ) from error
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"The predictions {path.name} of this run cannot be read ({error}).",
            "Train the run again.",
        ) from error


def write_predictions(folder: Path, split: str, predictions: Predictions) -> None:
    """Write predictions into a run's folder, as ``read_predictions`` reads them."""
    buffer = io.BytesIO()
    known = {name: getattr(predictions, name) for name in ("sex", "age", "view")}
    np.savez_compressed(
        buffer,
        ids=predictions.ids,
        patients=predictions.patients,
        **{name: values for name, values in known.items() if values is not None},
        findings=np.array(predictions.findings),
        labels=predictions.labels,
        scores=predictions.scores,
    )
    (folder / "predictions").mkdir(exist_ok=True)
    write_atomically(folder / "predictions" / f"{split}.npz", buffer.getvalue())


def read_joined(folders: Sequence[Path], split: str = "test") -> Predictions:
    """Read the predictions of all folds of a cross-validation as those of one model.

    Args:
        folders: The folders of the folds' runs; or that of a single run.
        split: ``test``, the out-of-fold predictions, or ``val``.

    Raises:
        DataError: As for ``read_predictions``, or the folds have different findings.
    """
    parts = [read_predictions(folder, split) for folder in folders]
    if len(parts) == 1:
        return parts[0]
    if len({part.findings for part in parts}) > 1:
        raise DataError("The folds have different findings.", "Train them on the same data.")

    def joined(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        return None if any(value is None for value in values) else np.concatenate(values)

    names = ("labels", "scores", "sex", "age", "view")
    return Predictions(
        joined("ids"), joined("patients"), parts[0].findings, *(joined(name) for name in names)
    )


@lru_cache(maxsize=64)
def _read(path: Path, changed: int) -> Predictions:
    # Opened here, because NumPy does not close a damaged archive.
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
    """Restrict several runs' predictions to their common studies and findings.

    Args:
        predictions: The runs' predictions; at least one.

    Returns:
        As many, with equal ids, patients, findings and labels.

    Raises:
        DataError: Nothing is shared, or the labels differ, so that studies with the same id are not
            the same.
    """
    ids = set.intersection(*(set(map(str, each.ids)) for each in predictions))
    findings = [
        name for name in predictions[0].findings if all(name in p.findings for p in predictions)
    ]
    if not ids or not findings:
        shared = "finding" if ids else "study"
        raise DataError(
            f"These runs share no {shared} and cannot be compared.",
            "Choose runs of the same data set.",
        )
    common = [_restricted(each, ids, findings) for each in predictions]
    for each in common[1:]:
        if not np.array_equal(each.labels, common[0].labels, equal_nan=True):
            raise DataError(
                "These runs have studies with the same names but different labels.",
                "Choose runs of the same data set with the same version of its labels.",
            )
    return common


def _restricted(own: Predictions, ids: set[str], findings: Sequence[str]) -> Predictions:
    rows = np.array([i for i in np.argsort(own.ids, kind="stable") if str(own.ids[i]) in ids])
    columns = [own.findings.index(name) for name in findings]
    return Predictions(
        own.ids[rows],
        own.patients[rows],
        tuple(findings),
        own.labels[rows][:, columns],
        own.scores[rows][:, columns],
        *(None if values is None else values[rows] for values in (own.sex, own.age, own.view)),
    )
