"""The grid's verdict as a table with its claims: for a terminal, Markdown, CSV and LaTeX."""

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
from core.evaluation.verdict import Evidence
from core.experiments.paper.claims import Judgement, points
from core.experiments.paper.results import EVIDENCE, FEWEST, FULL, LORA, Efficiency, Outcome
from core.experiments.paper.tasks import PAPER_METHODS
from core.formatting import DISCLAIMER
from core.metrics.intervals import Interval
from core.metrics.label_efficiency import percent, sentence
from core.models.backbones.registry import backbone_card

HEAD = (
    "Backbone", "Data", "Labels", "LoRA", "Full", "LoRA − full", "95% interval", "over", "Seeds",
    "Evidence", "Published LoRA", "Published full", "Published difference",
)  # fmt: skip

NUMBERS = (3, 4, 5, 6, 8, 10, 11, 12)
"""Columns that hold numbers."""

GAP = 5
TONED = (GAP, 9)
"""Columns that are coloured by evidence."""

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
"""Hexadecimal RGB of the same."""


@dataclass(frozen=True)
class Report:
    """All that is said of a grid.

    Attributes:
        judgement: Its tasks, and the claims.
        efficiency: Label-efficiency curves.
        command: What makes it again.
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


# --- what is said --------------------------------------------------------------------------------


def row(one: Outcome) -> tuple[str, ...]:
    """The texts of one task, as ``HEAD`` names them; what is not known is a dash."""
    task, found = one.task, one.interval
    gap = points(found.value) if found and not math.isnan(found.value) else "–"
    published = [_auroc(task.published[method]) for method in PAPER_METHODS]
    evidence = EVIDENCE[one.verdict.evidence] if one.verdict else _missing(one)
    return (
        backbone_card(task.backbone).title,
        title(task.data),
        f"{100 * task.fraction:g}%",
        _auroc(one.mean(LORA)),
        _auroc(one.mean(FULL)),
        gap,
        _bounds(found),
        _over(one),
        str(one.seeds) if one.seeds else "–",
        evidence,
        *published,
        "–" if task.gain is None else points(task.gain),
    )


def title(data: str) -> str:
    """A data set's name for people."""
    entry = DATASETS.get(data)
    return entry.title if entry else data


def summary(report: Report) -> list[str]:
    """The grid as a whole, a sentence each."""
    found = report.judgement
    lines = [f"{found.compared} of {len(found.outcomes)} tasks run by both methods."]
    if not found.compared:
        return lines
    seeds = f"{found.seeds} seed{'s' if found.seeds > 1 else ''}"
    won, pairs = found.pairs
    lines[0] = f"{lines[0][:-1]}, with {seeds}{' each' if found.compared > 1 else ''}."
    lines.append(
        f"Wins: LoRA is ahead in {found.wins} of {found.compared - found.ties} tasks, 95% interval "
        f"{100 * found.win_rate.low:.0f}% to {100 * found.win_rate.high:.0f}% of tasks; "
        f"in {won} of {pairs} pairs of runs."
    )
    over = found.over_tasks
    if over is not None and not math.isnan(over.p):
        lines.append(
            f"Mean difference: {points(over.difference.value)} points, 95% interval over tasks "
            f"{points(over.difference.low)} to {points(over.difference.high)} (p {_p(over.p)})."
        )
    clear = found.evidence
    lines.append(
        f"Evidence: {clear['above']} clearly better, {clear['below']} clearly worse, "
        f"{clear['unclear']} without a clear difference, {clear['undecided']} not decidable yet."
    )
    shares = _shares(found.outcomes)
    if shares:
        lines.append(f"Trainable with LoRA: {shares}.")
    return lines


def labels(report: Report) -> list[str]:
    """How many labels full fine-tuning needs to equal LoRA with the fewest, a sentence each."""
    return [
        f"{backbone_card(one.backbone).title}, {title(one.data)}: "
        + sentence(one.needed, "full fine-tuning", "LoRA", FEWEST)
        for one in report.efficiency
        if one.needed is not None
    ]


