"""HTML of the study's question, its 18 tasks and the scaled-down ones, with the runs of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from markupsafe import Markup

from core.evaluation.groups import adapter
from core.evaluation.verdict import Evidence
from core.experiments.paper.claims import Judgement, Status
from core.experiments.paper.results import EVIDENCE
from core.experiments.paper.tables import title as dataset_title
from core.experiments.paper.tasks import PAPER_METHODS, REFERENCE, TITLE, UNPUBLISHED, URL, Task
from core.formatting import DISCLAIMER, auroc, capitalized, points, share
from core.metrics.intervals import Interval
from core.models.backbones.registry import BACKBONES, backbone_card
from explorer.components.run_comparison import WANTED_SEEDS
from explorer.figures.dots import Dot, Scale, axis, dots
from explorer.figures.palette import OTHER, Style, method_style, state_dot
from explorer.pages.paper import results
from explorer.pages.paper.results import FIRST, FULL, LORA, PaperResults, TaskResult
from explorer.templates import error_message, render

TONES: dict[Evidence, str] = {
    "above": "good",
    "below": "bad",
    "unclear": "quiet",
    "undecided": "warn",
}
"""Tone of the dot before the words of a verdict."""
STATUS_TONES: dict[Status, str] = {"holds": "good", "does not hold": "bad", "not decidable": "warn"}
"""Tone of the dot before the words of a claim."""

NAMES = {LORA: "LoRA", FULL: "Full"}
LARGEST_PUBLISHED = 0.03
"""The study's largest difference is 2.9 points; every scale shows at least this much."""

_PUBLISHED = Style(OTHER.colour, OTHER.dasharray, "diamond")


@dataclass(frozen=True)
class Row:
    """One task in a table.

    Attributes:
        result: The task with its runs and verdict.
        published: Published AUROC by LoRA and by full fine-tuning, and their difference in points.
        interval: Interval of the difference that decided, or over patients; None if unknown.
        dots: Figure of the difference, here and as published.
        buttons: For each method its name, the recipe and what the launch form is filled with.
        missing: Name of the method that has no runs while the other has; empty otherwise.
        notes: Sentences after the verdict.
    """

    result: TaskResult
    published: tuple[str, str, str]
    interval: Interval | None
    dots: str
    buttons: tuple[tuple[str, str, str], ...]
    missing: str
    notes: str


@dataclass(frozen=True)
class TaskGroup:
    """The tasks of one backbone on one data set.

    Attributes:
        backbone: Title of the backbone.
        dataset: Title of the data set.
        possible: Whether this software reads the data set.
        needs: What has to be downloaded first.
        rows: One row per label fraction.
    """

    backbone: str
    dataset: str
    possible: bool
    needs: tuple[str, ...]
    rows: tuple[Row, ...]


def page(paper: PaperResults, judgements: tuple[Judgement, Judgement]) -> Markup:
    """Everything on the page except the report, the tasks that run on any machine first.

    Args:
        paper: The tasks with their runs.
        judgements: The claims judged by the scaled-down tasks, and by the study's own tasks.
    """
    miniature, own = judgements
    return render(
        "pages/paper/tasks.html.j2",
        study={"title": TITLE, "url": URL, "reference": REFERENCE, "unpublished": UNPUBLISHED},
        claims=list(zip(miniature.rulings, own.rulings, strict=True)),
        own_compared=own.compared > 0,
        counts=[
            ("Scaled down", _counts(paper.miniature)),
            ("The study’s own", _counts(paper.tasks)),
        ],
        next_runs=_next_runs(paper.miniature),
        miniature=_groups(paper.miniature),
        miniature_axis=_axis(paper.miniature),
        tasks=_groups(paper.tasks),
        tasks_axis=_axis(paper.tasks),
        task_count=len(paper.tasks),
        published_count=sum(each.task.gain is not None for each in paper.tasks),
        backbones=_backbones(paper.tasks),
        methods=(LORA, FULL),
        names=NAMES,
        tones=TONES,
        status_tones=STATUS_TONES,
        evidence=EVIDENCE,
        disclaimer=DISCLAIMER,
        first_share=share(FIRST.fraction),
        method_style=method_style,
        state_dot=state_dot,
        error_message=error_message,
    )


def recipe(task: Task, method: str) -> str:
    """How a task is trained by one method, and the source of the recipe."""
    spec = task.spec(method).resolved()
    name = adapter(spec)
    train = spec.train
    epochs = f"{train.epochs} epoch{'s' if train.epochs > 1 else ''}"
    optimizer = {"sgd": "SGD", "adamw": "AdamW"}[train.optimizer]
    return (
        f"{capitalized(name)}, {epochs}, {optimizer}, learning rate {train.lr:.3g}, "
        f"batch size {train.batch_size}. {task.recipes[method].source}"
    )


