"""HTML of the comparison: the verdict, the findings of all runs, and what differs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from core.evaluation.verdict import Evidence
from core.formatting import auroc, duration, number, points, share
from core.metrics.intervals import Interval
from core.runs.run import ACTIVE, RunState
from explorer.components.run_comparison import (
    WANTED_SEEDS,
    ComparedRun,
    Comparison,
    GroupVerdict,
    missing_seeds,
)
from explorer.figures.charts import Trace, chart, curve, line, mean_over_seeds, with_bars
from explorer.figures.dots import Dot, Scale, axis, dots
from explorer.templates import error_message, render

TEMPLATE = "pages/compare/view.html.j2"

EVIDENCE: dict[Evidence, tuple[str, str]] = {
    "above": ("good", "clearly better"),
    "below": ("bad", "clearly worse"),
    "unclear": ("quiet", "no clear difference"),
    "undecided": ("warn", "not decidable yet"),
}
"""Tone of the dot, and the words after it."""

COST_TITLE = "Test AUROC against trainable parameters"


@dataclass(frozen=True)
class FindingRow:
    """One row of the table of findings.

    Attributes:
        name: Name of the finding; empty for the mean over findings.
        positives: Positive studies of the test split; None for the mean.
        dots: Figure of all runs' AUROC with their intervals.
        cells: For each run the text, its description and whether it is clearly the best.
    """

    name: str
    positives: int | None
    dots: str
    cells: tuple[tuple[str, str, bool], ...]


def page(comparison: Comparison, rates: Sequence[Markup] = ()) -> Markup:
    """Everything below the page's controls, the verdict first.

    Args:
        comparison: The comparison.
        rates: Charts of the tunings of the compared methods.
    """
    scale = _findings_scale(comparison)
    return render(
        TEMPLATE,
        comparison=comparison,
        address=json.dumps({"compare": ",".join(each.run.id for each in comparison.runs)}),
        evidence=EVIDENCE,
        reason=_reason(comparison),
        notes=_notes(comparison),
        missing=_missing(comparison),
        forest=_forest(comparison),
        rates=rates,
        curves=_curves(comparison),
        cost_title=COST_TITLE,
        cost=_cost(comparison),
        findings=_finding_rows(comparison, scale),
        findings_axis=axis(scale, "AUROC"),
        outcomes=[
            (name, [outcome(each) for each in comparison.runs]) for name, outcome in _OUTCOMES
        ],
        error_message=error_message,
    )


def empty(completed: int) -> Markup:
    """What to do while there is nothing to compare."""
    return render(TEMPLATE, comparison=None, completed=completed)


# --- verdict -------------------------------------------------------------------------------------


def _reason(comparison: Comparison) -> str:
    """Why there is no verdict; empty if there is one."""
    if comparison.verdicts:
        return ""
    if len(comparison.groups) == 1 and len(comparison.scored) > 1:
        values = [scores.macro.value for _, scores in comparison.scored]
        spread = 100 * (max(values) - min(values))
        title = comparison.groups[0].title
        return f"These runs differ only in the seed: {title} has a spread of {spread:.1f} points."
    unfinished = {RunState.QUEUED, RunState.STOPPED, *ACTIVE}
    if any(each.run.state in unfinished for each in comparison.runs):
        return "The verdict appears when two of these runs have completed."
    return (
        "There is nothing to compare: choose at least two completed runs that differ in more than "
        "the seed."
    )


def _notes(comparison: Comparison) -> list[str]:
    """Notes on the verdicts, each once, and why runs have no scores."""
    notes = [note for each in comparison.verdicts if each.verdict for note in each.verdict.notes]
    notes.append(comparison.about_chance)
    notes += [f"{each.title}: {each.fault}" for each in comparison.runs if each.scores is None]
    return [note for note in dict.fromkeys([*notes, *comparison.pixels]) if note]


def _missing(comparison: Comparison) -> dict[str, Any] | None:
    """The seeds that a decision needs: runs, seeds per group, and seconds if they are known."""
    if not comparison.verdicts or comparison.baseline is None:
        return None
    groups = [*(each.group for each in comparison.verdicts), comparison.baseline]
    specs = missing_seeds(groups)
    if not specs:
        return None
    seconds = [each.run.seconds for each in comparison.runs if each.run.seconds]
    return {
        "runs": len(specs),
        "seeds": WANTED_SEEDS,
        "seconds": max(seconds) * len(specs) if seconds else None,
    }


def _forest(comparison: Comparison) -> dict[str, Any] | None:
    """Differences from the baseline on one scale: rows of group, mark and dots, and the axis."""
    decided = [(each, each.verdict) for each in comparison.verdicts if each.verdict]
    if not decided or comparison.baseline is None:
        return None
    spans = [span for _, v in decided for span in (v.difference, v.over_patients)]
    scale = Scale.around(spans, zero=0.0, factor=100, decimals=1)
    seeds = len(comparison.baseline.trials)
    label = f"points against {comparison.baseline.title} ({seeds} seed{'s' if seeds > 1 else ''})"
    return {
        "rows": [
            (each, dots([_difference_dot(each, v.difference, v.over_patients)], scale))
            for each, v in decided
        ],
        "axis": axis(scale, label),
    }


def _difference_dot(each: GroupVerdict, both: Interval, over_patients: Interval) -> Dot:
    title = (
        f"{each.group.title}: {points(both.value)} points; over seeds and patients "
        f"{_bounds(both)}, over patients alone {_bounds(over_patients)}"
    )
    return Dot(both, each.style, title, wider=over_patients)


def _bounds(interval: Interval) -> str:
    if math.isnan(interval.low):
        return "unknown"
    return f"{points(interval.low)} to {points(interval.high)}"


# --- figures -------------------------------------------------------------------------------------


def _curves(comparison: Comparison) -> Markup:
    """Chart of the validation AUROC of each run, and the mean of each group of several seeds."""
    runs = [each for each in comparison.runs if each.curve]
    ends = "; ".join(f"{each.title} ends at {each.curve[-1].value:.3f}" for each in runs)
    traces: list[Trace] = []
    repeated: set[str] = set()
    for group, (style, seeds) in zip(comparison.groups, comparison.seed_curves, strict=True):
        if len(seeds) > 1:
            name = f"{group.title}, mean of {len(seeds)} seeds"
            traces += mean_over_seeds(name, seeds, style, group.spec.train.batch_size)
            repeated |= {trial.id for trial in group.trials}
    for each in runs:
        batch, thin = each.run.spec.train.batch_size, each.run.id in repeated
        traces += curve(each.title, each.curve, each.style, batch, thin=thin)
    return chart(
        traces,
        title="Validation AUROC (mean over findings)",
        description=f"Validation AUROC by epoch: {ends or 'no values yet'}",
        x="epochs",
        hovermode="x unified",
        xaxis={"range": [0, max(each.run.spec.train.epochs for each in comparison.runs)]},
        yaxis={"hoverformat": ".3f"},
        legend={"orientation": "h"},
        height=_height(comparison),
    )


def _cost(comparison: Comparison) -> Markup | str:
    """Chart of the test AUROC against trainable parameters; empty if no run has both."""
    traces, titles = [], []
    for each, scores in comparison.scored:
        trainable, total = each.run.trainable, each.run.total
        if not trainable or math.isnan(scores.macro.value):
            continue
        of_model = f" ({share(trainable / total)})" if total else ""
        titles.append(
            f"{each.title}: AUROC {_with_interval(scores.macro)}, {number(trainable)} trainable "
            f"parameters{of_model}"
        )
        point = line(
            each.title, [trainable], [scores.macro.value], each.style, hovertext=titles[-1]
        )
        traces.append(with_bars({**point, "hoverinfo": "text"}, [scores.macro]))
    if not traces:
        return ""
    return chart(
        traces,
        title=COST_TITLE,
        description=f"{COST_TITLE}: {'; '.join(titles)}",
        x="trainable parameters (logarithmic)",
        xaxis={"type": "log", "dtick": "D2", "tickformat": "~s"},
        legend={"orientation": "h"},
        showlegend=True,
        height=_height(comparison),
    )


def _height(comparison: Comparison) -> int:
    """Height of a chart in pixels, with a line of its legend for each run and each mean."""
    return 250 + 19 * (len(comparison.runs) + len(comparison.groups))


# --- tables --------------------------------------------------------------------------------------


def _findings_scale(comparison: Comparison) -> Scale:
    intervals = [f.auroc for _, scores in comparison.scored for f in scores.findings]
    return Scale.around(intervals, zero=0.5, within=(0.0, 1.0), decimals=2)


def _finding_rows(comparison: Comparison, scale: Scale) -> list[FindingRow]:
    """The mean, then every finding that one of the runs has."""
    scored = comparison.scored
    if not scored:
        return []
    means = [(each, scores.macro) for each, scores in scored]
    rows = [_finding_row("", None, means, scale, "")]
    by_run = [(each, {f.finding: f for f in scores.findings}) for each, scores in scored]
    for name in dict.fromkeys(name for _, findings in by_run for name in findings):
        known = [(each, findings.get(name)) for each, findings in by_run]
        aurocs = [(each, finding.auroc if finding else None) for each, finding in known]
        positives = max(finding.positives for _, finding in known if finding)
        rows.append(_finding_row(name, positives, aurocs, scale, comparison.best.get(name, "")))
    return rows


def _finding_row(
    name: str,
    positives: int | None,
    aurocs: Sequence[tuple[ComparedRun, Interval | None]],
    scale: Scale,
    best: str,
) -> FindingRow:
    readable = name.replace("_", " ") or "Mean"
    lanes, cells = [], []
    for each, interval in aurocs:
        value = interval or Interval(math.nan, math.nan, math.nan)
        title = f"{readable}, {each.title}: {_with_interval(value)}"
        lanes.append(Dot(value, each.style, title))
        cells.append((auroc(value.value), title, best == each.run.id))
    return FindingRow(name, positives, dots(lanes, scale), tuple(cells))


def _trainable(each: ComparedRun) -> str:
    run = each.run
    if not run.trainable or not run.total:
        return "–"
    return f"{number(run.trainable)} ({share(run.trainable / run.total)})"


_OUTCOMES: tuple[tuple[str, Callable[[ComparedRun], str]], ...] = (
    ("trainable parameters", _trainable),
    ("wall time", lambda each: duration(each.run.seconds)),
    ("device", lambda each: each.run.device or "–"),
)
"""What is known of each run besides its settings."""


def _with_interval(interval: Interval) -> str:
    if math.isnan(interval.value):
        return "not defined (one class only)"
    if math.isnan(interval.low):
        return f"{auroc(interval.value)}, no interval"
    return f"{auroc(interval.value)}, 95% interval {auroc(interval.low)} to {auroc(interval.high)}"