def as_json(report: Report) -> dict[str, Any]:
    """The same facts as plain values; what is not known is None."""
    found = report.judgement
    over = found.over_tasks
    return {
        "tasks": [
            {
                "task": one.task.name,
                "backbone": one.task.backbone,
                "data": one.task.data,
                "label_fraction": one.task.fraction,
                "auroc": {method: one.mean(method) for method in PAPER_METHODS},
                "seeds": one.seeds,
                "difference": _interval(one.verdict.difference if one.verdict else None),
                "over_patients": _interval(one.verdict.over_patients if one.verdict else None),
                "evidence": one.verdict.evidence if one.verdict else None,
                "sentence": one.verdict.sentence if one.verdict else None,
                "trainable_share": one.share,
                "published": dict(one.task.published),
                "published_difference": one.task.gain,
            }
            for one in found.outcomes
        ],
        "compared": found.compared,
        "wins": found.wins,
        "ties": found.ties,
        "win_rate": _interval(found.win_rate),
        "over_tasks": _interval(over.difference if over else None),
        "over_tasks_p": None if over is None or math.isnan(over.p) else over.p,
        "largest_gain": found.largest.task.name if found.largest else None,
        "evidence": dict(found.evidence),
        "claims": [
            {"claim": one.claim, "status": one.status, "reason": one.reason}
            for one in found.rulings
        ],
        "labels_needed": labels(report),
        "command": report.command,
        "disclaimer": DISCLAIMER,
    }


# --- formats -------------------------------------------------------------------------------------


def text(report: Report, *, colour: bool = False) -> str:
    """For a terminal.

    Args:
        report: What is said.
        colour: Whether evidence is coloured, by the terminal's own sequences.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    used = _used([row(one) for one in report.judgement.outcomes])
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for i in used:
        table.add_column(HEAD[i], justify="right" if i in NUMBERS else "left", no_wrap=True)
    for one in report.judgement.outcomes:
        tone = COLOURS[one.verdict.evidence] if one.verdict else "default"
        cells = [Text(words, style=tone if i in TONED else "") for i, words in enumerate(row(one))]
        table.add_row(*(cells[i] for i in used))
    told = [*summary(report), *labels(report), ""]
    told += [f"{one.status}: {one.claim} {one.reason}" for one in report.judgement.rulings]
    console = Console(width=1_000, force_terminal=colour, highlight=False)
    with console.capture() as caught:
        console.print(table)
    rows = "\n".join(line.rstrip() for line in caught.get().splitlines())
    return "\n".join([rows, "", *(textwrap.fill(one, 100) for one in told), "", f"{DISCLAIMER}."])


def _markdown(report: Report) -> str:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(one.replace('|', '/') for one in cells)} |"

    rows = [row(one) for one in report.judgement.outcomes]
    used = _used(rows)
    marked = [
        [_bold(words, one) if i == GAP else words for i, words in enumerate(cells) if i in used]
        for cells, one in zip(rows, report.judgement.outcomes, strict=True)
    ]
    rule = ["---:" if i in NUMBERS else "---" for i in used]
    told = [f"- {one}" for one in (*summary(report), *labels(report))]
    claims = [
        line((one.claim, f"**{one.status}**", one.reason)) for one in report.judgement.rulings
    ]
    return "\n".join([
        line([HEAD[i] for i in used]), line(rule), *map(line, marked), "", *told, "",
        line(("Claim of the abstract", "Here", "Why")), line(("---", "---", "---")), *claims, "",
        f"Differences in points of AUROC; bold where both intervals exclude zero. Made by "
        f"`{report.command}`. {DISCLAIMER}.",
    ])  # fmt: skip


def _csv(report: Report) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([
        "task", "backbone", "data", "label_fraction", "lora_auroc", "full_auroc", "difference",
        "seeds_low", "seeds_high", "patients_low", "patients_high", "seeds", "evidence",
        "trainable_share", "published_lora", "published_full",
    ])  # fmt: skip
    for one in report.judgement.outcomes:
        verdict, task = one.verdict, one.task
        spans: list[float | None] = [None] * 5
        if verdict is not None:
            seeds, patients = verdict.difference, verdict.over_patients
            spans = [seeds.value, seeds.low, seeds.high, patients.low, patients.high]
        writer.writerow([
            task.name, task.backbone, task.data, task.fraction,
            *(_six(one.mean(method)) for method in PAPER_METHODS), *map(_six, spans), one.seeds,
            verdict.evidence if verdict else "", _six(one.share),
            *(_six(task.published[method]) for method in PAPER_METHODS),
        ])  # fmt: skip
    return stream.getvalue().rstrip("\n")


def _latex(report: Report) -> str:
    rows = [row(one) for one in report.judgement.outcomes]
    used = _used(rows)
    columns = "".join("r" if i in NUMBERS else "l" for i in used)
    lines = []
    for cells, one in zip(rows, report.judgement.outcomes, strict=True):
        texts = [_escaped(cells[i]) for i in used]
        if one.verdict is not None:
            colour = LATEX[one.verdict.evidence]
            for place, i in enumerate(used):
                if i in TONED:
                    texts[place] = rf"\textcolor[HTML]{{{colour}}}{{{texts[place]}}}"
        lines.append(" & ".join(texts) + r" \\")
    claims = [
        rf"\item \emph{{{_escaped(one.claim)}}} \textbf{{{one.status}}}: {_escaped(one.reason)}"
        for one in report.judgement.rulings
    ]
    return "\n".join([
        r"% needs \usepackage{booktabs} and \usepackage{xcolor}",
        rf"\begin{{tabular}}{{{columns}}}", r"\toprule",
        " & ".join(_escaped(HEAD[i]) for i in used) + r" \\", r"\midrule", *lines, r"\bottomrule",
        r"\end{tabular}", "", *(_escaped(one) + r"\\" for one in summary(report)),
        r"\begin{itemize}", *claims, r"\end{itemize}", f"% {DISCLAIMER}.",
    ])  # fmt: skip


FORMATS: dict[str, Callable[[Report], str]] = {
    "text": text,
    "markdown": _markdown,
    "csv": _csv,
    "latex": _latex,
}
SUFFIXES = {".md": "markdown", ".csv": "csv", ".tex": "latex", ".txt": "text"}
"""The format that a file's name asks for."""