def _counts(tasks: Sequence[TaskResult]) -> dict[str, Any]:
    """How many tasks have which evidence, a pending verdict, or no runs of both methods."""
    verdicts = [each.verdict.evidence for each in tasks if each.verdict]
    pending = sum(each.verdict_pending for each in tasks)
    return {
        "evidence": [(kind, verdicts.count(kind)) for kind in EVIDENCE if kind in verdicts],
        "pending": pending,
        "without": len(tasks) - len(verdicts) - pending,
        "all": len(tasks),
    }


def _next_runs(tasks: Sequence[TaskResult]) -> dict[str, Any] | None:
    """What the buttons queue: whether it is the first comparison, and the runs for all tasks."""
    if any(results.needs(each.task) for each in tasks):
        return None
    begun = any(each.runs or each.pending for task in tasks for each in task.methods)
    seeds = 1 if not begun or results.missing(tasks, 1) else WANTED_SEEDS
    wanted = results.missing(tasks, seeds)
    return {
        "first": not begun,
        "seeds": seeds,
        "runs": len(wanted),
        "seconds": results.seconds(tasks, wanted),
    }


def _groups(tasks: Sequence[TaskResult]) -> list[TaskGroup]:
    scale = _scale(tasks)
    groups = []
    for _, members in groupby(tasks, key=lambda each: (each.task.backbone, each.task.data)):
        rows = tuple(_row(result, scale) for result in members)
        task = rows[0].result.task
        groups.append(
            TaskGroup(
                backbone_card(task.backbone).title,
                dataset_title(task.data),
                results.is_possible(task),
                results.needs(task),
                rows,
            )
        )
    return groups


def _row(result: TaskResult, scale: Scale) -> Row:
    task = result.task
    lora, full = (auroc(task.published[method]) for method in PAPER_METHODS)
    missing = ""
    for each, other in (result.methods, result.methods[::-1]):
        if each.runs and not other.runs:
            missing = NAMES[other.method]
    return Row(
        result,
        (lora, full, "–" if task.gain is None else points(task.gain)),
        _interval(result),
        _dots(result, scale),
        tuple((method, recipe(task, method), _form(task, method)) for method in PAPER_METHODS),
        missing,
        " ".join(_notes(result)),
    )


def _form(task: Task, method: str) -> str:
    """What the launch form is filled with."""
    return (
        f"{adapter(task.spec(method))}: {backbone_card(task.backbone).title}, "
        f"{dataset_title(task.data)}, {share(task.fraction)} of the labels"
    )


def _interval(result: TaskResult) -> Interval | None:
    """The interval of the difference that decided, or over patients, or None."""
    if result.verdict is None:
        return None
    for interval in (result.verdict.difference, result.verdict.over_patients):
        if not math.isnan(interval.low):
            return interval
    return None


def _notes(result: TaskResult) -> list[str]:
    notes = list(result.verdict.notes) if result.verdict else []
    if result.others == 1:
        notes.append("1 run of this task has another recipe and does not count.")
    elif result.others:
        notes.append(f"{result.others} runs of this task have other recipes and do not count.")
    return notes


def _backbones(tasks: Sequence[TaskResult]) -> list[dict[str, str]]:
    """Where the weights come from, and which data they have seen."""
    backbones = []
    for name in dict.fromkeys(each.task.backbone for each in tasks):
        card = BACKBONES[name]
        address, _, comment = card.url.partition(" ")
        backbones.append(
            {"title": card.title, "url": address, "comment": comment, "leaks": card.leaks}
        )
    return backbones


def _scale(tasks: Sequence[TaskResult]) -> Scale:
    verdicts = [each.verdict for each in tasks if each.verdict]
    spans = [span for each in verdicts for span in (each.difference, each.over_patients)]
    gains = [each.task.gain for each in tasks if each.task.gain is not None]
    spans += [Interval(gain, math.nan, math.nan) for gain in gains]
    spans.append(Interval(0.0, -LARGEST_PUBLISHED, LARGEST_PUBLISHED))
    return Scale.around(spans, zero=0.0, factor=100, decimals=0)


def _axis(tasks: Sequence[TaskResult]) -> str:
    return axis(_scale(tasks), "LoRA − full, points")


def _dots(result: TaskResult, scale: Scale) -> str:
    row = []
    gain, verdict = result.task.gain, result.verdict
    if gain is not None:
        title = f"Published: {points(gain)} points, no interval"
        row.append(Dot(Interval(gain, math.nan, math.nan), _PUBLISHED, title))
    if verdict is not None:
        row.append(
            Dot(
                verdict.difference,
                method_style(LORA),
                verdict.sentence,
                wider=verdict.over_patients,
            )
        )
    return dots(row, scale)
