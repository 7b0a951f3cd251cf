"""The grid's verdict as HTML: claims, label efficiency, figure, and files to take away."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory

from core.experiments.cells import scores_of, share_of
from core.experiments.paper import claims, figure, results, tables
from core.experiments.paper.claims import Judgement, Ruling, Status
from core.experiments.paper.results import FEWEST, Outcome
from core.experiments.paper.tables import Report
from core.formatting import DISCLAIMER
from core.metrics.label_efficiency import sentence
from core.models.backbones.registry import backbone_card
from core.workspace import Workspace
from explorer.figures.label_efficiency import NAMES, efficiency
from explorer.figures.markers import mark
from explorer.figures.palette import method_style
from explorer.pages.paper.results import LORA, Board, Cell

STATUS: dict[Status, str] = {"holds": "good", "does not hold": "bad", "not decidable": "warn"}
"""Tone of the dot beside the words."""

FILES = (
    ("markdown", "Markdown", "verdict.md", "text/markdown"),
    ("csv", "CSV", "verdict.csv", "text/csv"),
    ("latex", "LaTeX", "verdict.tex", "application/x-tex"),
)
PICTURES = (("PNG", "figure.png", "image/png"), ("SVG", "figure.svg", "image/svg+xml"))

Stamp = tuple[tuple[str, float | None], ...]
_known: dict[tuple[str, Stamp], str] = {}
MOST_KNOWN = 8


def judgements(board: Board, workspace: Workspace) -> tuple[Judgement, Judgement]:
    """The claims for the scaled-down tasks and for the study's own."""
    return (
        claims.judge(outcomes(board.miniature, workspace)),
        claims.judge(outcomes(board.tasks, workspace)),
    )


def outcomes(cells: Sequence[Cell], workspace: Workspace) -> tuple[Outcome, ...]:
    """The page's cells as what the claims are judged by."""
    return tuple(
        Outcome(
            cell.task,
            {side.method: scores_of(side.runs) for side in cell.sides},
            cell.verdict,
            cell.fault,
            share_of(cell.lora.runs),
            {side.method: tuple(workspace.run(r.id) for r in side.runs) for side in cell.sides},
        )
        for cell in cells
    )


def rulings(small: Judgement, own: Judgement) -> str:
    """HTML of the claims with what is said of each, here and with the study's own parts."""
    both = own.compared > 0
    heads = '<th scope="col">Claim of the abstract</th><th scope="col">Scaled down</th>'
    heads += '<th scope="col">The study’s own</th>' if both else ""
    rows = "".join(
        f'<tr data-key="claim-{i}"><th scope="row">{escape(one.claim)}</th>{_ruled(one)}'
        f"{_ruled(other) if both else ''}</tr>"
        for i, (one, other) in enumerate(zip(small.rulings, own.rulings, strict=True))
    )
    return (
        '<table class="cxr-table cxr-claims" aria-label="Claims and whether they hold here">'
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    )


def page(board: Board, workspace: Workspace) -> str:
    """HTML of one section a grid that has tasks run by both methods; empty while none has."""
    found = ""
    for title, cells, option in (
        ("Scaled down", board.miniature, " --embedded"),
        ("The study’s own tasks", board.tasks, ""),
    ):
        if any(cell.verdict for cell in cells):
            found += _remembered(title, cells, option, workspace)
    return f'<div class="cxr-paper">{found}</div>' if found else ""


def _remembered(title: str, cells: Sequence[Cell], option: str, workspace: Workspace) -> str:
    """Drawing takes a second or two, so a section is drawn once for what it is drawn from."""
    stamp = tuple(
        (run.id, run.finished_at) for cell in cells for side in cell.sides for run in side.runs
    )
    if (title, stamp) not in _known:
        while len(_known) >= MOST_KNOWN:
            _known.pop(next(iter(_known)), None)
        _known[title, stamp] = _section(title, cells, option, workspace)
    return _known[title, stamp]


def _section(title: str, cells: Sequence[Cell], option: str, workspace: Workspace) -> str:
    found = outcomes(cells, workspace)
    judged = claims.judge(found)
    command = f"python -m core paper{option} --seeds {max(judged.seeds, 1)}"
    report = Report(judged, results.efficiency(found), command)
    told = "".join(f"<li>{escape(line)}</li>" for line in tables.summary(report))
    pictures = _pictures(report)
    return (
        f'<section class="cxr-panel cxr-report"><h2>{title}: the grid as a whole</h2>'
        f"<ul>{told}</ul>{_labels(report)}{_exports(report, pictures, title)}"
        f'<details data-key="figure"><summary>The figure</summary><img alt="{escape(_seen(report))}'
        f'" src="{pictures["figure.svg"]}"></details>'
        f'<p class="cxr-small cxr-muted">The same in a terminal: '
        f'<code class="cxr-mono">{command}</code>. {DISCLAIMER}.</p></section>'
    )


def _labels(report: Report) -> str:
    """How AUROC grows with the labels, and how many full fine-tuning needs."""
    if not report.efficiency:
        return ""
    charts = ""
    for one in report.efficiency:
        words = ""
        if one.needed is not None:
            words = sentence(one.needed, NAMES["full"], NAMES[LORA], FEWEST)
        name = f"{backbone_card(one.backbone).title} · {tables.title(one.data)}"
        charts += (
            f'<div>{efficiency(one.curves, title=name)}<p class="cxr-small">{escape(words)}</p>'
            "</div>"
        )
    legend = " ".join(
        f'<span class="cxr-state">{mark(method_style(method))} {NAMES[method]}</span>'
        for method in (LORA, "full")
    )
    return (
        f"<h3>How many labels does full fine-tuning need to equal LoRA at 1%? {legend}</h3>"
        f'<div class="cxr-efficiency">{charts}</div><p class="cxr-small cxr-muted">Test AUROC '
        "against the share of the labels. Bands: 95% over seeds, or over the patients of the test "
        "split while there is one seed.</p>"
    )


def _exports(report: Report, pictures: dict[str, str], title: str) -> str:
    links = "".join(
        _link(words, name, _data(tables.render(report, form).encode(), kind), title)
        for form, words, name, kind in FILES
    )
    links += "".join(
        _link(f"Figure ({words})", name, pictures[name], title) for words, name, _ in PICTURES
    )
    return f'<div class="cxr-row" aria-label="Take the table and the figure away">{links}</div>'


def _link(words: str, name: str, address: str, title: str) -> str:
    return (
        f'<a class="cxr-button" download="{name}" href="{address}" '
        f'aria-label="Save {escape(title)} as {words}">{words}</a>'
    )


def _pictures(report: Report) -> dict[str, str]:
    with TemporaryDirectory() as folder:
        found = {}
        for _, name, kind in PICTURES:
            path = Path(folder) / name
            figure.draw(report, path)
            found[name] = _data(path.read_bytes(), kind)
        return found


def _data(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _seen(report: Report) -> str:
    return "Differences by task and label-efficiency curves. " + " ".join(tables.summary(report))


def _ruled(one: Ruling) -> str:
    dot = f'<span class="cxr-dot cxr-dot-{STATUS[one.status]}" aria-hidden="true"></span>'
    return (
        f'<td><span class="cxr-state">{dot}<b>{one.status}</b></span>'
        f'<br><span class="cxr-muted cxr-small">{escape(one.reason)}</span></td>'
    )
