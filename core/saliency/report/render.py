"""A saliency report for people and programs: one HTML file, Markdown, CSV, JSON."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import WriteError
from core.formatting import DISCLAIMER
from core.metrics.intervals import Interval, PairedTest
from core.saliency.explain import LIMITS
from core.saliency.methods.registry import SALIENCY_METHODS
from core.saliency.report.report import Report
from core.saliency.scores import score_maps, summary

TITLES = {
    "hit": "pointing game",
    "energy": "energy inside",
    "iou": "IoU at a fixed threshold",
    "best_iou": "best IoU",
    "counterfactual": "correlation with the true counterfactual",
    "counterfactual_rank": "rank correlation with it",
}

STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem;
color:#1b1f24;background:#fff}
table{border-collapse:collapse;margin:1rem 0;display:block;overflow-x:auto}
th,td{padding:.25rem .6rem;border-bottom:1px solid #d0d7de;text-align:right;white-space:nowrap}
th{vertical-align:bottom}td.t,th.t{text-align:left}.m{color:#57606a}
img{max-width:100%;height:auto;background:#000}.d{border-left:4px solid #d55e00;padding-left:.8rem}
@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}
th,td{border-color:#30363d}.m{color:#9da7b3}}
"""


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        title: Its heading.
        head: Names of the columns.
        rows: As many texts each.
        texts: How many columns from the left are words and not figures.
    """

    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    texts: int = 3


def write(report: Report, out: Path) -> list[Path]:
    """Write ``report.html``, ``report.md``, ``table.csv``, ``differences.csv`` and ``studies.csv``.

    Args:
        report: What to write.
        out: A folder, made if it is not there.

    Returns:
        The files.

    Raises:
        WriteError: The folder cannot be written.
    """
    pages = {
        "report.html": as_html(report),
        "report.md": as_markdown(report),
        "table.csv": _csv(_flat_cells(report)),
        "differences.csv": _csv(_flat_contrasts(report)),
        "studies.csv": report.judged.rows.to_csv(index=False),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in pages.items():
            (out / name).write_text(text, encoding="utf-8")
        for i, picture in enumerate(report.sheets.values(), 1):
            (out / f"sheet-{i}.png").write_bytes(picture)
    except OSError as error:
        raise WriteError(
            f"The report cannot be written to {out} ({error.strerror}).", "Choose another --out."
        ) from error
    return [out / name for name in pages] + [
        out / f"sheet-{i}.png" for i in range(1, len(report.sheets) + 1)
    ]


def tables(report: Report) -> list[Table]:
    """All tables of a report, as texts."""
    found = [_scores(report)]
    if report.contrasts:
        found.append(_differences(report))
    if report.checked:
        found.append(_checks(report))
    found.append(_beside(report))
    if len(report.judged.agreement):
        found.append(_agreement(report))
    return found


def as_markdown(report: Report) -> str:
    """The report without its pictures."""
    lines = [f"# {_heading(report)}", "", f"> {DISCLAIMER}", "", _about(report), ""]
    for table in tables(report):
        lines += [f"## {table.title}", "", "| " + " | ".join(table.head) + " |"]
        marks = ["---" if i < table.texts else "---:" for i in range(len(table.head))]
        lines.append("| " + " | ".join(marks) + " |")
        lines += ["| " + " | ".join(_piped(row)) + " |" for row in table.rows]
        lines.append("")
    lines += ["## Notes", "", *[f"- {note}" for note in _notes(report)], ""]
    return "\n".join(lines)


def as_html(report: Report) -> str:
    """The report as one file that needs no network."""
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{escape(_heading(report))}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(_heading(report))}</h1>",
        f'<p class="d"><strong>{escape(DISCLAIMER)}.</strong></p>',
        f"<p>{escape(_about(report))}</p>",
        *map(_html_table, tables(report)),
    ]
    for title, picture in report.sheets.items():
        source = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
        parts.append(f'<h2>{escape(title)}</h2><img alt="{escape(title)}" src="{source}">')
    notes = "".join(f"<li>{escape(note)}</li>" for note in _notes(report))
    parts.append(f"<h2>Notes</h2><ul>{notes}</ul></body></html>")
    return "\n".join(parts)


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain values; what is not defined is None."""
    value: dict[str, Any] = _plain(
        {
            "data": report.title,
            "split": report.split,
            "asked": asdict(report.asked),
            "runs": list(report.runs),
            "left_out": report.judged.left_out,
            "table": [asdict(cell) for cell in report.cells],
            "differences": [asdict(one) for one in report.contrasts],
            "checks": [one.as_json() for one in report.checked],
            "agreement": report.judged.agreement.to_dict("records"),
            "notes": _notes(report),
            "disclaimer": DISCLAIMER,
        }
    )
    return value


def _heading(report: Report) -> str:
    return f"Where the models look: {report.title}"


def _about(report: Report) -> str:
    studies = report.judged.rows["study"].nunique()
    patients = report.judged.rows["patient"].nunique()
    return (
        f"{len(report.runs)} run{'s' * (len(report.runs) != 1)} on {studies:,} marked studies of "
        f"{patients:,} patients, split: {report.split}. In parentheses: 95% intervals over "
        "patients drawn with replacement."
    )


