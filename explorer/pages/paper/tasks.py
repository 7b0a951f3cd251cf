"""The study's question, its 18 tasks and the scaled-down ones as HTML, with what runs say here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import groupby

from core import formatting
from core.evaluation.verdict import Evidence, adapter
from core.experiments.paper.claims import Judgement
from core.experiments.paper.tasks import PAPER_METHODS, REFERENCE, TITLE, UNPUBLISHED, URL, Task
from core.formatting import DISCLAIMER
from core.metrics.intervals import Interval
from core.models.backbones.registry import BACKBONES
from core.runs.run import RunState
from explorer.figures import dots
from explorer.figures.dots import Dot, Scale
from explorer.figures.markers import mark
from explorer.figures.palette import OTHER, Style, method_style, state_dot
from explorer.pages.paper import report, results
from explorer.pages.paper.results import FIRST, FULL, LORA, WANTED_SEEDS, Board, Cell, Side
from explorer.templates import error_message

EVIDENCE: dict[Evidence, tuple[str, str]] = {
    "above": ("good", "LoRA clearly better"),
    "below": ("bad", "LoRA clearly worse"),
    "unclear": ("quiet", "no clear difference"),
    "undecided": ("warn", "not decidable yet"),
}
"""Tone of the dot and the words beside it."""

NAMES = {LORA: "LoRA", FULL: "Full"}
PHANTOM_CAVEAT = (
    "Phantoms are generated pictures, and the embedded backbones learnt from many: these tasks "
    "ask the study’s question where everybody can, but say nothing of patients."
)
SLOW = "A ViT-B/16 at 224 px wants a GPU; on a CPU one task takes days to months."


def page(board: Board, judged: tuple[Judgement, Judgement]) -> str:
    """All regions of the page, those that run on any machine first.

    Args:
        board: The tasks with their runs.
        judged: What is said of the claims, scaled down and with the study's own parts.
    """
    return (
        f'<div class="cxr-paper">{_study(board, judged)}{_miniature(board.miniature)}'
        f"{_tasks(board.tasks)}</div>"
    )


# --- question and answer -------------------------------------------------------------------------


def _study(board: Board, judged: tuple[Judgement, Judgement]) -> str:
    return (
        '<section class="cxr-panel cxr-study"><div><h2>What the study asked</h2>'
        "<p>Foundation models for chest radiographs are pre-trained without labels, then tuned "
        "with few. Does that need all of their parameters? Lian, Zhou, Yu and Wang held LoRA, "
        "which trains small additions to query and value of each block, against full fine-tuning "
        "in 18 transfer tasks: two backbones, three data sets, three label fractions.</p>"
        f"{report.rulings(*judged)}"
        f'<p class="cxr-small cxr-muted">{escape(TITLE)}. '
        f'<a href="{URL}" target="_blank" rel="noopener noreferrer">'
        f"{escape(REFERENCE)}</a>. The claims are the abstract’s, in other words; each "
        "figure is of one run, without an interval.</p></div>"
        f"<div>{answer(board)}</div></section>"
    )


def answer(board: Board) -> str:
    """Whether the claim holds here, as far as the runs can tell, and the next step."""
    rows = "".join(
        f'<tr><th scope="row">{name}</th><td>{_tally(cells)}</td></tr>'
        for name, cells in (("Scaled down", board.miniature), ("The study’s own", board.tasks))
    )
    return (
        '<h2>Does it hold here?</h2><table class="cxr-table cxr-tally" '
        f'aria-label="Outcomes so far"><tbody>{rows}</tbody></table>{_steps(board.miniature)}'
        f'<p class="cxr-small cxr-muted">{DISCLAIMER}.</p>'
    )


def _tally(cells: Sequence[Cell]) -> str:
    counts = [
        (tone, words, sum(c.verdict is not None and c.verdict.evidence == kind for c in cells))
        for kind, (tone, words) in EVIDENCE.items()
    ]
    told = "".join(
        f'<span class="cxr-state">{_dot(tone)}{count} {words}</span>'
        for tone, words, count in counts
        if count
    )
    weighing = sum(cell.weighing for cell in cells)
    if weighing:
        told += f'<span class="cxr-state">{_dot("busy")}{weighing} being weighed …</span>'
    rest = len(cells) - sum(count for _, _, count in counts) - weighing
    without = f"{rest} of {len(cells)} without runs of both methods" if rest else ""
    return f'{told}<span class="cxr-muted">{without}</span>'


def _steps(cells: Sequence[Cell]) -> str:
    """The buttons that bring the scaled-down tasks on."""
    if any(results.needs(cell.task) for cell in cells):
        return ""
    begun = any(side.runs or side.going for cell in cells for side in cell.sides)
    if not begun:
        words = f"phantoms with 14 findings, {_percent(FIRST.fraction)} of the labels"
        first = (
            '<button type="button" class="cxr-button cxr-button-main" data-act="first">'
            f'Queue the first comparison</button><p class="cxr-small cxr-muted">LoRA and full '
            f"fine-tuning once each: {words}.</p>"
        )
        return f'{first}<div class="cxr-row">{_all_button(cells, 1)}</div>'
    seeds = 1 if results.missing(cells, 1) else WANTED_SEEDS
    return f'<div class="cxr-row">{_all_button(cells, seeds)}</div>'


def _all_button(cells: Sequence[Cell], seeds: int) -> str:
    wanted = results.missing(cells, seeds)
    if not wanted:
        return ""
    takes = results.seconds(cells, wanted)
    time = f", about {formatting.duration(takes)}" if takes else ""
    runs = f"{len(wanted)} run{'s' if len(wanted) > 1 else ''}"
    what = "once each" if seeds == 1 else f"with {seeds} seeds each"
    return (
        f'<button type="button" class="cxr-button" data-act="all" data-seeds="{seeds}" '
        f'data-confirm="Queue {runs}{time}, so that each scaled-down task is done by both methods '
        f'{what}?" data-confirm-label="Queue {runs}">Queue all scaled-down tasks {what} '
        f"({runs}{time})</button>"
    )


# --- tables --------------------------------------------------------------------------------------


def _miniature(cells: Sequence[Cell]) -> str:
    scale = _scale(cells)
    body = "".join(
        _group(same, scale, published=False) for same in _by_data(cells)
    )  # fmt: skip
    return (
        '<section class="cxr-panel"><h2>Scaled down: runs on any machine</h2>'
        f'<p class="cxr-small cxr-muted">{PHANTOM_CAVEAT} {_RULE}</p>'
        f"{_table('The scaled-down tasks', body, scale, published=False)}</section>"
    )


def _tasks(cells: Sequence[Cell]) -> str:
    scale = _scale(cells)
    body = "".join(_group(same, scale, published=True) for same in _by_data(cells))
    known = sum(cell.task.gain is not None for cell in cells)
    return (
        f'<section class="cxr-panel"><h2>The study’s {len(cells)} tasks</h2>'
        f'<p class="cxr-small cxr-muted">{SLOW} {_RULE} The labelled share is drawn by this '
        "software, by patient; the study’s own lists of 1% and 10% are not used.</p>"
        '<p class="cxr-small cxr-muted">Published figures: full fine-tuning with MRM is the MRM '
        "paper’s, LoRA is from the study’s abstract. A dash means: "
        f"{UNPUBLISHED}. So the published difference is known for {known} of {len(cells)} "
        "tasks, and the 13 of 18 cannot be checked one by one.</p>"
        f'<ul class="cxr-small cxr-muted">{_sources(cells)}</ul>'
        f"{_table('The tasks of the study', body, scale, published=True)}</section>"
    )


def _sources(cells: Sequence[Cell]) -> str:
    """Where the weights come from, and what they have seen."""
    cards = [BACKBONES[name] for name in dict.fromkeys(cell.task.backbone for cell in cells)]
    lines = []
    for one in cards:
        address, _, rest = one.url.partition(" ")
        link = (
            f'<a href="{escape(address)}" target="_blank" rel="noopener noreferrer">'
            f"{escape(address.removeprefix('https://'))}</a> {escape(rest)}"
        )
        lines.append(f"<li>Weights of {escape(one.title)}: {link}. {escape(one.leaks)}</li>")
    return "".join(lines)


_POINTS = (
    "LoRA minus full fine-tuning, AUROC × 100; below it the 95% interval over seeds, or over the "
    "patients of the test split while there is one seed"
)
_RULE = (
    "Completed runs with exactly a task’s recipe count; seed, device, precision and folders may "
    "differ."
)


def _table(label: str, body: str, scale: Scale, *, published: bool) -> str:
    over = '<th colspan="3" class="cxr-over" scope="colgroup">Published AUROC</th>'
    names = (
        '<th class="cxr-num" scope="col">LoRA</th><th class="cxr-num" scope="col">Full</th>'
        '<th class="cxr-num" scope="col">Points</th>'
    )
    here = (
        f'<th class="cxr-num cxr-first" scope="col">{mark(method_style(LORA))} LoRA</th>'
        f'<th class="cxr-num" scope="col">{mark(method_style(FULL))} Full</th>'
        f'<th class="cxr-num" scope="col" title="{_POINTS}">Points</th>'
        f'<th class="cxr-plot" scope="col">{dots.axis(scale, "LoRA − full, points")}</th>'
        '<th scope="col">Evidence</th>'
    )
    top = (
        f'<tr><th rowspan="2" scope="col">Labels</th>{over if published else ""}'
        '<th colspan="5" class="cxr-over cxr-first" scope="colgroup">In this workspace, test '
        'split</th><th rowspan="2" scope="col">Fill the launch form</th></tr>'
    )
    return (
        f'<div class="cxr-scroll"><table class="cxr-table cxr-cells" aria-label="{label}">'
        f"<thead>{top}<tr>{names if published else ''}{here}</tr></thead>{body}</table></div>"
    )


def _by_data(cells: Sequence[Cell]) -> Iterator[list[Cell]]:
    for _, same in groupby(cells, key=lambda cell: (cell.task.backbone, cell.task.data)):
        yield list(same)


def _group(cells: Sequence[Cell], scale: Scale, *, published: bool) -> str:
    """One backbone on one data set: what it needs, then a row a label fraction."""
    task = cells[0].task
    backbone, data = results.backbone(task), results.data(task)
    width = 7 + 3 * published
    rows = "".join(_row(cell, scale, published) for cell in cells)
    return (
        f'<tbody><tr class="cxr-of"><th colspan="{width}" scope="rowgroup"><b>'
        f"{escape(backbone)}</b> on <b>{escape(data)}</b>{_lacking(task)}</th></tr>{rows}</tbody>"
    )


def _lacking(task: Task) -> str:
    needed = results.needs(task)
    if not results.possible(task):
        words = "Cannot be run with this version: it does not read this data set."
        return f'<span class="cxr-state">{_dot("bad", hollow=True)}{words}</span>'
    if needed:
        words = escape(f"needs {' and '.join(needed)}")
        return f'<span class="cxr-state">{_dot("warn", hollow=True)}<span>{words}</span></span>'
    return f'<span class="cxr-state">{_dot("good")}nothing to fetch</span>'


def _row(cell: Cell, scale: Scale, published: bool) -> str:
    task = cell.task
    figures = ""
    if published:
        each = [formatting.auroc(task.published[method]) for method in PAPER_METHODS]
        gap = "–" if task.gain is None else formatting.points(task.gain)
        figures = "".join(
            _number(text, f"published {name}")
            for text, name in zip((*each, gap), ("LoRA", "full", "points"), strict=True)
        )
    return (
        f'<tr data-key="{task.name}"><th scope="row">{_percent(task.fraction)}</th>'
        f"{figures}{_mean(cell.lora, ' cxr-first')}{_mean(cell.full)}"
        f"{_number(_difference(cell), 'points')}"
        f'<td class="cxr-plot">{_dots(cell, scale)}</td>'
        f'<td class="cxr-evidence">{_evidence(cell)}</td><td class="cxr-act">{_launch(cell)}</td>'
        f"</tr>{_said(cell, 7 + 3 * published)}"
    )


def _number(text: str, name: str, more: str = "") -> str:
    """A cell whose name is shown where the table's head is not, which is on a phone."""
    blank = " cxr-blank" if text == "–" else ""
    return f'<td class="cxr-num{more}{blank}" data-name="{name}">{text}</td>'


