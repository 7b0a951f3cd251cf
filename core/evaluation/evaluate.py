"""A finished run on a split: scores per finding with intervals; two runs on the same studies.

Reads what training wrote (``predictions/SPLIT.npz``); needs neither the model nor torch.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from core.errors import DataError, unknown_name
from core.evaluation.predictions import PREDICTED as PREDICTED
from core.evaluation.predictions import Predictions as Predictions
from core.evaluation.predictions import aligned as aligned
from core.evaluation.predictions import read_predictions as read_predictions
from core.evaluation.subgroups import Subgroups, all_subgroups
from core.formatting import DISCLAIMER
from core.metrics import auroc as stats
from core.metrics import calibration, delong, intervals, operating_point
from core.metrics.bootstrap import DRAWS, bootstrap_macro, paired_bootstrap
from core.metrics.calibration import ReliabilityBin
from core.metrics.intervals import Interval, OperatingPoint, PairedTest, Rule


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
        scaled_brier: Brier score after temperature scaling.
        scaled_error: Calibration error after temperature scaling.
        reliability: Predicted against observed, in ten bins of equal count.
        point: The threshold chosen on validation, with what it gives on this split.
    """

    finding: str
    studies: int
    positives: int
    auroc: Interval
    average_precision: float
    brier: float
    calibration_error: float
    scaled_brier: float
    scaled_error: float
    reliability: tuple[ReliabilityBin, ...]
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
        target: Sensitivity or specificity that was to be reached, for the rules of that name.
        temperature: Fitted on validation over all findings; NaN without a validation split.
        subgroups: Scores by sex, age band and view, as far as they are known.
    """

    split: str
    studies: int
    patients: int
    macro: Interval
    findings: tuple[FindingScore, ...]
    rule: Rule
    target: float = 0.9
    temperature: float = math.nan
    subgroups: tuple[Subgroups, ...] = ()


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


def evaluate_run(
    folder: Path,
    split: str = "test",
    *,
    rule: Rule = "youden",
    target: float = 0.9,
    draws: int = DRAWS,
    seed: int = 0,
    groups: bool = True,
) -> Scores:
    """Score a finished run on one split.

    Args:
        folder: The run's folder.
        split: ``val`` or ``test``.
        rule: How operating points are chosen on the validation split.
        target: Sensitivity or specificity to reach, for the rules of that name.
        draws: Resamples of the patients for the interval of the macro AUROC.
        seed: Seed of the resamples.
        groups: Whether to score subgroups too.

    Raises:
        DataError: As for ``read_predictions``.
    """
    found = read_predictions(folder, split)
    try:
        validation: Predictions | None = read_predictions(folder, "val")
    except DataError:
        validation = None
    temperature = math.nan
    if validation is not None:
        temperature = calibration.fit_temperature(validation.labels, validation.scores)
    return Scores(
        split=split,
        studies=len(found.ids),
        patients=len(np.unique(found.patients)),
        macro=bootstrap_macro(found.labels, found.scores, found.patients, draws, seed),
        findings=tuple(
            _score(found, f, validation, rule, target, temperature)
            for f in range(len(found.findings))
        ),
        rule=rule,
        target=target,
        temperature=temperature,
        subgroups=all_subgroups(found, draws, seed) if groups else (),
    )


def _score(
    found: Predictions,
    f: int,
    validation: Predictions | None,
    rule: Rule,
    target: float,
    temperature: float,
) -> FindingScore:
    labels, scores = found.labels[:, f], found.scores[:, f]
    cooled = calibration.scaled(scores, temperature)
    threshold = math.nan
    if validation is not None:
        chosen = operating_point.operating_point(
            validation.labels[:, f], validation.scores[:, f], rule, target
        )
        threshold = chosen.threshold
    return FindingScore(
        finding=found.findings[f],
        studies=int((~np.isnan(labels)).sum()),
        positives=int((labels == 1).sum()),
        auroc=delong.delong_interval(labels, scores, found.patients),
        average_precision=stats.average_precision(labels, scores),
        brier=calibration.brier(labels, scores),
        calibration_error=calibration.calibration_error(labels, scores),
        scaled_brier=calibration.brier(labels, cooled),
        scaled_error=calibration.calibration_error(labels, cooled),
        reliability=calibration.reliability(labels, scores),
        point=operating_point.at_threshold(labels, scores, threshold),
    )


def compare_runs(
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
        delong.delong_paired(
            first.labels[:, f], first.scores[:, f], second.scores[:, f], first.patients
        )
        for f in range(len(first.findings))
    ]
    corrected = intervals.holm([test.p for test in tests])
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
    """A table for a terminal, with calibration and subgroups below it."""
    width = max(12, *(len(one.finding) for one in scores.findings))
    head = (
        f"{'finding':{width}}  positives  AUROC  95% interval    sens.  spec.     AP  Brier    ECE"
        "  scaled"
    )
    rows = [
        f"{one.finding:{width}}  {one.positives:>9,}  {_figure(one.auroc.value)}  "
        f"{_bounds(one.auroc)}  {_figure(one.point.sensitivity)}  "
        f"{_figure(one.point.specificity)}  {_figure(one.average_precision)}  "
        f"{_figure(one.brier)}  {_figure(one.calibration_error)}   {_figure(one.scaled_error)}"
        for one in scores.findings
    ]
    mean = f"{'mean':{width}}  {'':9}  {_figure(scores.macro.value)}  {_bounds(scores.macro)}"
    about = (
        f"{scores.studies:,} studies of {scores.patients:,} patients, {scores.split} split. "
        f"Sensitivity and specificity at the threshold chosen on validation ({rule_words(scores)})."
    )
    lines = [head, *rows, mean.rstrip(), about]
    if not math.isnan(scores.temperature):
        lines.append(
            f"ECE: expected calibration error; scaled: after the temperature "
            f"{scores.temperature:.2f}, fitted on validation."
        )
    lines += [_groups(one) for one in scores.subgroups]
    return "\n".join([*lines, f"{DISCLAIMER}."])


def difference_text(found: Difference) -> str:
    """Two runs on the same studies, for a terminal."""
    width = max(12, *(len(one.finding) for one in found.findings))
    head = (
        f"{'finding':{width}}  positives  first  second  difference  95% interval        p   Holm"
    )
    rows = [
        f"{one.finding:{width}}  {one.positives:>9,}  {_figure(one.test.first)}   "
        f"{_figure(one.test.second)}      {one.test.difference.value:+.3f}  "
        f"{_signed(one.test.difference)}  {_figure(one.test.p)}  {_figure(one.holm_p)}"
        if not math.isnan(one.test.first)
        else f"{one.finding:{width}}  {one.positives:>9,}  not defined: one class only"
        for one in found.findings
    ]
    mean = (
        f"{'mean':{width}}  {'':9}  {_figure(found.macro.first)}   {_figure(found.macro.second)}"
        f"      {found.macro.difference.value:+.3f}  {_signed(found.macro.difference)}  "
        f"{_figure(found.macro.p)}"
    )
    about = (
        f"{found.studies:,} studies of {found.patients:,} patients that both predicted, "
        f"{found.split} split. Findings: paired DeLong, Holm over findings; mean: bootstrap over "
        "patients. This says nothing of other seeds."
    )
    return "\n".join([head, *rows, mean, about, f"{DISCLAIMER}."])


def rule_of(name: str) -> Rule:
    """A rule for choosing thresholds by its name.

    Raises:
        ConfigurationError: There is none of that name.
    """
    known: tuple[Rule, ...] = get_args(Rule)
    for rule in known:
        if name == rule:
            return rule
    raise unknown_name("rule for a threshold", name, known)


def rule_words(scores: Scores) -> str:
    """How thresholds were chosen: ``Youden``, ``sensitivity 0.9``."""
    return "Youden" if scores.rule == "youden" else f"{scores.rule} {scores.target:g}"


def _groups(one: Subgroups) -> str:
    parts = [
        f"{group.name} {_figure(group.auroc.value).strip()}"
        + (f" ({_bounds(group.auroc)})" if not math.isnan(group.auroc.low) else "")
        + f" in {group.studies:,}"
        for group in one.groups
    ]
    text = f"By {one.by}: {', '.join(parts)}."
    if one.between:
        text += (
            f" Gap {one.between[0]} − {one.between[1]}: {one.gap.value:.3f} "
            f"({_bounds(one.gap)}), over {len(one.findings)} findings."
        )
    return text


def _figure(value: float) -> str:
    return "    –" if math.isnan(value) else f"{value:.3f}"


def _bounds(interval: Interval) -> str:
    if math.isnan(interval.low):
        return f"{'–':14}"
    return f"{interval.low:.3f} to {interval.high:.3f}"


def _signed(interval: Interval) -> str:
    if math.isnan(interval.low):
        return f"{'–':16}"
    return f"{interval.low:+.3f} to {interval.high:+.3f}"
