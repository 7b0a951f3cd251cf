"""Scores of a finished run on a split, and the comparison of two runs on the same studies.

Everything is computed from the predictions that training wrote (``predictions/SPLIT.npz``); neither
the model nor torch is needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike

from core.errors import ConfigurationError, DataError, unknown_name
from core.evaluation.predictions import Predictions, aligned, read_joined, read_predictions
from core.evaluation.subgroups import Subgroups, all_subgroups
from core.formatting import DISCLAIMER, share
from core.metrics import calibration, intervals, operating_point
from core.metrics.auroc import average_precision
from core.metrics.calibration import ReliabilityBin
from core.metrics.decision_curve import NetBenefit, decision_curve
from core.metrics.intervals import Interval, OperatingPoint, PairedTest, Rule
from core.metrics.patient_intervals import MIN_PATIENTS, auroc_difference, auroc_interval
from core.metrics.predictive_values import predictive_value_intervals


@dataclass(frozen=True)
class FindingScore:
    """Scores of one finding on one split.

    Attributes:
        finding: Its name.
        studies: Studies with a known label.
        positives: Positive studies among them.
        auroc: AUROC with its interval over patients.
        average_precision: Area under the precision-recall curve; by chance it is the prevalence.
        brier: Mean squared error of the probability.
        calibration_error: Expected calibration error over ten bins of equal count.
        scaled_brier: Brier score after temperature scaling.
        scaled_error: Calibration error after temperature scaling.
        reliability: Reliability curve, in ten bins of equal count.
        point: The threshold chosen on validation, with its sensitivity and specificity here.
        prevalence: Prevalence that the predictive values and the net benefit refer to.
        ppv: Positive predictive value of the operating point at this prevalence, with its interval
            over patients.
        npv: Negative predictive value, likewise.
        net_benefit: Decision curve at this prevalence, with the probabilities of the model.
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
    prevalence: float
    ppv: Interval
    npv: Interval
    net_benefit: tuple[NetBenefit, ...]


@dataclass(frozen=True)
class Scores:
    """Scores of a run on one split.

    Attributes:
        split: ``val`` or ``test``.
        studies: Number of studies.
        patients: Number of patients.
        macro: Mean AUROC over the defined findings, with its interval over patients.
        findings: One entry per finding, in the model's order.
        rule: Rule for choosing the operating points on validation.
        target: Sensitivity or specificity to reach, for the rules of that name.
        temperature: Temperature fitted on validation over all findings; NaN without validation.
        prevalence: The stated prevalence of all findings; None for their prevalence in the split.
        subgroups: Scores by sex, age band and view, if they are known.
    """

    split: str
    studies: int
    patients: int
    macro: Interval
    findings: tuple[FindingScore, ...]
    rule: Rule
    target: float = 0.9
    temperature: float = math.nan
    prevalence: float | None = None
    subgroups: tuple[Subgroups, ...] = ()


@dataclass(frozen=True)
class FindingDifference:
    """Difference of two runs on one finding.

    Attributes:
        finding: Its name.
        positives: Positive studies.
        test: Paired test over patients; NaN with fewer than ``MIN_PATIENTS`` patients with or
            without the finding.
        holm_p: Its p-value with Holm's correction over the tested findings.
    """

    finding: str
    positives: int
    test: PairedTest
    holm_p: float


