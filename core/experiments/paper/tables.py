"""Report of the paper's grid as a table with claims: text, Markdown, CSV, LaTeX and JSON."""

from __future__ import annotations

import csv
import io
import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from core.data.datasets.registry import DATASETS
from core.errors import unknown_name
from core.evaluation.verdict import Evidence, about_chance
from core.experiments.paper.claims import Judgement
from core.experiments.paper.results import EVIDENCE, FEWEST, FULL, LORA, Efficiency, Outcome
from core.experiments.paper.tasks import PAPER_METHODS, Task
from core.formatting import DISCLAIMER, auroc, percent, points, share
from core.metrics.intervals import Interval
from core.metrics.label_efficiency import sentence
from core.models.backbones.registry import backbone_card

HEAD = (
    "Backbone", "Data", "Labels", "LoRA", "Full", "LoRA − full", "Interval", "over", "Seeds",
    "Evidence", "Settings", "Published LoRA", "Published full", "Published difference",
)  # fmt: skip

NUMBERS = (3, 4, 5, 6, 8, 11, 12, 13)
"""Columns that hold numbers."""

DIFFERENCE = 5
COLOURED = (DIFFERENCE, 9)
"""Columns that are coloured by evidence."""
ALWAYS_SHOWN = 11
"""Number of columns that are shown even if they are empty."""

COLOURS: dict[Evidence, str] = {
    "above": "green",
    "below": "red",
    "unclear": "default",
    "undecided": "yellow",
}
LATEX: dict[Evidence, str] = {
    "above": "009E73",
    "below": "D55E00",
    "unclear": "555555",
    "undecided": "8A6D00",
}
"""Colours of evidence in LaTeX, as hexadecimal RGB."""


@dataclass(frozen=True)
class Report:
    """Report of a grid.

    Attributes:
        judgement: Its tasks, and the claims.
        efficiency: Label-efficiency curves.
        command: Command line that makes the same report.
    """

    judgement: Judgement
    efficiency: tuple[Efficiency, ...]
    command: str


def render(report: Report, form: str) -> str:
    """The report in one of ``FORMATS``.

    Raises:
        ConfigurationError: There is no such format.
    """
    if form not in FORMATS:
        raise unknown_name("format", form, FORMATS)
    return FORMATS[form](report)


# --- content -------------------------------------------------------------------------------------


def row(outcome: Outcome) -> tuple[str, ...]:
    """Cells of one task, in the columns of ``HEAD``; unknown values are a dash."""
    task, interval = outcome.task, outcome.interval
    difference = points(interval.value) if interval and not math.isnan(interval.value) else "–"
    published = [auroc(task.published[method]) for method in PAPER_METHODS]
    evidence = EVIDENCE[outcome.verdict.evidence] if outcome.verdict else _missing(outcome)
    return (
        backbone_card(task.backbone).title,
        title(task.data),
        share(task.fraction),
        auroc(outcome.mean(LORA)),
        auroc(outcome.mean(FULL)),
        difference,
        _bounds(interval),
        _over(outcome),
        str(outcome.seeds) if outcome.seeds else "–",
        evidence,
        _settings(task),
        *published,
        "–" if task.gain is None else points(task.gain),
    )


def title(data: str) -> str:
    """Title of a data set."""
    entry = DATASETS.get(data)
    return entry.title if entry else data