def _mean(side: Side, more: str = "") -> str:
    count = len(side.runs)
    seeds = f"{count} seed{'s' if count > 1 else ''}"
    small = f'<br><span class="cxr-muted cxr-small">{seeds}</span>' if count else ""
    return _number(f"{formatting.auroc(side.auroc)}{small}", NAMES[side.method], more)


def _difference(cell: Cell) -> str:
    if cell.verdict is None:
        return "–"
    over = _best_known(cell)
    small = ""
    if over is not None:
        low, high = formatting.points(over.low), formatting.points(over.high)
        small = f'<br><span class="cxr-muted cxr-small">{low} to {high}</span>'
    return f"{formatting.points(cell.verdict.difference.value)}{small}"


def _best_known(cell: Cell) -> Interval | None:
    """The interval over seeds, else over patients, else none."""
    assert cell.verdict is not None
    for interval in (cell.verdict.difference, cell.verdict.over_patients):
        if not math.isnan(interval.low):
            return interval
    return None


def _evidence(cell: Cell) -> str:
    if cell.verdict is not None:
        tone, words = EVIDENCE[cell.verdict.evidence]
        return f'<span class="cxr-state">{_dot(tone)}{words}</span>'
    if cell.weighing:
        return f'<span class="cxr-state">{_dot("busy")}weighing …</span>'
    states = "".join(_progress(side) for side in cell.sides)
    if states:
        return states
    if cell.fault is not None:
        return f'<span class="cxr-state">{_dot("bad", hollow=True)}cannot be compared</span>'
    if not results.possible(cell.task):
        return ""
    for side, other in ((cell.lora, cell.full), (cell.full, cell.lora)):
        if side.runs and not other.runs:
            return f'<span class="cxr-muted">{NAMES[other.method]} is missing</span>'
    return '<span class="cxr-muted">no runs yet</span>'