# --- words ---------------------------------------------------------------------------------------


def _missing(one: Outcome) -> str:
    if one.fault is not None:
        return "cannot be compared"
    absent = [
        name for name, method in (("LoRA", LORA), ("full", FULL)) if not one.scores.get(method)
    ]
    return "not run" if len(absent) == len(PAPER_METHODS) else f"{absent[0]} is missing"


def _used(rows: Sequence[Sequence[str]]) -> list[int]:
    """Columns that are not empty throughout; published figures only where some are known."""
    return [i for i in range(len(HEAD)) if i < 10 or any(cells[i] != "–" for cells in rows)]


def _bold(words: str, one: Outcome) -> str:
    clear = one.verdict is not None and one.verdict.evidence in ("above", "below")
    return f"**{words}**" if clear else words


def _over(one: Outcome) -> str:
    if one.verdict is None or one.interval is None or math.isnan(one.interval.low):
        return "–"
    return "patients" if math.isnan(one.verdict.difference.low) else "seeds"


def _bounds(interval: Interval | None) -> str:
    if interval is None or math.isnan(interval.low):
        return "–"
    return f"{points(interval.low)} to {points(interval.high)}"


def _auroc(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _six(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.6f}"


def _p(value: float) -> str:
    return "below 0.001" if value < 0.001 else f"{value:.3f}"


def _shares(outcomes: Sequence[Outcome]) -> str:
    """Trainable share by label fraction, in words."""
    found: dict[float, list[float]] = {}
    for one in outcomes:
        if one.share is not None:
            found.setdefault(one.task.fraction, []).append(one.share)
    words = []
    for fraction, each in sorted(found.items()):
        low, high = f"{100 * min(each):.2f}%", f"{100 * max(each):.2f}%"
        span = low if low == high else f"{low} to {high}"
        words.append((span, percent(fraction)))
    if len({span for span, _ in words}) == 1 and len(words) > 1:
        return f"{words[0][0]} at every label fraction"
    return ", ".join(f"{span} with {share} of the labels" for span, share in words)


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
    for sign, written in (("\\", r"\textbackslash{}"), ("&", r"\&"), ("%", r"\%"), ("_", r"\_"),
                          ("#", r"\#"), ("−", "$-$"), ("–", "--"), ("’", "'")):  # fmt: skip
        text = text.replace(sign, written)
    return text