def summary(report: Report) -> list[str]:
    """Summary of the grid, one sentence per entry."""
    judgement = report.judgement
    lines = [f"{judgement.compared} of {len(judgement.outcomes)} tasks run by both methods."]
    if not judgement.compared:
        return lines
    seeds = f"{judgement.seeds} seed{'s' if judgement.seeds > 1 else ''}"
    won, pairs = judgement.pairs
    lines[0] = f"{lines[0][:-1]}, with {seeds}{' each' if judgement.compared > 1 else ''}."
    rate = judgement.win_rate
    bounds = f", 95% interval over seeds and patients {percent(rate.low)} to {percent(rate.high)}"
    lines.append(
        f"Wins: LoRA is ahead in {judgement.wins} of {judgement.compared - judgement.ties} tasks"
        f"{'' if math.isnan(rate.low) else bounds}; in {won} of {pairs} pairs of runs."
    )
    over, mean = judgement.over_tasks, None
    if over is not None and over.decidable:
        mean = over.interval()
        lines.append(
            f"Mean difference over these tasks: {points(mean.value)} points, 95% interval over "
            f"seeds and patients {points(mean.low)} to {points(mean.high)} (p {_p(over.p())})."
        )
    if judgement.over_data is not None:
        data = judgement.over_data.difference
        lines.append(
            f"Mean difference over data sets: {points(data.value)} points, 95% interval over other "
            f"data sets {points(data.low)} to {points(data.high)}."
        )
    count = judgement.evidence
    lines.append(
        f"Evidence: {count['above']} clearly better, {count['below']} clearly worse, "
        f"{count['unclear']} without a clear difference, {count['undecided']} not decidable yet."
    )
    verdicts = [outcome.verdict for outcome in judgement.outcomes if outcome.verdict]
    chance = about_chance(verdicts, "tasks")
    if chance:
        lines.append(chance)
    shares = _shares(judgement.outcomes)
    if shares:
        lines.append(f"Trainable with LoRA: {shares}.")
    return lines


def labels(report: Report) -> list[str]:
    """Share of labels that full fine-tuning needs to equal LoRA with 1%, one sentence per curve."""
    return [
        f"{backbone_card(curves.backbone).title}, {title(curves.data)}: "
        + sentence(curves.needed, "full fine-tuning", "LoRA", FEWEST)
        for curves in report.efficiency
        if curves.needed is not None
    ]


def as_json(report: Report) -> dict[str, Any]:
    """The report as a JSON value; unknown values are None."""
    judgement = report.judgement
    over = judgement.over_tasks
    return {
        "tasks": [_task_json(outcome) for outcome in judgement.outcomes],
        "compared": judgement.compared,
        "wins": judgement.wins,
        "ties": judgement.ties,
        "win_rate": _interval(judgement.win_rate),
        "over_tasks": _interval(over.interval() if over else None),
        "over_tasks_p": None if over is None or math.isnan(over.p()) else over.p(),
        "over_data": _interval(judgement.over_data.difference if judgement.over_data else None),
        "largest_gain": judgement.largest.task.name if judgement.largest else None,
        "evidence": dict(judgement.evidence),
        "claims": [
            {"claim": ruling.claim, "status": ruling.status, "reason": ruling.reason}
            for ruling in judgement.rulings
        ],
        "labels_needed": labels(report),
        "command": report.command,
        "disclaimer": DISCLAIMER,
    }


def _task_json(outcome: Outcome) -> dict[str, Any]:
    task, verdict = outcome.task, outcome.verdict
    return {
        "task": task.name,
        "backbone": task.backbone,
        "data": task.data,
        "label_fraction": task.fraction,
        "auroc": {method: outcome.mean(method) for method in PAPER_METHODS},
        "seeds": outcome.seeds,
        "difference": _interval(verdict.difference if verdict else None),
        "over_patients": _interval(verdict.over_patients if verdict else None),
        "evidence": verdict.evidence if verdict else None,
        "sentence": verdict.sentence if verdict else None,
        "trainable_share": outcome.share,
        "settings": {method: task.recipes[method].kind for method in PAPER_METHODS},
        "published": dict(task.published),
        "published_difference": task.gain,
    }


# --- formats -------------------------------------------------------------------------------------