def _progress(side: Side) -> str:
    run = side.going[0] if side.going else side.failed
    if run is None:
        return ""
    share = ""
    if run.state is RunState.RUNNING and run.progress is not None:
        share = f" {100 * run.progress:.0f}%"
    more = f" (+{len(side.going) - 1})" if len(side.going) > 1 else ""
    return (
        f'<button type="button" class="cxr-button cxr-going" data-act="run" data-run="{run.id}" '
        f'title="Show this run">{NAMES[side.method]} {state_dot(run.state)}{share}{more}</button>'
    )


def _launch(cell: Cell) -> str:
    task = cell.task
    if not results.possible(task):
        return '<span class="cxr-muted cxr-small">not possible</span>'
    return (
        '<span class="cxr-both">'
        + "".join(
            f'<button type="button" class="cxr-button" data-act="launch" data-task="{task.name}" '
            f'data-method="{side.method}" title="{escape(recipe(task, side.method))}" '
            f'aria-label="Fill the launch form with {_in_words(task, side.method)}">'
            f"{NAMES[side.method]}</button>"
            for side in cell.sides
        )
        + "</span>"
    )


def recipe(task: Task, method: str) -> str:
    """How a task is trained by one method, and where that comes from."""
    spec = task.spec(method).resolved()
    name = adapter(spec)
    train = spec.train
    source = task.recipes[method].source
    epochs = f"{train.epochs} epoch{'s' if train.epochs > 1 else ''}"
    optimizer = {"sgd": "SGD", "adamw": "AdamW"}[train.optimizer]
    return (
        f"{name[:1].upper()}{name[1:]}, {epochs}, {optimizer}, rate {train.lr:.3g}, "
        f"batch {train.batch_size}. {source}"
    )


