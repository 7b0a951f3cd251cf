"""Test AUROCs of a grid's runs in a CSV file, so that it goes on on another machine or day."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from core.errors import ConfigurationError, DataError
from core.experiments.transfer.grid import TransferResult, TransferRun, data_title

COLUMNS = (
    "data", "backbone", "pretrained", "method", "label_fraction", "epochs", "seed",
    "trainable_share", "test_auroc",
)  # fmt: skip

Key = tuple[str, ...]


def key(trip: TransferRun) -> Key:
    """What a run is found by in the file: the first seven columns."""
    spec = trip.spec
    return (
        data_title(spec.data), spec.model.backbone, "yes" if spec.model.pretrained else "no",
        spec.adapter.method, f"{spec.data.label_fraction:g}", str(spec.train.epochs),
        str(spec.train.seed),
    )  # fmt: skip


def read(path: Path) -> dict[Key, TransferResult]:
    """The figures of a file; none if it is not there.

    Raises:
        DataError: It is no such file; the line is named.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}).", "Give a file of figures.") from error
    lines = csv.reader(io.StringIO(text))
    if tuple(next(lines, ())) != COLUMNS:
        raise DataError(
            f"{path} is no file of figures: its first line is not {','.join(COLUMNS)}.",
            "Give one that this command wrote, or a new name.",
        )
    found = {}
    for number, line in enumerate(lines, start=2):
        try:
            *names, share, auroc = line
            if len(names) != len(COLUMNS) - 2 or not 0 <= float(auroc) <= 1:
                raise ValueError
            found[tuple(names)] = TransferResult(float(auroc), float(share) if share else None)
        except ValueError as error:
            raise DataError(
                f"{path}, line {number}, is not one of {len(COLUMNS)} values that end with an "
                "AUROC.",
                "Mend or delete the line.",
            ) from error
    return found


def write(path: Path, figures: Mapping[Key, TransferResult], order: Iterable[Key]) -> None:
    """Write all figures, those of ``order`` first.

    Raises:
        ConfigurationError: The file cannot be written.
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    first = [one for one in order if one in figures]
    for one in [*first, *sorted(figures.keys() - set(first))]:
        figure = figures[one]
        share = "" if figure.share is None else f"{figure.share:.6g}"
        lines.writerow([*one, share, f"{figure.auroc:.6f}"])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.getvalue(), encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written ({error.strerror or error}).", "Choose another place."
        ) from error