@dataclass(frozen=True)
class Difference:
    """Difference of two runs on the same studies, the first minus the second.

    Attributes:
        split: ``val`` or ``test``.
        studies: Number of studies that both predicted.
        patients: Number of their patients.
        macro: Mean AUROC over the tested findings, tested over patients.
        findings: One entry per finding that both predict.
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
    rule: Rule = "prevalence",
    target: float = 0.9,
    groups: bool = True,
    others: Sequence[Path] = (),
    prevalence: float | None = None,
) -> Scores:
    """Score a finished run on one split.

    Args:
        folder: The run's folder.
        split: ``val`` or ``test``.
        rule: Rule for choosing operating points on the validation split.
        target: Sensitivity or specificity to reach, for the rules of that name.
        groups: Whether to score subgroups as well.
        others: Folders of the other folds of a cross-validation, whose predictions are joined.
        prevalence: Prevalence for the predictive values and the net benefit, in (0, 1); by default
            that of each finding in the split.

    Raises:
        ConfigurationError: The prevalence is out of range.
        DataError: As for ``read_predictions``.
    """
    if prevalence is not None and not 0 < prevalence < 1:
        raise ConfigurationError(
            f"A prevalence of {prevalence:g} is not possible.",
            "Give a share of the studies above 0 and below 1, such as 0.02.",
        )
    predictions = read_joined((folder, *others), split)
    try:
        validation: Predictions | None = read_joined((folder, *others), "val")
    except DataError:
        validation = None
    temperature = math.nan
    if validation is not None:
        temperature = calibration.fit_temperature(validation.labels, validation.scores)
    return Scores(
        split=split,
        studies=len(predictions.ids),
        patients=len(np.unique(predictions.patients)),
        macro=auroc_interval(predictions.labels, predictions.scores, predictions.patients),
        findings=tuple(
            _score(predictions, f, validation, rule, target, temperature, prevalence)
            for f in range(len(predictions.findings))
        ),
        rule=rule,
        target=target,
        temperature=temperature,
        prevalence=prevalence,
        subgroups=all_subgroups(predictions) if groups else (),
    )


def _score(
    predictions: Predictions,
    f: int,
    validation: Predictions | None,
    rule: Rule,
    target: float,
    temperature: float,
    prevalence: float | None,
) -> FindingScore:
    labels, scores = predictions.labels[:, f], predictions.scores[:, f]
    scaled = calibration.scaled(scores, temperature)
    threshold = math.nan
    if validation is not None:
        chosen = operating_point.operating_point(
            validation.labels[:, f], validation.scores[:, f], rule, target
        )
        threshold = chosen.threshold
    studies, positives = int((~np.isnan(labels)).sum()), int((labels == 1).sum())
    chosen_prevalence = positives / max(1, studies) if prevalence is None else prevalence
    point = operating_point.at_threshold(labels, scores, threshold)
    ppv, npv = predictive_value_intervals(labels, scores, point, prevalence, predictions.patients)
    return FindingScore(
        finding=predictions.findings[f],
        studies=studies,
        positives=positives,
        auroc=auroc_interval(labels, scores, predictions.patients),
        average_precision=average_precision(labels, scores),
        brier=calibration.brier(labels, scores),
        calibration_error=calibration.calibration_error(labels, scores),
        scaled_brier=calibration.brier(labels, scaled),
        scaled_error=calibration.calibration_error(labels, scaled),
        reliability=calibration.reliability(labels, scores),
        point=point,
        prevalence=chosen_prevalence,
        ppv=ppv,
        npv=npv,
        net_benefit=decision_curve(labels, scores, prevalence),
    )


def compare_runs(a: Path, b: Path, split: str = "test") -> Difference:
    """Compare two finished runs on the studies and findings that both predicted.

    Args:
        a: The first run's folder.
        b: The second run's folder.
        split: ``val`` or ``test``.

    Raises:
        DataError: A run has no predictions, or the runs share no studies.
    """
    first, second = aligned([read_predictions(a, split), read_predictions(b, split)])
    labels, patients = first.labels, first.patients
    tests = [
        auroc_test(labels[:, f], first.scores[:, f], second.scores[:, f], patients)
        for f in range(len(first.findings))
    ]
    corrected = intervals.holm([test.p for test in tests])
    return Difference(
        split=split,
        studies=len(first.ids),
        patients=len(np.unique(patients)),
        macro=auroc_test(labels, first.scores, second.scores, patients),
        findings=tuple(
            FindingDifference(finding, int((labels[:, f] == 1).sum()), test, float(p))
            for f, (finding, test, p) in enumerate(
                zip(first.findings, tests, corrected, strict=True)
            )
        ),
    )


def auroc_test(
    labels: ArrayLike, first: ArrayLike, second: ArrayLike, patients: ArrayLike
) -> PairedTest:
    """Test whether two models have equal AUROC, on one finding or on the mean over findings.

    Args:
        labels: Shape (studies,) or (studies, findings): 1, 0 or NaN.
        first: Scores of the first model, same shape.
        second: Scores of the second model, same shape.
        patients: Shape (studies,).

    Returns:
        AUROCs over the findings that ``MIN_PATIENTS`` patients have, and do not have. If there is
        none, the AUROCs are those over all findings, and interval and p are NaN.
    """
    test = auroc_difference(labels, [first], [second], patients).test()
    if not math.isnan(test.first):
        return test
    a, b = (auroc_interval(labels, scores).value for scores in (first, second))
    return PairedTest(a, b, Interval(a - b, math.nan, math.nan), math.nan, math.nan)


def as_json(scores: Scores | Difference) -> dict[str, Any]:
    """The scores as plain values; undefined ones are None."""
    plain: dict[str, Any] = _plain(asdict(scores))
    return plain | {"disclaimer": DISCLAIMER}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_text(scores: Scores) -> str:
    """The scores as tables for the terminal, followed by calibration and subgroups."""
    width = max(12, *(len(each.finding) for each in scores.findings))
    head = f"{'finding':{width}}  positives  AUROC  95% interval       AP  Brier    ECE  scaled"
    rows = [
        f"{each.finding:{width}}  {each.positives:>9,}  {_figure(each.auroc.value)}  "
        f"{_bounds(each.auroc)}  {_figure(each.average_precision)}  "
        f"{_figure(each.brier)}  {_figure(each.calibration_error)}   {_figure(each.scaled_error)}"
        for each in scores.findings
    ]
    mean = f"{'mean':{width}}  {'':9}  {_figure(scores.macro.value)}  {_bounds(scores.macro)}"
    points_head = f"{'finding':{width}}  sens.  spec.    PPV  95% interval      NPV  95% interval"
    points = [
        f"{each.finding:{width}}  {_figure(each.point.sensitivity)}  "
        f"{_figure(each.point.specificity)}  {_figure(each.ppv.value)}  {_bounds(each.ppv)}  "
        f"{_figure(each.npv.value)}  {_bounds(each.npv)}".rstrip()
        for each in scores.findings
    ]
    about = (
        f"{scores.studies:,} studies of {scores.patients:,} patients, {scores.split} split. "
        f"Sensitivity and specificity at the threshold chosen on validation "
        f"({rule_words(scores)}); PPV and NPV at {prevalence_words(scores)}."
    )
    lines = [head, *rows, mean.rstrip(), "", points_head, *points, about]
    if not math.isnan(scores.temperature):
        lines.append(
            f"ECE: expected calibration error; scaled: ECE after temperature scaling with "
            f"{scores.temperature:.2f}, fitted on validation."
        )
    lines += [_subgroup_text(groups) for groups in scores.subgroups]
    return "\n".join([*lines, f"{DISCLAIMER}."])


def difference_text(difference: Difference) -> str:
    """The difference of two runs as a table for the terminal."""
    width = max(12, *(len(each.finding) for each in difference.findings))
    head = (
        f"{'finding':{width}}  positives  first  second  difference  95% interval        p   Holm"
    )
    rows = [
        f"{each.finding:{width}}  {each.positives:>9,}  {_figure(each.test.first)}   "
        f"{_figure(each.test.second)}      {each.test.difference.value:+.3f}  "
        f"{_signed(each.test.difference)}  {_figure(each.test.p)}  {_figure(each.holm_p)}"
        if not math.isnan(each.test.first)
        else f"{each.finding:{width}}  {each.positives:>9,}  not defined: only one class"
        for each in difference.findings
    ]
    macro = difference.macro
    mean = (
        f"{'mean':{width}}  {'':9}  {_figure(macro.first)}   {_figure(macro.second)}"
        f"      {macro.difference.value:+.3f}  {_signed(macro.difference)}  {_figure(macro.p)}"
    )
    about = (
        f"{difference.studies:,} studies of {difference.patients:,} patients that both predicted, "
        f"{difference.split} split. Paired tests over patients, Holm over the findings that have "
        f"{MIN_PATIENTS} patients with and without them; the mean is over these. Other seeds are "
        "not covered."
    )
    return "\n".join([head, *rows, mean, about, f"{DISCLAIMER}."])


def rule_of(name: str) -> Rule:
    """The rule for choosing thresholds with this name.

    Raises:
        ConfigurationError: The name is unknown.
    """
    known: tuple[Rule, ...] = get_args(Rule)
    for rule in known:
        if name == rule:
            return rule
    raise unknown_name("rule for a threshold", name, known)


def rule_words(scores: Scores) -> str:
    """The rule for the thresholds, as text: ``Youden``, ``sensitivity 0.9``."""
    words = {"prevalence": "as many positives as labelled", "youden": "Youden"}
    return words.get(scores.rule) or f"{scores.rule} {scores.target:g}"


def prevalence_words(scores: Scores) -> str:
    """The prevalence of the predictive values, as text: ``a prevalence of 2%``."""
    if scores.prevalence is None:
        return f"the prevalence of the {scores.split} split"
    return f"a prevalence of {share(scores.prevalence)}"


def _subgroup_text(groups: Subgroups) -> str:
    parts = [
        f"{group.name} {_figure(group.auroc.value).strip()}"
        + (f" ({_bounds(group.auroc)})" if not math.isnan(group.auroc.low) else "")
        + f" in {group.studies:,}"
        for group in groups.groups
    ]
    text = f"By {groups.by}: {', '.join(parts)}."
    if groups.between:
        text += (
            f" Gap {groups.between[0]} − {groups.between[1]}: {groups.gap.value:.3f} "
            f"({_bounds(groups.gap)}), over {len(groups.findings)} findings."
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