def _in_words(task: Task, method: str) -> str:
    return escape(
        f"{adapter(task.spec(method))}: {results.backbone(task)}, {results.data(task)}, "
        f"{_percent(task.fraction)} of the labels"
    )


def _said(cell: Cell, width: int) -> str:
    """The verdict as a sentence below the row, with the way to the comparison."""
    notes = list(_notes(cell))
    if cell.verdict is None and cell.fault is None and not notes:
        return ""
    words = ""
    if cell.verdict is not None:
        words = f"<span>{escape(cell.verdict.sentence)}</span>"
    elif cell.fault is not None:
        words = error_message(cell.fault)
    small = f' <span class="cxr-muted">{escape(" ".join(notes))}</span>' if notes else ""
    button = ""
    if cell.lora.runs and cell.full.runs:
        pair = f"{cell.lora.runs[-1].id},{cell.full.runs[-1].id}"
        button = (
            f'<button type="button" class="cxr-button cxr-button-link" data-act="compare" '
            f'data-runs="{pair}">Compare them</button>'
        )
    return (
        f'<tr class="cxr-said-row" data-key="{cell.task.name}-said"><td></td>'
        f'<td colspan="{width - 1}">{words}{small} {button}</td></tr>'
    )


def _notes(cell: Cell) -> Iterable[str]:
    if cell.verdict is not None:
        yield from cell.verdict.notes
    if cell.others:
        yield (
            "1 run on this question has another recipe and does not count."
            if cell.others == 1
            else f"{cell.others} runs on this question have other recipes and do not count."
        )


# --- marks ---------------------------------------------------------------------------------------


def _scale(cells: Sequence[Cell]) -> Scale:
    spans = [
        part
        for cell in cells
        if cell.verdict
        for part in (cell.verdict.difference, cell.verdict.over_patients)
    ]
    gains = [cell.task.gain for cell in cells if cell.task.gain is not None]
    spans += [Interval(gain, math.nan, math.nan) for gain in gains]
    least = [Interval(0.0, -0.03, 0.03)]  # the study's largest difference is 2.9 points
    return Scale.around([*spans, *least], zero=0.0, factor=100, decimals=0)


_PUBLISHED = Style(OTHER.colour, OTHER.dasharray, "diamond")


def _dots(cell: Cell, scale: Scale) -> str:
    row = []
    if cell.task.gain is not None:
        words = f"Published: {formatting.points(cell.task.gain)} points, no interval"
        row.append(Dot(Interval(cell.task.gain, math.nan, math.nan), _PUBLISHED, words))
    if cell.verdict is not None:
        row.append(
            Dot(
                cell.verdict.difference,
                method_style(LORA),
                cell.verdict.sentence,
                wider=cell.verdict.over_patients,
            )
        )
    return dots.dots(row, scale)


def _dot(tone: str, hollow: bool = False) -> str:
    ring = " cxr-dot-hollow" if hollow else ""
    return f'<span class="cxr-dot cxr-dot-{tone}{ring}" aria-hidden="true"></span>'


def _percent(fraction: float) -> str:
    return f"{100 * fraction:g}%"
