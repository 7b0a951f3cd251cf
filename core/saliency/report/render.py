"""Render a saliency report: one HTML file, Markdown, CSV, JSON."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from core import formatting
from core.errors import WriteError
from core.formatting import DISCLAIMER, number
from core.metrics.intervals import Interval, PairedTest
from core.saliency.explain import LIMITS
from core.saliency.methods.registry import SALIENCY_METHODS
from core.saliency.report.report import Report
from core.saliency.scores import score_maps, summary

SCORE_TITLES = {
    "hit": "pointing game",
    "energy": "energy inside",
    "iou": "IoU at a fixed threshold",
    "best_iou": "best IoU",
    "counterfactual": "correlation with the true counterfactual",
    "counterfactual_rank": "rank correlation with the true counterfactual",
}


@dataclass(frozen=True)
class Table:
    """A table of formatted texts.

    Attributes:
        title: Its heading.
        head: Names of the columns.
        rows: As many texts each.
        texts: Number of columns, from the left, that contain words and not numbers.
    """

    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    texts: int = 3


def write(report: Report, out: Path) -> list[Path]:
    """Write ``report.html``, ``report.md``, ``table.csv``, ``differences.csv`` and ``studies.csv``.

    The folder ``out`` is created if it does not exist.

    Raises:
        WriteError: The folder cannot be written.
    """
    texts = {
        "report.html": as_html(report),
        "report.md": as_markdown(report),
        "table.csv": _csv(_flat_cells(report)),
        "differences.csv": _csv(_flat_contrasts(report)),
        "studies.csv": report.maps.rows.to_csv(index=False),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (out / name).write_text(text, encoding="utf-8")
        for i, png in enumerate(report.sheets.values(), 1):
            (out / f"sheet-{i}.png").write_bytes(png)
    except OSError as error:
        raise WriteError(
            f"The report cannot be written to {out} ({error.strerror}).", "Choose another --out."
        ) from error
    return [out / name for name in texts] + [
        out / f"sheet-{i}.png" for i in range(1, len(report.sheets) + 1)
    ]


def tables(report: Report) -> list[Table]:
    """All tables of a report."""
    result = [_scores(report)]
    if report.contrasts:
        result.append(_differences(report))
    if report.label_free:
        result.append(_label_free(report))
    result.append(_distractors(report))
    if len(report.maps.agreement):
        result.append(_agreement(report))
    return result


def as_markdown(report: Report) -> str:
    """The report without its contact sheets."""
    return _render("report.md.j2", report, autoescape=False)


def as_html(report: Report) -> str:
    """The report as one file that loads nothing from elsewhere."""
    sheets = [
        (title, base64.b64encode(png).decode("ascii")) for title, png in report.sheets.items()
    ]
    return _render("report.html.j2", report, autoescape=True, sheets=sheets)


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain values; an undefined value is None."""
    value: dict[str, Any] = _plain(
        {
            "data": report.title,
            "split": report.split,
            "asked": asdict(report.options),
            "runs": list(report.runs),
            "left_out": report.maps.left_out,
            "table": [asdict(cell) for cell in report.cells],
            "differences": [asdict(contrast) for contrast in report.contrasts],
            "checks": [scores.as_json() for scores in report.label_free],
            "agreement": report.maps.agreement.to_dict("records"),
            "notes": _notes(report),
            "disclaimer": DISCLAIMER,
        }
    )
    return value


