"""The grid of tasks as a whole: claims, label efficiency, and files to download."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from markupsafe import Markup

from core.experiments.paper import claims, figure, tables
from core.experiments.paper.claims import Judgement
from core.experiments.paper.results import FEWEST, Outcome
from core.experiments.paper.results import efficiency as label_efficiency
from core.experiments.paper.tables import Report
from core.formatting import DISCLAIMER
from core.metrics.label_efficiency import Curve, percent, sentence
from core.models.backbones.registry import backbone_card
from core.workspace import Workspace
from explorer.figures.charts import Trace, chart, line, with_band
from explorer.figures.palette import method_style
from explorer.pages.paper.results import FULL, LORA, PaperResults, TaskResult
from explorer.templates import render

TABLES = (
    ("markdown", "Markdown", "verdict.md", "text/markdown"),
    ("csv", "CSV", "verdict.csv", "text/csv"),
    ("latex", "LaTeX", "verdict.tex", "application/x-tex"),
)
"""Files of the table: format, label, name and media type."""
FIGURES = (
    ("Figure (PNG)", "figure.png", "image/png"),
    ("Figure (SVG)", "figure.svg", "image/svg+xml"),
)
"""Files of the figure: label, name and media type."""

NAMES = {LORA: "LoRA", FULL: "full fine-tuning"}

MOST_SECTIONS = 8
"""Sections that are kept in memory."""


@dataclass(frozen=True)
class Section:
    """One grid of tasks as the page shows it.

    Attributes:
        title: Name of the grid.
        summary: The result in sentences.
        curves: For each backbone and data set a figure of the label efficiency, and how many
            labels full fine-tuning needs.
        downloads: Label, name and data address of each file.
        figure: Data address of the figure.
        command: The command that gives the same in a terminal.
    """

    title: str
    summary: list[str]
    curves: Sequence[tuple[str, str]]
    downloads: list[tuple[str, str, str]]
    figure: str
    command: str


_Stamp = tuple[tuple[str, float | None], ...]
_sections: dict[tuple[str, _Stamp], Section] = {}


def judgements(results: PaperResults, workspace: Workspace) -> tuple[Judgement, Judgement]:
    """The claims judged by the scaled-down tasks, and by the study's own tasks."""
    return (
        claims.judge(_outcomes(results.miniature, workspace)),
        claims.judge(_outcomes(results.tasks, workspace)),
    )


def page(results: PaperResults, workspace: Workspace) -> Markup:
    """HTML with a section for each grid that has a task run by both methods; may be empty."""
    grids = (
        ("Scaled down", results.miniature, " --embedded"),
        ("The study’s own tasks", results.tasks, ""),
    )
    sections = [
        _cached_section(title, grid, option, workspace)
        for title, grid, option in grids
        if any(result.verdict for result in grid)
    ]
    if not sections:
        return Markup()
    return render(
        "pages/paper/report.html.j2",
        sections=sections,
        legend=[(method_style(method), NAMES[method]) for method in (LORA, FULL)],
        disclaimer=DISCLAIMER,
    )


def _outcomes(results: Sequence[TaskResult], workspace: Workspace) -> tuple[Outcome, ...]:
    return tuple(result.outcome(workspace) for result in results)


def _cached_section(
    title: str, results: Sequence[TaskResult], option: str, workspace: Workspace
) -> Section:
    """A section; drawn once for the same runs, because drawing takes a second or two."""
    stamp = tuple(
        (run.id, run.finished_at)
        for result in results
        for each in result.methods
        for run in each.runs
    )
    known = _sections.get((title, stamp))
    if known is not None:
        return known
    section = _section(title, _outcomes(results, workspace), option)
    while len(_sections) >= MOST_SECTIONS:
        _sections.pop(next(iter(_sections)), None)
    _sections[title, stamp] = section
    return section


def _section(title: str, outcomes: Sequence[Outcome], option: str) -> Section:
    judgement = claims.judge(outcomes)
    command = f"python -m core paper{option} --seeds {max(judgement.seeds, 1)}"
    report = Report(judgement, label_efficiency(outcomes), command)
    figures = _figure_files(report)
    return Section(
        title,
        tables.summary(report),
        _efficiency_curves(report),
        [*_table_files(report), *figures],
        next(address for _, name, address in figures if name == "figure.svg"),
        command,
    )


def _efficiency_curves(report: Report) -> list[tuple[Markup, str]]:
    """For each backbone and data set, the curves and how many labels full fine-tuning needs."""
    curves = []
    for each in report.efficiency:
        title = f"{backbone_card(each.backbone).title} · {tables.title(each.data)}"
        conclusion = ""
        if each.needed is not None:
            conclusion = sentence(each.needed, NAMES[FULL], NAMES[LORA], FEWEST)
        curves.append((_efficiency(each.curves, title), conclusion))
    return curves


def _efficiency(curves: Sequence[Curve], title: str) -> Markup:
    """Chart of the test AUROC against the label fraction, with a band for each method."""
    traces: list[Trace] = []
    for each in curves:
        fractions = [level.fraction for level in each.levels]
        trace = line(
            NAMES[each.method],
            fractions,
            [level.auroc.value for level in each.levels],
            method_style(each.method),
            mode="lines+markers",
        )
        traces += with_band(trace, [level.auroc for level in each.levels])
    marks = sorted({level.fraction for each in curves for level in each.levels})
    values = "; ".join(
        f"{NAMES[each.method]} "
        + ", ".join(
            f"{level.auroc.value:.3f} with {percent(level.fraction)}" for level in each.levels
        )
        for each in curves
    )
    return chart(
        traces,
        title=title,
        description=f"{title}: {values}",
        x="share of the labels",
        height=240,
        xaxis={"type": "log", "tickvals": marks, "ticktext": [percent(mark) for mark in marks]},
        yaxis={"hoverformat": ".3f"},
        hovermode="x unified",
        showlegend=False,
    )


def _table_files(report: Report) -> list[tuple[str, str, str]]:
    """Label, name and data address of each file of the table."""
    return [
        (label, name, _data_address(tables.render(report, format).encode(), media_type))
        for format, label, name, media_type in TABLES
    ]


def _figure_files(report: Report) -> list[tuple[str, str, str]]:
    """Label, name and data address of each file of the figure."""
    files = []
    with TemporaryDirectory() as folder:
        for label, name, media_type in FIGURES:
            path = Path(folder) / name
            figure.draw(report, path)
            files.append((label, name, _data_address(path.read_bytes(), media_type)))
    return files


def _data_address(content: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
