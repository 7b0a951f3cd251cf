"""The comparison of runs as HTML: the verdict in words, findings side by side, what differs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from html import escape

from core import formatting
from core.evaluation.verdict import Evidence, Group
from core.metrics.intervals import Interval
from core.runs.run import RunState
from explorer.components.run_comparison import (
    WANTED_SEEDS,
    Comparison,
    Entry,
    Judged,
    missing_seeds,
)
from explorer.figures import dots
from explorer.figures.curves import Curve, chart
from explorer.figures.dots import Dot, Point, Scale
from explorer.figures.markers import mark
from explorer.templates import error_message

EVIDENCE: dict[Evidence, tuple[str, str]] = {
    "above": ("good", "clearly better"),
    "below": ("bad", "clearly worse"),
    "unclear": ("quiet", "no clear difference"),
    "undecided": ("warn", "not decidable yet"),
}
"""Tone of the dot and the words beside it."""


def page(found: Comparison) -> str:
    """All regions of the page below its controls, the verdict first."""
    ids = ",".join(one.run.id for one in found.entries)
    address = escape(json.dumps({"compare": ids}))
    return (
        f'<div data-address="{address}">{verdict(found)}'
        f'<div class="cxr-charts">{curves(found.entries)}{cost(found.entries)}</div>'
        f"{findings(found)}{settings(found)}</div>"
    )


def empty(completed: int) -> str:
    """What to do while there is nothing to compare."""
    if completed == 0:
        return (
            '<div class="cxr-empty"><p><b>Nothing to compare yet.</b>Two runs on the same data '
            "that differ in one thing give a first answer.</p>"
            '<button class="cxr-button cxr-button-main" data-act="pair">Queue LoRA and full '
            "fine-tuning on phantoms</button></div>"
        )
    if completed == 1:
        return (
            '<div class="cxr-empty"><p><b>One run has completed.</b>Train the same with another '
            "method to compare the two.</p>"
            '<button class="cxr-button cxr-button-main" data-act="partner">Queue its counterpart'
            "</button></div>"
        )
    return (
        '<div class="cxr-empty"><p><b>Choose two to six runs above.</b>'
        "Their other seeds in this workspace count in the verdict too.</p></div>"
    )


# --- verdict -------------------------------------------------------------------------------------


def verdict(found: Comparison) -> str:
    """The verdict of each group against the reference, and their differences on one scale."""
    waiting = [one for one in found.entries if one.scores is None]
    lines = "".join(_line(one) for one in found.judged)
    if not found.judged:
        lines = _no_verdict(found)
    notes = _once(note for one in found.judged if one.verdict for note in one.verdict.notes)
    notes += [f"{one.title}: {one.fault}" for one in waiting]
    many = " cxr-many" if len(found.judged) > 2 else ""
    small = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return (
        '<section class="cxr-panel cxr-verdict" aria-label="Verdict">'
        f'<div class="cxr-said{many}">{lines}<ul>{small}</ul>{_more_seeds(found)}</div>'
        f"{_forest(found)}</section>"
    )


def _line(one: Judged) -> str:
    if one.verdict is None:
        assert one.fault is not None
        return error_message(one.fault)
    tone, words = EVIDENCE[one.verdict.evidence]
    return (
        f'<div class="cxr-claim"><span class="cxr-state"><span class="cxr-dot cxr-dot-{tone}" '
        f'aria-hidden="true"></span>{words}</span><p>{escape(one.verdict.sentence)}</p></div>'
    )


def _no_verdict(found: Comparison) -> str:
    scored = [one for one in found.entries if one.scores]
    if len(found.groups) == 1 and len(scored) > 1:
        group = found.groups[0]
        values = [one.scores.macro.value for one in scored if one.scores]
        spread = 100 * (max(values) - min(values))
        return (
            '<div class="cxr-claim"><p>These runs differ in nothing but the seed: '
            f"{escape(group.title)} spreads over {spread:.1f} points.</p></div>"
        )
    if any(
        one.run.state not in (RunState.COMPLETED, RunState.FAILED, RunState.LOST)
        for one in found.entries
    ):
        return (
            '<div class="cxr-claim"><p>The verdict comes when two of these runs have completed.'
            "</p></div>"
        )
    return (
        '<div class="cxr-claim"><p>There is nothing to hold against each other: choose at least '
        "two completed runs that differ in more than the seed.</p></div>"
    )


def _more_seeds(found: Comparison) -> str:
    """A button that queues what a decision needs, with what it will take."""
    groups = [one.group for one in found.judged] + ([found.reference] if found.reference else [])
    missing = missing_seeds(groups)
    if not found.judged or not missing:
        return ""
    seconds = [one.run.seconds for one in found.entries if one.run.seconds]
    takes = f", about {formatting.duration(max(seconds) * len(missing))}" if seconds else ""
    runs = f"{len(missing)} run{'s' if len(missing) > 1 else ''}"
    return (
        f'<button class="cxr-button" data-act="seeds" '
        f'data-confirm="Queue {runs}{takes}, so that each side has {WANTED_SEEDS} seeds?" '
        f'data-confirm-label="Queue {runs}">Bring each side to {WANTED_SEEDS} seeds ({runs}{takes})'
        "</button>"
    )


def _forest(found: Comparison) -> str:
    shown = [(one, one.verdict) for one in found.judged if one.verdict]
    if not shown or found.reference is None:
        return ""
    spans = [
        part for _, one in shown for part in (one.difference, one.over_patients)
    ]  # fmt: skip
    scale = Scale.around(spans, zero=0.0, factor=100, decimals=1)
    rows = ""
    for judged, one in shown:
        words = (
            f"{judged.group.title}: {formatting.points(one.difference.value)} points; over seeds "
            f"{_points(one.difference)}, over patients {_points(one.over_patients)}"
        )
        dot = Dot(one.difference, judged.style, words, wider=one.over_patients)
        rows += (
            f'<div class="cxr-dots-name">{mark(judged.style)} {escape(judged.group.title)}'
            f"{_seeds(judged.group)}</div>{dots.dots([dot], scale)}"
        )
    reference = f"points against {found.reference.title}{_seeds(found.reference, plain=True)}"
    return (
        '<figure class="cxr-forest" aria-label="Differences of the mean AUROC">'
        f'{rows}<div></div>{dots.axis(scale, reference)}<figcaption class="cxr-muted cxr-small">'
        "Thick: 95% interval over seeds. Thin: over patients of the test split.</figcaption>"
        "</figure>"
    )


def _seeds(group: Group, plain: bool = False) -> str:
    count = len(group.trials)
    words = f"{count} seed{'s' if count > 1 else ''}"
    return f" ({words})" if plain else f' <span class="cxr-muted cxr-small">{words}</span>'


def _points(interval: Interval) -> str:
    if math.isnan(interval.low):
        return "not known"
    low, high = formatting.points(interval.low), formatting.points(interval.high)
    return f"{low} to {high}"


# --- figures -------------------------------------------------------------------------------------


def curves(entries: Sequence[Entry]) -> str:
    """Validation AUROC of each run over its epochs."""
    drawn = [
        Curve(one.title, one.epochs, one.curve, one.style, label=one.title)
        for one in entries
        if one.curve
    ]
    words = "; ".join(f"{c.name} ends at {c.y[-1]:.3f}" for c in drawn) or "no values yet"
    figure = chart(
        drawn,
        title="Validation AUROC (mean over findings)",
        description=f"Validation AUROC by epoch: {words}",
        epochs=max(one.run.spec.train.epochs for one in entries),
        bounds=(0.0, 1.0),
    )
    return f'<div class="cxr-panel">{figure}</div>'


def cost(entries: Sequence[Entry]) -> str:
    """Test AUROC against trainable parameters."""
    points = []
    for one in entries:
        trainable, total = one.run.trainable, one.run.total
        if one.scores is None or not trainable or math.isnan(one.scores.macro.value):
            continue
        share = f" ({formatting.share(trainable / total)})" if total else ""
        words = (
            f"{one.title}: AUROC {_range(one.scores.macro)}, {formatting.number(trainable)} "
            f"trainable parameters{share}"
        )
        points.append(Point(one.title, trainable, one.scores.macro, one.style, words))
    title = "Test AUROC against trainable parameters"
    if not points:
        return (
            f'<div class="cxr-panel"><h3>{title}</h3>'
            '<p class="cxr-muted">No run has been scored on the test split yet.</p></div>'
        )
    return f'<div class="cxr-panel">{dots.cost_and_score(points, title=title)}</div>'


# --- tables --------------------------------------------------------------------------------------


def findings(found: Comparison) -> str:
    """AUROC of each finding on the test split: dots with intervals, and the numbers beside them."""
    scored = [one for one in found.entries if one.scores]
    if not scored:
        return ""
    first = scored[0].scores
    assert first is not None
    names = list(
        dict.fromkeys(f.finding for one in scored if one.scores for f in one.scores.findings)
    )
    spans = [f.auroc for one in scored if one.scores for f in one.scores.findings]
    scale = Scale.around(spans, zero=0.5, within=(0.0, 1.0), decimals=2)
    heads = "".join(
        f'<th class="cxr-num" scope="col">{mark(one.style)} {escape(one.title)}</th>'
        for one in scored
    )
    body = _finding_row(
        "Mean", None, [(one, one.scores.macro if one.scores else None) for one in scored], scale, ""
    )
    for name in names:
        cells, positives = [], 0
        for one in scored:
            assert one.scores is not None
            match = next((f for f in one.scores.findings if f.finding == name), None)
            cells.append((one, match.auroc if match else None))
            positives = max(positives, match.positives if match else 0)
        body += _finding_row(name, positives, cells, scale, found.best.get(name, ""))
    return (
        '<section class="cxr-panel cxr-findings"><h3>AUROC by finding, test split'
        f' <span class="cxr-muted cxr-light">{first.studies:,} studies of {first.patients:,} '
        f'patients</span></h3><div class="cxr-scroll"><table class="cxr-table"><thead><tr>'
        '<th scope="col">Finding</th><th class="cxr-num" scope="col">Positive</th>'
        f'<th class="cxr-plot" scope="col"></th>{heads}</tr></thead><tbody>{body}</tbody>'
        f"<tfoot><tr><td></td><td></td><td>{dots.axis(scale, 'AUROC')}</td>"
        f'<td colspan="{len(scored)}"></td></tr></tfoot></table></div>'
        '<p class="cxr-muted cxr-small">95% intervals: of findings by DeLong with a patient’s '
        "studies taken together, of the mean by bootstrap over patients. Bold: ranks clearly "
        "best of these models on these studies (paired DeLong, Holm over all, p &lt; 0.05), which "
        "says nothing of other seeds.</p></section>"
    )


def _finding_row(
    name: str,
    positives: int | None,
    cells: Sequence[tuple[Entry, Interval | None]],
    scale: Scale,
    best: str,
) -> str:
    readable = name.replace("_", " ")
    lanes, numbers = [], ""
    for entry, interval in cells:
        value = interval or Interval(math.nan, math.nan, math.nan)
        words = f"{readable}, {entry.title}: {_range(value)}"
        lanes.append(Dot(value, entry.style, words))
        text = formatting.auroc(value.value)
        text = f"<b>{text}</b>" if best == entry.run.id else text
        numbers += f'<td class="cxr-num" title="{escape(words)}">{text}</td>'
    count = "" if positives is None else formatting.number(positives)
    kind = ' class="cxr-mean"' if positives is None else ""
    return (
        f'<tr data-key="{escape(name)}"{kind}><th scope="row">{escape(readable)}</th>'
        f'<td class="cxr-num cxr-muted">{count}</td><td class="cxr-plot">'
        f"{dots.dots(lanes, scale)}</td>{numbers}</tr>"
    )


def settings(found: Comparison) -> str:
    """What differs between the runs, and what came of them."""
    heads = "".join(
        f'<th scope="col">{mark(one.style)} {escape(one.title)}</th>' for one in found.entries
    )
    rows = ""
    for one in found.differing:
        cells = "".join(f"<td>{escape(value)}</td>" for value in one.values)
        hint = "" if one.given else ' <span class="cxr-muted cxr-small">follows</span>'
        rows += (
            f'<tr data-key="{one.path}"><th scope="row">{escape(one.label)}{hint}</th>{cells}</tr>'
        )
    if not rows:
        width = len(found.entries) + 1
        rows = f'<tr><td colspan="{width}" class="cxr-muted">Nothing differs.</td></tr>'
    rows += "".join(
        f'<tr data-key="{label}"><th scope="row" class="cxr-muted">{label}</th>'
        f"{''.join(f'<td>{escape(read(one))}</td>' for one in found.entries)}</tr>"
        for label, read in _OUTCOMES
    )
    return (
        '<section class="cxr-panel cxr-differing"><h3>What differs</h3><div class="cxr-scroll">'
        f'<table class="cxr-table"><thead><tr><th></th>{heads}</tr></thead><tbody>{rows}</tbody>'
        '</table></div><p class="cxr-muted cxr-small">“Follows”: not chosen by anybody, but the '
        "published value for the method or the optimizer.</p></section>"
    )


def _trains(one: Entry) -> str:
    if not one.run.trainable or not one.run.total:
        return "–"
    share = formatting.share(one.run.trainable / one.run.total)
    return f"{formatting.number(one.run.trainable)} ({share})"


_OUTCOMES = (
    ("trains", _trains),
    ("wall time", lambda one: formatting.duration(one.run.seconds)),
    ("device", lambda one: one.run.device or "–"),
)


def _range(interval: Interval) -> str:
    if math.isnan(interval.value):
        return "not defined (one class only)"
    text = formatting.auroc(interval.value)
    if math.isnan(interval.low):
        return f"{text}, no interval"
    return f"{text}, 95% interval {formatting.auroc(interval.low)} to {formatting.auroc(interval.high)}"


def _once(notes: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(notes))