def _render(template: str, report: Report, *, autoescape: bool, **values: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=autoescape,  # noqa: S701 - False for Markdown only
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(
        heading=f"Where the models look: {report.title}",
        disclaimer=DISCLAIMER,
        summary=_summary(report),
        tables=tables(report),
        notes=_notes(report),
        **values,
    )


def _summary(report: Report) -> str:
    studies = report.maps.rows["study"].nunique()
    patients = report.maps.rows["patient"].nunique()
    return (
        f"{len(report.runs)} run{'s' * (len(report.runs) != 1)} on {number(studies)} marked "
        f"studies of {number(patients)} patients, split: {report.split}. In parentheses: 95% "
        "bootstrap intervals over patients."
    )


def _notes(report: Report) -> list[str]:
    options = report.options
    methods = [SALIENCY_METHODS[name] for name in options.methods]
    return [
        *report.notes,
        "Pointing game: the map's peak is in the marked region, or at most "
        f"{options.tolerance:g} px outside of it. Energy: the share of the map inside the region, "
        "to be compared with the region's share of the image (area). Fixed threshold: "
        f"{options.threshold:g} of the map's peak. Best IoU: the threshold is chosen by the "
        "region, so it is an upper bound.",
        *[f"{method.title}: {method.description} {method.paper}." for method in methods],
        LIMITS,
    ]


def _scores(report: Report) -> Table:
    names = score_maps.scores_of(report.maps.rows)
    head = ("method", "finding", "run", "studies", "area", *(SCORE_TITLES[name] for name in names))
    rows = [
        (SALIENCY_METHODS[cell.method].title, _title(cell.finding), cell.run, number(cell.studies),
         formatting.auroc(cell.area), *(_interval(cell.scores[name]) for name in names))
        for cell in report.cells
    ]  # fmt: skip
    return Table("Scores", head, rows)


def _differences(report: Report) -> Table:
    names = score_maps.scores_of(report.maps.rows)
    head = ("first", "minus", "finding", "studies", *(SCORE_TITLES[name] for name in names))
    rows = [
        (_run_and_method(contrast.first), _run_and_method(contrast.second),
         _title(contrast.finding), number(contrast.studies),
         *(_difference(contrast.scores[name]) for name in names))
        for contrast in report.contrasts
    ]  # fmt: skip
    return Table("Paired differences", head, rows)


def _label_free(report: Report) -> Table:
    head = (
        "method", "finding", "run", "studies", "insertion", "deletion", "ROAD",
        "correlation under noise", "correlation under shifts", "correlation with random head",
        "correlation with random weights",
    )  # fmt: skip
    rows = []
    for scores in report.label_free:
        first, last = ("–", "–")
        if scores.sanity is not None:
            first, last = (formatting.auroc(scores.sanity.correlations[i]) for i in (0, -1))
            last += " (fails)" if scores.sanity.failed else ""
        values = (scores.insertion, scores.deletion, scores.road, scores.noise, scores.shift)
        rows.append(
            (SALIENCY_METHODS[scores.method].title, _title(scores.finding), scores.run,
             number(scores.studies), *map(formatting.auroc, values), first, last)
        )  # fmt: skip
    return Table("Scores without marked regions", head, rows)


def _distractors(report: Report) -> Table:
    shares = summary.distractor_shares(report.maps.rows)
    columns = [str(name) for name in shares.columns if not str(name).endswith(" studies")]
    head = ("method", "run", *(name.replace("on ", "share on ") for name in columns))
    rows = [
        (SALIENCY_METHODS[method].title, run,
         *(f"{formatting.auroc(row[name])} ({number(row[f'{name} studies'])})" for name in columns))
        for (method, run), (_, row) in zip(shares.index.to_list(), shares.iterrows(), strict=True)
    ]  # fmt: skip
    return Table(
        "Share of the maps on borders, markers and tubes (number of maps)", head, rows, texts=2
    )


def _agreement(report: Report) -> Table:
    head = ("run", "method", "other run", "other method", "maps", "rank correlation")
    rows: list[tuple[str, ...]] = [
        (row["run"], SALIENCY_METHODS[row["method"]].title, row["other_run"],
         SALIENCY_METHODS[row["other_method"]].title, number(row["studies"]),
         formatting.auroc(row["correlation"]))
        for row in report.maps.agreement.to_dict("records")
    ]  # fmt: skip
    return Table("Agreement of maps", head, rows, texts=4)


def _flat_cells(report: Report) -> list[dict[str, Any]]:
    return [
        {"method": cell.method, "finding": cell.finding, "run": cell.run, "studies": cell.studies,
         "patients": cell.patients, "area": cell.area, **_flat_intervals(cell.scores)}
        for cell in report.cells
    ]  # fmt: skip


def _flat_contrasts(report: Report) -> list[dict[str, Any]]:
    return [
        {"first_run": contrast.first[0], "first_method": contrast.first[1],
         "second_run": contrast.second[0], "second_method": contrast.second[1],
         "finding": contrast.finding, "studies": contrast.studies,
         **_flat_intervals({name: test.difference for name, test in contrast.scores.items()}),
         **{f"{name}_p": test.p for name, test in contrast.scores.items()}}
        for contrast in report.contrasts
    ]  # fmt: skip


def _flat_intervals(scores: dict[str, Interval]) -> dict[str, float]:
    return {
        f"{name}{end}": value
        for name, interval in scores.items()
        for end, value in (
            ("", interval.value), ("_low", interval.low), ("_high", interval.high)
        )
    }  # fmt: skip


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    return pd.DataFrame(list(rows)).to_csv(index=False)


def _run_and_method(pair: tuple[str, str]) -> str:
    run, method = pair
    return f"{run}, {SALIENCY_METHODS[method].title}"


def _title(finding: str) -> str:
    return finding.replace("_", " ")


def _interval(interval: Interval) -> str:
    if math.isnan(interval.low):
        return formatting.auroc(interval.value)
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def _difference(test: PairedTest) -> str:
    gap = test.difference
    if math.isnan(gap.low):
        return "–" if math.isnan(gap.value) else f"{gap.value:+.3f}"
    return f"{gap.value:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})"


def _plain(value: Any) -> Any:
    """The value without NumPy types, NaN and infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
