"""CSV files of the transfer grid's results, by which the grid continues on another machine.

A second file next to the first, ``NAME-tests.csv``, has the tests over seeds and patients, which
need the predictions of the runs.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from core.errors import ConfigurationError, DataError
from core.experiments.transfer.grid import TransferResult, TransferRun, data_title
from core.experiments.transfer.pairwise_tests import PairwiseTest, Setting, Summary
from core.metrics.intervals import Interval

COLUMNS = (
    "data", "backbone", "pretrained", "method", "label_fraction", "epochs", "seed", "settings",
    "trainable_share", "test_auroc",
)  # fmt: skip
TEST_COLUMNS = (
    "data", "start", "label_fraction", "other", "settings", "seeds", "difference", "low", "high",
    "p",
)  # fmt: skip

Key = tuple[str, ...]
TestKey = tuple[Setting, str, bool]


def key(run: TransferRun) -> Key:
    """Key of a run in the file: the first eight columns."""
    spec = run.spec
    return (
        data_title(spec.data), spec.model.backbone, "yes" if spec.model.pretrained else "no",
        spec.adapter.method, f"{spec.data.label_fraction:g}", str(spec.train.epochs),
        str(spec.train.seed), _settings(run.tuned),
    )  # fmt: skip


def read(path: Path) -> dict[Key, TransferResult]:
    """Read the results of a file; empty if the file does not exist.

    Raises:
        DataError: The file has another format; the line is named.
    """
    results = {}
    for number, line in _lines(path, COLUMNS):
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


def read_tests(path: Path) -> dict[TestKey, PairwiseTest]:
    """Read the tests of a file of results; empty if there are none.

    Args:
        path: The file of results.

    Raises:
        DataError: The file has another format; the line is named.
    """
    file, tests = tests_path(path), {}
    for number, line in _lines(file, TEST_COLUMNS):
        try:
            data, start, fraction, other, settings, seeds, *values = line
            difference, low, high, p = map(float, values)
            setting = (data, start, float(fraction))
            own = tuple(map(int, seeds.split()))
            test = PairwiseTest(*setting, own, Interval(difference, low, high), True, p, math.nan)
            tests[setting, other, settings == _settings(tuned=True)] = test
        except ValueError as error:
            raise DataError(
                f"Line {number} of {file} is not a test.", "Delete the line."
            ) from error
    return tests


def write(path: Path, results: Mapping[Key, TransferResult], order: Iterable[Key]) -> None:
    """Write all results, those of ``order`` first.

    Raises:
        ConfigurationError: The file cannot be written.
    """
    first = [names for names in order if names in results]
    rows = []
    for names in [*first, *sorted(results.keys() - set(first))]:
        result = results[names]
        share = "" if result.share is None else f"{result.share:.6g}"
        rows.append([*names, share, f"{result.auroc:.6f}"])
    _write(path, COLUMNS, rows)


def write_tests(
    path: Path, stored: Mapping[TestKey, PairwiseTest], summaries: Iterable[Summary]
) -> None:
    """Write the tests over seeds and patients: the stored ones, and those of new summaries.

    Args:
        path: The file of results.
        stored: Tests that the file already has.
        summaries: Comparisons; those over seeds alone are left out.

    Raises:
        ConfigurationError: The file cannot be written.
    """
    new = {
        ((test.data, test.start, test.fraction), summary.other, summary.tuned): test
        for summary in summaries
        for test in summary.tests
        if test.over_patients
    }
    tests = {**stored, **new}
    if not tests:
        return
    rows = [
        [
            *setting[:2], f"{setting[2]:g}", other, _settings(tuned),
            " ".join(map(str, test.seeds)),
            *(f"{each:.6f}" for each in
              (test.difference.value, test.difference.low, test.difference.high)),
            f"{test.p:.6g}",
        ]
        for (setting, other, tuned), test in sorted(tests.items(), key=lambda item: item[0])
    ]  # fmt: skip
    _write(tests_path(path), TEST_COLUMNS, rows)


def tests_path(path: Path) -> Path:
    """The file of tests next to a file of results."""
    return path.with_name(f"{path.stem}-tests.csv")


def _settings(tuned: bool) -> str:
    return "tuned" if tuned else "default"


def _lines(path: Path, columns: Sequence[str]) -> Iterable[tuple[int, list[str]]]:
    """The numbered lines below the header; none if the file does not exist."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}).", "Give a CSV file.") from error
    lines = csv.reader(io.StringIO(text))
    if tuple(next(lines, ())) != tuple(columns):
        raise DataError(
            f"{path} is not a file of results: its first line is not {','.join(columns)}.",
            "Give a file that this command wrote, or a new name.",
        )
    return enumerate(lines, start=2)


def _write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(columns)
    lines.writerows(rows)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.getvalue(), encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written ({error.strerror or error}).", "Choose another folder."
        ) from error