def _notes(report: Report) -> list[str]:
    asked = report.asked
    return [
        *report.notes,
        f"Pointing game: the map's peak lies in what is marked, or at most {asked.tolerance:g} px "
        "beside it. Energy: the share of the map in it, to be read beside its share of the "
        f"picture (area). Fixed threshold: {asked.threshold:g} of the map's peak. Best IoU knows "
        "the truth and is an upper bound.",
        *[f"{SALIENCY_METHODS[name].title}: {SALIENCY_METHODS[name].sentence} {SALIENCY_METHODS[name].paper}."
          for name in asked.methods],
        LIMITS,
    ]  # fmt: skip


def _scores(report: Report) -> Table:
    names = score_maps.scores_of(report.judged.rows)
    head = ("method", "finding", "run", "studies", "area", *(TITLES[name] for name in names))
    rows = [
        (SALIENCY_METHODS[one.method].title, _words(one.finding), one.run, f"{one.studies:,}",
         _figure(one.area), *(_interval(one.scores[name]) for name in names))
        for one in report.cells
    ]  # fmt: skip
    return Table("Scores", head, rows)


def _differences(report: Report) -> Table:
    names = score_maps.scores_of(report.judged.rows)
    head = ("first", "minus", "finding", "studies", *(TITLES[name] for name in names))
    rows = [
        (_named(one.first, report), _named(one.second, report), _words(one.finding),
         f"{one.studies:,}", *(_difference(one.scores[name]) for name in names))
        for one in report.contrasts
    ]  # fmt: skip
    return Table("Paired differences", head, rows)


def _checks(report: Report) -> Table:
    head = (
        "method", "finding", "run", "studies", "insertion", "deletion", "ROAD", "same under noise",
        "same under shifts", "same without the head", "same without any weight",
    )  # fmt: skip
    rows = []
    for one in report.checked:
        first, last = ("–", "–")
        if one.sanity is not None:
            first, last = (_figure(one.sanity.correlations[i]) for i in (0, -1))
            last += " (fails)" if one.sanity.flagged else ""
        figures = (one.insertion, one.deletion, one.road, one.noise, one.shift)
        rows.append(
            (SALIENCY_METHODS[one.method].title, _words(one.finding), one.run, f"{one.studies:,}",
             *map(_figure, figures), first, last)
        )  # fmt: skip
    return Table("Without anybody's boxes", head, rows)


def _beside(report: Report) -> Table:
    shares = summary.beside(report.judged.rows)
    things = [str(name) for name in shares.columns if not str(name).endswith(" studies")]
    head = ("method", "run", *(name.replace("on ", "share on ") for name in things))
    rows = [
        (SALIENCY_METHODS[method].title, run,
         *(f"{_figure(row[name])} ({int(row[f'{name} studies']):,})" for name in things))
        for (method, run), (_, row) in zip(shares.index.to_list(), shares.iterrows(), strict=True)
    ]  # fmt: skip
    return Table("Share of the maps beside the patient (maps)", head, rows, texts=2)


def _agreement(report: Report) -> Table:
    head = ("run", "method", "other run", "other method", "maps", "rank correlation")
    rows: list[tuple[str, ...]] = [
        (row["run"], SALIENCY_METHODS[row["method"]].title, row["other_run"],
         SALIENCY_METHODS[row["other_method"]].title, f"{row['studies']:,}", _figure(row["correlation"]))
        for row in report.judged.agreement.to_dict("records")
    ]  # fmt: skip
    return Table("Agreement of maps", head, rows, texts=4)


def _flat_cells(report: Report) -> list[dict[str, Any]]:
    return [
        {"method": one.method, "finding": one.finding, "run": one.run, "studies": one.studies,
         "patients": one.patients, "area": one.area, **_spread(one.scores)}
        for one in report.cells
    ]  # fmt: skip


def _flat_contrasts(report: Report) -> list[dict[str, Any]]:
    return [
        {"first_run": one.first[0], "first_method": one.first[1], "second_run": one.second[0],
         "second_method": one.second[1], "finding": one.finding, "studies": one.studies,
         **_spread({name: test.difference for name, test in one.scores.items()}),
         **{f"{name}_p": test.p for name, test in one.scores.items()}}
        for one in report.contrasts
    ]  # fmt: skip


def _spread(scores: dict[str, Interval]) -> dict[str, float]:
    return {
        f"{name}{end}": value
        for name, one in scores.items()
        for end, value in (("", one.value), ("_low", one.low), ("_high", one.high))
    }


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    import pandas as pd

    return pd.DataFrame(list(rows)).to_csv(index=False)


def _html_table(table: Table) -> str:
    def cells(texts: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=t' * (i < table.texts)}>{escape(text)}</{tag}>"
            for i, text in enumerate(texts)
        )

    rows = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in table.rows)
    head = f"<thead><tr>{cells(table.head, 'th')}</tr></thead>"
    return f"<h2>{escape(table.title)}</h2><table>{head}<tbody>{rows}</tbody></table>"


def _named(which: tuple[str, str], report: Report) -> str:
    run, method = which
    return f"{run}, {SALIENCY_METHODS[method].title}"


def _words(finding: str) -> str:
    return finding.replace("_", " ")


def _piped(row: Sequence[str]) -> list[str]:
    return [text.replace("|", "\\|") for text in row]


def _figure(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _interval(one: Interval) -> str:
    if math.isnan(one.low):
        return _figure(one.value)
    return f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"


def _difference(one: PairedTest) -> str:
    gap = one.difference
    if math.isnan(gap.low):
        return "–" if math.isnan(gap.value) else f"{gap.value:+.3f}"
    return f"{gap.value:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
