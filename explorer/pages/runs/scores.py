"""The test scores of one run in detail: operating points, calibration and subgroups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from markupsafe import Markup

from core import formatting
from core.errors import CoreError
from core.evaluation import evaluate
from core.evaluation.evaluate import FindingScore, Scores
from core.evaluation.groups import Trial
from core.evaluation.predictions import read_joined
from core.evaluation.subgroups import Subgroups
from core.experiments.cells import is_scored
from core.metrics import calibration
from core.metrics.intervals import Interval
from core.runs.run import Run
from core.workspace import Workspace
from explorer.components.run_comparison import SPLIT
from explorer.figures.charts import chart, line, with_bars
from explorer.figures.dots import Dot, Scale, axis, dots
from explorer.figures.palette import OTHER, Style, method_style
from explorer.pages.runs.decision_curve import decision_chart
from explorer.templates import render

COLUMNS = (
    ("AUROC", "95% interval over patients"),
    ("AP", "Average precision: area under the precision-recall curve; chance is the prevalence"),
    (
        "Sens.",
        "Sensitivity at the threshold that classifies as many validation studies as positive as "
        "there are positives",
    ),
    ("Spec.", "Specificity at the same threshold"),
    ("PPV", "Positive predictive value at this threshold, with its 95% interval over patients"),
    ("NPV", "Negative predictive value, likewise"),
    ("Brier", "Brier score: mean squared error of the probability"),
    ("ECE", "Expected calibration error, ten bins of equal size"),
    ("scaled", "ECE after temperature scaling, fitted on the validation split"),
)
"""Heading and description of the scores of a finding."""

KINDS = {"sex": "Sex", "age": "Age", "view": "View"}
"""Names of the kinds of subgroups."""


def curve_findings(
    run: Run, workspace: Workspace, joined: Trial | None = None
) -> list[FindingScore]:
    """Findings of a run that have a decision curve; none for a run without scores.

    Args:
        run: The run.
        workspace: Holds its predictions.
        joined: As in ``scores``.
    """
    if not is_scored(run, workspace):
        return []
    try:
        scored, _ = _evaluate(_folders(run, workspace, joined), run.finished_at, None)
    except CoreError:
        return []  # ``scores`` shows the error
    return [finding for finding in scored.findings if finding.net_benefit]


def scores(
    run: Run,
    workspace: Workspace,
    finding: str | None = None,
    prevalence: float | None = None,
    problem: Markup | str = "",
    joined: Trial | None = None,
) -> Markup:
    """HTML of a completed run's scores on the test split; empty for any other run.

    Args:
        run: The run.
        workspace: Holds its predictions.
        finding: Finding of the decision curve; None for no curve.
        prevalence: Prevalence for PPV, NPV and net benefit, in (0, 1); by default that of each
            finding in the test split.
        problem: Shown where the prevalence is not valid.
        joined: All folds of its cross-validation, if they are completed; they are scored then.
    """
    if not is_scored(run, workspace):
        return Markup()
    try:
        folders = _folders(run, workspace, joined)
        scored, bins = _evaluate(folders, run.finished_at, prevalence)
    except CoreError as error:
        return render("pages/runs/scores.html.j2", error=error)
    style = method_style(run.spec.adapter.method)
    groups = [group.auroc for kind in scored.subgroups for group in kind.groups]
    scale = Scale.around(groups, within=(0.0, 1.0))
    curves = [each for each in scored.findings if each.finding == finding and each.net_benefit]
    return render(
        "pages/runs/scores.html.j2",
        error=None,
        problem=problem,
        run=run,
        folds=len(folders),
        scores=scored,
        prevalence=evaluate.prevalence_words(scored),
        columns=COLUMNS,
        kinds=KINDS,
        reliability=_reliability(bins, style),
        decision=decision_chart(curves[0], style) if curves else "",
        group_dots={kind.by: _dots(kind, style, scale) for kind in scored.subgroups},
        axis=axis(scale, "AUROC"),
        isnan=math.isnan,
    )


def _folders(run: Run, workspace: Workspace, joined: Trial | None) -> tuple[Path, ...]:
    return joined.folders if joined else (workspace.run(run.id),)


@lru_cache(maxsize=32)
def _evaluate(
    folders: tuple[Path, ...], finished_at: float | None, prevalence: float | None
) -> tuple[Scores, tuple[calibration.ReliabilityBin, ...]]:
    """Scores of a run, or of all folds, and their reliability over all findings.

    The time at which the run finished is part of the key.
    """
    predictions = read_joined(folders, SPLIT)
    pooled = calibration.reliability(predictions.labels.ravel(), predictions.scores.ravel())
    result = evaluate.evaluate_run(folders[0], SPLIT, others=folders[1:], prevalence=prevalence)
    return result, pooled


def _reliability(bins: Sequence[calibration.ReliabilityBin], style: Style) -> Markup:
    """Chart of the observed share of positives against the predicted probability."""
    end = min(1.0, 1.05 * max([0.1, *(max(each.observed.high, each.predicted) for each in bins)]))
    diagonal = line("perfectly calibrated", [0, end], [0, end], OTHER, hoverinfo="skip")
    points = line(
        "observed",
        [each.predicted for each in bins],
        [each.observed.value for each in bins],
        style,
        mode="markers",
        hoverinfo="text",
        hovertext=[
            f"predicted {each.predicted:.3f}, observed {each.observed.value:.3f} "
            f"({each.observed.low:.3f} to {each.observed.high:.3f}) in {each.studies:,} studies"
            for each in bins
        ],
    )
    title = "Reliability, all findings pooled"
    return chart(
        [diagonal, with_bars(points, [each.observed for each in bins])],
        title=title,
        description=f"{title}: predicted against observed in {len(bins)} groups of equal size",
        x="predicted probability",
        height=260,
        xaxis={"range": [0, end]},
        yaxis={"range": [0, end]},
        showlegend=False,
    )


def _dots(kind: Subgroups, style: Style, scale: Scale) -> list[str]:
    """A figure for each group of one kind."""
    return [
        dots([Dot(group.auroc, style, _title(kind.by, group.name, group.auroc))], scale)
        for group in kind.groups
    ]


def _title(kind: str, group: str, interval: Interval) -> str:
    return f"{KINDS[kind]} {group}: {formatting.auroc(interval.value)}"
