"""A finished run on a split: scores per finding with intervals; two runs on the same studies.

Reads what training wrote (``predictions/SPLIT.npz``); needs neither the model nor torch.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core import DISCLAIMER, stats
from core.bootstrap import DRAWS, bootstrap_macro, paired_bootstrap
from core.errors import DataError
from core.stats import Interval, OperatingPoint, PairedTest, Rule

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
    """

    ids: NDArray[np.str_]
    patients: NDArray[np.str_]
    findings: tuple[str, ...]
    labels: NDArray[np.float32]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class FindingScore:
    """One finding on one split.

    Attributes:
        finding: Its name.
        studies: Studies with a known label.
        positives: Positive studies among them.
        auroc: With DeLong's interval, studies of one patient taken together.
        average_precision: Area under the precision-recall curve; chance is the prevalence.
        brier: Mean squared error of the probability.
        calibration_error: Expected calibration error over ten bins of equal count.
        point: The threshold chosen on validation, with what it gives on this split.
    """

    finding: str
    studies: int
    positives: int
    auroc: Interval
    average_precision: float
    brier: float
    calibration_error: float
    point: OperatingPoint


@dataclass(frozen=True)
class Scores:
    """A run on one split.

    Attributes:
        split: ``val`` or ``test``.
        studies: Number of studies.
        patients: Number of patients.
        macro: Mean AUROC over the findings that are defined, with its interval over patients.
        findings: One entry a finding, in the model's order.
        rule: How the operating points were chosen on validation.
    """

    split: str
    studies: int
    patients: int
    macro: Interval
    findings: tuple[FindingScore, ...]
    rule: Rule


@dataclass(frozen=True)
class FindingDifference:
    """Two runs on one finding.

    Attributes:
        finding: Its name.
        positives: Positive studies.
        test: DeLong's paired test, studies of one patient taken together.
        holm_p: Its p-value after Holm's correction over all findings.
    """

    finding: str
    positives: int
    test: PairedTest
    holm_p: float


@dataclass(frozen=True)
class Difference:
    """Two runs on the same studies, the first minus the second.

    Attributes:
        split: ``val`` or ``test``.
        studies: Studies that both predicted.
        patients: Patients they come from.
        macro: Mean AUROC, tested by bootstrap over patients.
        findings: One entry a finding that both know.
    """

    split: str
    studies: int
    patients: int
    macro: PairedTest
    findings: tuple[FindingDifference, ...]


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
        )


def evaluate(
    folder: Path,
    split: str = "test",
    *,
    rule: Rule = "youden",
    target: float = 0.9,
    draws: int = DRAWS,
    seed: int = 0,
) -> Scores:
    """Score a finished run on one split.

    Args:
        folder: The run's folder.
        split: ``val`` or ``test``.
        rule: How operating points are chosen on the validation split.
        target: Sensitivity or specificity to reach, for the rules of that name.
        draws: Resamples of the patients for the interval of the macro AUROC.
        seed: Seed of the resamples.

    Raises:
        DataError: As for ``read_predictions``.
    """
    found = read_predictions(folder, split)
    try:
        validation: Predictions | None = read_predictions(folder, "val")
    except DataError:
        validation = None
    return Scores(
        split=split,
        studies=len(found.ids),
        patients=len(np.unique(found.patients)),
        macro=bootstrap_macro(found.labels, found.scores, found.patients, draws, seed),
        findings=tuple(
            _score(found, f, validation, rule, target) for f in range(len(found.findings))
        ),
        rule=rule,
    )


def _score(
    found: Predictions, f: int, validation: Predictions | None, rule: Rule, target: float
) -> FindingScore:
    labels, scores = found.labels[:, f], found.scores[:, f]
    threshold = math.nan
    if validation is not None:
        chosen = stats.operating_point(
            validation.labels[:, f], validation.scores[:, f], rule, target
        )
        threshold = chosen.threshold
    return FindingScore(
        finding=found.findings[f],
        studies=int((~np.isnan(labels)).sum()),
        positives=int((labels == 1).sum()),
        auroc=stats.delong_interval(labels, scores, found.patients),
        average_precision=stats.average_precision(labels, scores),
        brier=stats.brier(labels, scores),
        calibration_error=stats.calibration_error(labels, scores),
        point=stats.at_threshold(labels, scores, threshold),
    )


def compare(
    a: Path, b: Path, split: str = "test", *, draws: int = DRAWS, seed: int = 0
) -> Difference:
    """Compare two finished runs on the studies and findings that both predicted.

    Args:
        a: The first run's folder.
        b: The second run's folder.
        split: ``val`` or ``test``.
        draws: Resamples of the patients.
        seed: Seed of the resamples.

    Raises:
        DataError: A run has no predictions, or they were not made on the same studies.
    """
    first, second = aligned([read_predictions(a, split), read_predictions(b, split)])
    tests = [
        stats.delong_paired(
            first.labels[:, f], first.scores[:, f], second.scores[:, f], first.patients
        )
        for f in range(len(first.findings))
    ]
    corrected = stats.holm([test.p for test in tests])
    return Difference(
        split=split,
        studies=len(first.ids),
        patients=len(np.unique(first.patients)),
        macro=paired_bootstrap(
            first.labels, first.scores, second.scores, first.patients, draws, seed
        ),
        findings=tuple(
            FindingDifference(finding, int((first.labels[:, f] == 1).sum()), test, float(p))
            for f, (finding, test, p) in enumerate(
                zip(first.findings, tests, corrected, strict=True)
            )
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
    )


def as_json(scores: Scores | Difference) -> dict[str, Any]:
    """The same facts as plain values; what is not defined is None."""
    plain: dict[str, Any] = _plain(asdict(scores))
    return plain | {"disclaimer": DISCLAIMER}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_text(scores: Scores) -> str:
    """A table for a terminal."""
    width = max(12, *(len(one.finding) for one in scores.findings))
    head = f"{'finding':{width}}  positives  AUROC  95% interval    sens.  spec.     AP  Brier"
    rows = [
        f"{one.finding:{width}}  {one.positives:>9,}  {_figure(one.auroc.value)}  "
        f"{_bounds(one.auroc)}  {_figure(one.point.sensitivity)}  "
        f"{_figure(one.point.specificity)}  {_figure(one.average_precision)}  "
        f"{_figure(one.brier)}"
        for one in scores.findings
    ]
    mean = f"{'mean':{width}}  {'':9}  {_figure(scores.macro.value)}  {_bounds(scores.macro)}"
    about = (
        f"{scores.studies:,} studies of {scores.patients:,} patients, {scores.split} split. "
        f"Sensitivity and specificity at the threshold chosen on validation ({scores.rule})."
    )
    return "\n".join([head, *rows, mean.rstrip(), about, f"{DISCLAIMER}."])


def _figure(value: float) -> str:
    return "    –" if math.isnan(value) else f"{value:.3f}"


def _bounds(interval: Interval) -> str:
    if math.isnan(interval.low):
        return f"{'–':14}"
    return f"{interval.low:.3f} to {interval.high:.3f}"