def text(report: Report, *, colour: bool = False) -> str:
    """The report for a terminal.

    Args:
        report: The report.
        colour: Whether evidence is coloured, by escape sequences of the terminal.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    used = _used([row(outcome) for outcome in report.judgement.outcomes])
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for i in used:
        table.add_column(HEAD[i], justify="right" if i in NUMBERS else "left", no_wrap=True)
    for outcome in report.judgement.outcomes:
        tone = COLOURS[outcome.verdict.evidence] if outcome.verdict else "default"
        cells = [
            Text(cell, style=tone if i in COLOURED else "") for i, cell in enumerate(row(outcome))
        ]
        table.add_row(*(cells[i] for i in used))
    sentences = [*summary(report), *labels(report), ""]
    sentences += [f"{each.status}: {each.claim} {each.reason}" for each in report.judgement.rulings]
    console = Console(width=1_000, force_terminal=colour, highlight=False)
    with console.capture() as captured:
        console.print(table)
    rows = "\n".join(line.rstrip() for line in captured.get().splitlines())
    paragraphs = [textwrap.fill(line, 100) for line in sentences]
    return "\n".join([rows, "", *paragraphs, "", f"{DISCLAIMER}."])


def _markdown(report: Report) -> str:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"

    rows = [row(outcome) for outcome in report.judgement.outcomes]
    used = _used(rows)
    marked = [
        [
            _bold(cell, outcome) if i == DIFFERENCE else cell
            for i, cell in enumerate(cells)
            if i in used
        ]
        for cells, outcome in zip(rows, report.judgement.outcomes, strict=True)
    ]
    rule = ["---:" if i in NUMBERS else "---" for i in used]
    sentences = [f"- {text}" for text in (*summary(report), *labels(report))]
    claims = [
        line((each.claim, f"**{each.status}**", each.reason)) for each in report.judgement.rulings
    ]
    return "\n".join([
        line([HEAD[i] for i in used]), line(rule), *map(line, marked), "", *sentences, "",
        line(("Claim of the abstract", "Here", "Why")), line(("---", "---", "---")), *claims, "",
        "Differences in AUROC points; bold where the interval, corrected for the number of tasks, "
        f"excludes zero. Made by `{report.command}`. {DISCLAIMER}.",
    ])  # fmt: skip


def _csv(report: Report) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([
        "task", "backbone", "data", "label_fraction", "lora_auroc", "full_auroc", "difference",
        "low", "high", "patients_low", "patients_high", "seeds", "evidence",
        "trainable_share", "published_lora", "published_full", "lora_settings", "full_settings",
    ])  # fmt: skip
    for outcome in report.judgement.outcomes:
        verdict, task = outcome.verdict, outcome.task
        spans: list[float | None] = [None] * 5
        if verdict is not None:
            both, patients = verdict.difference, verdict.over_patients
            spans = [both.value, both.low, both.high, patients.low, patients.high]
        writer.writerow([
            task.name, task.backbone, task.data, task.fraction,
            *(_six(outcome.mean(method)) for method in PAPER_METHODS), *map(_six, spans),
            outcome.seeds, verdict.evidence if verdict else "", _six(outcome.share),
            *(_six(task.published[method]) for method in PAPER_METHODS),
            *(task.recipes[method].kind for method in PAPER_METHODS),
        ])  # fmt: skip
    return stream.getvalue().rstrip("\n")


def _latex(report: Report) -> str:
    rows = [row(outcome) for outcome in report.judgement.outcomes]
    used = _used(rows)
    columns = "".join("r" if i in NUMBERS else "l" for i in used)
    lines = []
    for cells, outcome in zip(rows, report.judgement.outcomes, strict=True):
        texts = [_escaped(cells[i]) for i in used]
        if outcome.verdict is not None:
            colour = LATEX[outcome.verdict.evidence]
            for n, i in enumerate(used):
                if i in COLOURED:
                    texts[n] = rf"\textcolor[HTML]{{{colour}}}{{{texts[n]}}}"
        lines.append(" & ".join(texts) + r" \\")
    claims = [
        rf"\item \emph{{{_escaped(each.claim)}}} \textbf{{{each.status}}}: {_escaped(each.reason)}"
        for each in report.judgement.rulings
    ]
    return "\n".join([
        r"% needs \usepackage{booktabs} and \usepackage{xcolor}",
        rf"\begin{{tabular}}{{{columns}}}", r"\toprule",
        " & ".join(_escaped(HEAD[i]) for i in used) + r" \\", r"\midrule", *lines, r"\bottomrule",
        r"\end{tabular}", "", *(_escaped(text) + r"\\" for text in summary(report)),
        r"\begin{itemize}", *claims, r"\end{itemize}", f"% {DISCLAIMER}.",
    ])  # fmt: skip


FORMATS: dict[str, Callable[[Report], str]] = {
    "text": text,
    "markdown": _markdown,
    "csv": _csv,
    "latex": _latex,
}
SUFFIXES = {".md": "markdown", ".csv": "csv", ".tex": "latex", ".txt": "text"}
"""Format of a file by its suffix."""


# --- texts of cells ------------------------------------------------------------------------------


def _settings(task: Task) -> str:
    """Whether the settings of both methods are published, assumed or tuned."""
    lora, full = (task.recipes[method].kind for method in PAPER_METHODS)
    return f"both {lora}" if lora == full else f"LoRA {lora}, full {full}"


def _missing(outcome: Outcome) -> str:
    if outcome.fault is not None:
        return "cannot be compared"
    names = (("LoRA", LORA), ("full", FULL))
    absent = [name for name, method in names if not outcome.scores.get(method)]
    return "not run" if len(absent) == len(PAPER_METHODS) else f"{absent[0]} is missing"


def _used(rows: Sequence[Sequence[str]]) -> list[int]:
    """Columns to show: published values only if any are known."""
    return [
        i for i in range(len(HEAD)) if i < ALWAYS_SHOWN or any(cells[i] != "–" for cells in rows)
    ]


def _bold(text: str, outcome: Outcome) -> str:
    clear = outcome.verdict is not None and outcome.verdict.evidence in ("above", "below")
    return f"**{text}**" if clear else text


def _over(outcome: Outcome) -> str:
    if outcome.verdict is None or outcome.interval is None or math.isnan(outcome.interval.low):
        return "–"
    return "patients" if math.isnan(outcome.verdict.difference.low) else "seeds, patients"


def _bounds(interval: Interval | None) -> str:
    if interval is None or math.isnan(interval.low):
        return "–"
    return f"{points(interval.low)} to {points(interval.high)}"


def _six(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.6f}"


def _p(value: float) -> str:
    return "below 0.001" if value < 0.001 else f"{value:.3f}"


def _shares(outcomes: Sequence[Outcome]) -> str:
    """Trainable share by label fraction, as text."""
    by_fraction: dict[float, list[float]] = {}
    for outcome in outcomes:
        if outcome.share is not None:
            by_fraction.setdefault(outcome.task.fraction, []).append(outcome.share)
    spans = []
    for fraction, shares in sorted(by_fraction.items()):
        low, high = share(min(shares)), share(max(shares))
        spans.append((low if low == high else f"{low} to {high}", share(fraction)))
    if len({span for span, _ in spans}) == 1 and len(spans) > 1:
        return f"{spans[0][0]} at every label fraction"
    return ", ".join(f"{span} with {labelled} of the labels" for span, labelled in spans)


def _interval(interval: Interval | None) -> dict[str, float | None] | None:
    if interval is None or math.isnan(interval.value):
        return None
    return {
        name: None if math.isnan(value) else value
        for name, value in (
            ("value", interval.value), ("low", interval.low), ("high", interval.high)
        )
    }  # fmt: skip


def _escaped(text: str) -> str:
    for sign, replacement in (("\\", r"\textbackslash{}"), ("&", r"\&"), ("%", r"\%"), ("_", r"\_"),
                          ("#", r"\#"), ("−", "$-$"), ("–", "--"), ("’", "'")):  # fmt: skip
        text = text.replace(sign, replacement)
    return text
