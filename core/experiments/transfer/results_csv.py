"""CSV file of the transfer grid's results, by which the grid continues on another machine."""

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


def key(run: TransferRun) -> Key:
    """Key of a run in the file: the first seven columns."""
    spec = run.spec
    return (
        data_title(spec.data), spec.model.backbone, "yes" if spec.model.pretrained else "no",
        spec.adapter.method, f"{spec.data.label_fraction:g}", str(spec.train.epochs),
        str(spec.train.seed),
    )  # fmt: skip


def read(path: Path) -> dict[Key, TransferResult]:
    """Read the results of a file; empty if the file does not exist.

    Raises:
        DataError: The file has another format; the line is named.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}).", "Give a CSV file.") from error
    lines = csv.reader(io.StringIO(text))
    if tuple(next(lines, ())) != COLUMNS:
        raise DataError(
            f"{path} is not a file of results: its first line is not {','.join(COLUMNS)}.",
            "Give a file that this command wrote, or a new name.",
        )
    results = {}
    for number, line in enumerate(lines, start=2):
        try:
            *names, share, auroc = line
            if len(names) != len(COLUMNS) - 2 or not 0 <= float(auroc) <= 1:
                raise ValueError
            results[tuple(names)] = TransferResult(float(auroc), float(share) if share else None)
        except ValueError as error:
            raise DataError(
                f"Line {number} of {path} is not {len(COLUMNS)} values with an AUROC at the end.",
                "Correct or delete the line.",
            ) from error
    return results


def write(path: Path, results: Mapping[Key, TransferResult], order: Iterable[Key]) -> None:
    """Write all results, those of ``order`` first.

    Raises:
        ConfigurationError: The file cannot be written.
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    first = [names for names in order if names in results]
    for names in [*first, *sorted(results.keys() - set(first))]:
        result = results[names]
        share = "" if result.share is None else f"{result.share:.6g}"
        lines.writerow([*names, share, f"{result.auroc:.6f}"])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.getvalue(), encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written ({error.strerror or error}).", "Choose another folder."
        ) from error
