"""One finished run in detail: operating points, calibration, and whom it serves worse."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from html import escape
from pathlib import Path

from core import formatting
from core.errors import CoreError
from core.evaluation import evaluate
from core.evaluation.evaluate import FindingScore, Scores
from core.evaluation.predictions import read_predictions
from core.evaluation.subgroups import Subgroups
from core.metrics import calibration
from core.metrics.intervals import Interval
from core.runs.store import Run
from core.workspace import Workspace
from explorer.components import run_comparison
from explorer.figures import dots
from explorer.figures.dots import Dot, Scale
from explorer.figures.label_efficiency import reliability
from explorer.figures.palette import Style, method_style
from explorer.templates import error_message

SPLIT = run_comparison.SPLIT
HEAD = (
    ("AUROC", "95% interval by DeLong, a patient’s studies taken together"),
    ("AP", "Area under the precision-recall curve; chance is the prevalence"),
    ("Sens.", "Sensitivity at the threshold chosen on validation (Youden)"),
    ("Spec.", "Specificity at the same threshold"),
    ("Brier", "Mean squared error of the probability"),
    ("ECE", "Expected calibration error, ten groups of equal size"),
    ("scaled", "The same after temperature scaling, fitted on validation"),
)
KINDS = {"sex": "Sex", "age": "Age", "view": "View"}


def sheet(run: Run, workspace: Workspace) -> str:
    """HTML of a completed run's scores on the test split; empty for any other."""
    if not run_comparison.has_predictions(run, workspace):
        return ""
    try:
        scores, bins = _scored(workspace.run(run.id), run.finished_at)
    except CoreError as error:
        return f'<section class="cxr-panel">{error_message(error)}</section>'
    style = method_style(run.spec.adapter.method)
    chart = reliability(bins, style, title="Reliability, all findings together")
    return (
        f'<section class="cxr-panel cxr-sheet" id="sheet-{escape(run.id)}">'
        f'<h3>Test split in detail <span class="cxr-muted cxr-light">{scores.studies:,} studies of '
        f"{scores.patients:,} patients</span></h3>"
        f'<div class="cxr-scroll">{_table(scores)}</div>'
        f'<div class="cxr-sheet-lower"><div>{chart}{_temperature(scores)}</div>'
        f"<div>{_subgroups(scores, style)}</div></div></section>"
    )


@lru_cache(maxsize=32)
def _scored(
    folder: Path, finished_at: float | None
) -> tuple[Scores, tuple[calibration.ReliabilityBin, ...]]:
    found = read_predictions(folder, SPLIT)
    pooled = calibration.reliability(found.labels.ravel(), found.scores.ravel())
    return evaluate.evaluate_run(folder, SPLIT), pooled


def _table(scores: Scores) -> str:
    heads = "".join(
        f'<th class="cxr-num" scope="col" title="{escape(told)}">{name}</th>' for name, told in HEAD
    )
    rows = "".join(_row(one) for one in scores.findings)
    mean = (
        '<tr><th scope="row"><b>Mean</b></th><td></td>'
        f'<td class="cxr-num"><b>{formatting.auroc(scores.macro.value)}</b>{_small(scores.macro)}</td>'
        '<td colspan="6"></td></tr>'
    )
    return (
        '<table class="cxr-table" aria-label="Scores by finding"><thead><tr>'
        f'<th scope="col">Finding</th><th class="cxr-num" scope="col">Positive</th>{heads}</tr>'
        f"</thead><tbody>{rows}{mean}</tbody></table>"
    )


def _row(one: FindingScore) -> str:
    if math.isnan(one.auroc.value):
        cells = '<td colspan="7" class="cxr-muted">not defined: one class only</td>'
    else:
        values = (
            one.average_precision, one.point.sensitivity, one.point.specificity, one.brier,
            one.calibration_error, one.scaled_error,
        )  # fmt: skip
        cells = (
            f'<td class="cxr-num">{formatting.auroc(one.auroc.value)}{_small(one.auroc)}</td>'
            + "".join(f'<td class="cxr-num">{formatting.auroc(value)}</td>' for value in values)
        )
    name = escape(one.finding.replace("_", " "))
    return (
        f'<tr data-key="{escape(one.finding)}"><th scope="row">{name}</th>'
        f'<td class="cxr-num cxr-muted">{one.positives:,}</td>{cells}</tr>'
    )


def _small(interval: Interval) -> str:
    if math.isnan(interval.low):
        return ""
    return (
        f' <span class="cxr-muted cxr-small">{formatting.auroc(interval.low)} to '
        f"{formatting.auroc(interval.high)}</span>"
    )


def _temperature(scores: Scores) -> str:
    if math.isnan(scores.temperature):
        return ""
    word = "too sure" if scores.temperature > 1 else "not sure enough"
    return (
        f'<p class="cxr-small cxr-muted">Temperature {scores.temperature:.2f}, fitted on '
        f"validation: the model is {word}. Bars: exact 95% intervals, studies taken singly.</p>"
    )


def _subgroups(scores: Scores, style: Style) -> str:
    if not scores.subgroups:
        return (
            '<h3>Subgroups</h3><p class="cxr-muted cxr-small">Sex, age and view are not known of '
            "these studies, or were not kept by this run.</p>"
        )
    spans = [group.auroc for one in scores.subgroups for group in one.groups]
    scale = Scale.around(spans, within=(0.0, 1.0))
    rows = "".join(_kind(one, style, scale) for one in scores.subgroups)
    return (
        '<h3>Subgroups: AUROC with 95% interval over patients</h3><div class="cxr-scroll">'
        f'<table class="cxr-table cxr-groups" aria-label="AUROC by subgroup"><tbody>{rows}</tbody>'
        f"<tfoot><tr><td></td><td></td><td>{dots.axis(scale, 'AUROC')}</td><td></td></tr>"
        '</tfoot></table></div><p class="cxr-muted cxr-small">Each kind averages the findings that '
        "all its groups have, so that their means can be compared. With more than two groups the "
        "gap’s interval is widened for the number of pairs that it was chosen from.</p>"
    )


def _kind(one: Subgroups, style: Style, scale: Scale) -> str:
    rows = []
    for i, group in enumerate(one.groups):
        words = f"{KINDS[one.by]} {group.name}: {formatting.auroc(group.auroc.value)}"
        name = KINDS[one.by] if i == 0 else ""
        shown = formatting.auroc(group.auroc.value)
        rows.append(
            f'<tr data-key="{one.by}-{i}"><th scope="row">{name}</th><td>{escape(group.name)} '
            f'<span class="cxr-muted cxr-small">{group.studies:,}</span></td>'
            f'<td class="cxr-plot">{dots.dots([Dot(group.auroc, style, words)], scale)}</td>'
            f'<td class="cxr-num">{shown}</td></tr>'
        )
    rows += _gap(one)
    return "".join(rows)


def _gap(one: Subgroups) -> Iterable[str]:
    if not one.between:
        return
    low, high = formatting.points(one.gap.low), formatting.points(one.gap.high)
    clear = "clear" if one.gap.low > 0 else "not clear"
    unknown = f" Not known of {one.unknown:,} studies." if one.unknown else ""
    yield (
        f'<tr data-key="{one.by}-gap"><td></td><td colspan="3" class="cxr-muted cxr-small">Gap '
        f"{escape(one.between[0])} − {escape(one.between[1])}: "
        f"{formatting.points(one.gap.value)} points ({low} to {high}), {clear}.{unknown}</td></tr>"
    )
