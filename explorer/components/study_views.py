"""A study on the light box: the original and each run's map side by side, in views and words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from core.data.base import ChestDataset, Study
from core.data.images.radiograph import Radiograph
from core.errors import CoreError, DataError
from core.runs.run import Run
from core.saliency.explain import LIMITS
from core.saliency.methods.registry import SALIENCY_METHODS
from explorer.components.model_cache import ModelCache
from explorer.components.viewer import MAX_VIEWS, View
from explorer.figures.palette import run_styles
from explorer.formatting import run_title

if TYPE_CHECKING:
    from core.saliency.request import Request


@dataclass(frozen=True)
class RunView:
    """What one run says of a study.

    Attributes:
        run: The run.
        title: Its name beside those it is shown with.
        colour: Its colour on this page.
        request: Map, probabilities and scores; None if there is an error.
        thresholds: Operating points by finding.
        error: Why there is no map.
    """

    run: Run
    title: str
    colour: str
    request: Request | None
    thresholds: dict[str, float]
    error: CoreError | None = None


def read(
    gallery: ModelCache,
    runs: Sequence[Run],
    study: str | NDArray[np.uint8],
    finding: str,
    method: str,
    layer: str | None = None,
) -> list[RunView]:
    """Ask each run where it looks on the same study.

    Args:
        gallery: Where models are kept.
        runs: The runs; a study id is looked up in the first one's data set.
        study: Id of a study, or an uploaded picture of shape (height, width).
        finding: The finding.
        method: A key of ``SALIENCY_METHODS``.
        layer: The layer of the map; None takes each network's default.

    Returns:
        One reading a run; a run that cannot answer says why, and the others are not held up.
    """
    styles = run_styles([run.spec.adapter.method for run in runs])
    found = []
    for run, title, style in zip(runs, titles(runs), styles, strict=True):
        try:
            if isinstance(study, str):
                data = runs[0].spec.data
                request = gallery.explain_in(data, run.id, study, finding, method, layer)
            else:
                request = gallery.explain_picture(run.id, study, finding, method, layer)
        except CoreError as error:
            found.append(RunView(run, title, style.colour, None, {}, error))
            continue
        found.append(RunView(run, title, style.colour, request, gallery.thresholds(run.id)))
    return found


def views(
    readings: Sequence[RunView],
    plate: Radiograph,
    finding: str,
    *,
    dataset: ChestDataset | None = None,
    study: Study | None = None,
    apart: tuple[str, str] | None = None,
) -> list[View]:
    """The original and each run's map, ready for the viewer.

    Args:
        readings: One to six runs' readings.
        plate: The picture.
        finding: The finding.
        dataset: Where the study is from; None for an uploaded picture.
        study: What is known about it.
        apart: Ids of two of the runs; the difference of their maps is shown as well.

    Returns:
        The original first, as long as there is room for it, one view a run, the difference last.

    Raises:
        DataError: There are more than six runs.
    """
    if len(readings) > MAX_VIEWS:
        raise DataError(f"{len(readings)} runs do not fit.", f"Choose at most {MAX_VIEWS}.")
    boxes = study.boxes if study else ()
    mask = dataset.mask(study.id, finding) if dataset and study else None
    masks = {finding: mask} if mask is not None and mask.any() else {}
    original = View(
        plate,
        title="Original",
        boxes=boxes,
        masks=masks,
        facts=about(study) if study else (),
        alt="Chest radiograph, " + (study.id if study else "uploaded picture"),
    )
    shown = [original]
    for reading in readings:
        title = reading.title
        if reading.request is None:
            notes = (str(reading.error),)
            plain = replace(original, title=title, colour=reading.colour, facts=(), notes=notes)
            shown.append(replace(plain, alt=f"Chest radiograph. {title}: {reading.error}"))
            continue
        found = reading.request.explanation
        facts = _facts(reading)
        shown.append(
            View(
                plate,
                title=title,
                colour=reading.colour,
                map=found.map,
                unit=SALIENCY_METHODS[found.method].unit,
                boxes=boxes,
                masks=masks,
                facts=facts,
                notes=found.notes,
                alt=f"Chest radiograph with the {SALIENCY_METHODS[found.method].title} map of "
                f"{title}. " + "; ".join(f"{name}: {text}" for name, text in facts),
            )
        )
    if apart is not None:
        shown += _difference(readings, original, *apart)
    return (shown if len(shown) <= MAX_VIEWS else shown[1:])[:MAX_VIEWS]


def _difference(readings: Sequence[RunView], plain: View, first: str, second: str) -> list[View]:
    """Where one run looks more than another, if both answered."""
    by_id = {one.run.id: one for one in readings if one.request is not None}
    if first not in by_id or second not in by_id or first == second:
        return []
    maps = []
    for one in (by_id[first], by_id[second]):
        assert one.request is not None
        found = one.request.explanation
        maps.append(found.map / found.peak if found.peak > 0 else found.map)
    apart = np.asarray(maps[0] - maps[1], np.float32)
    names = [by_id[one].title for one in (first, second)]
    p, q = (by_id[one].request.explanation.probability for one in (first, second))  # type: ignore[union-attr]
    kept = np.isfinite(maps[0]) & np.isfinite(maps[1])
    flat = not kept.any() or float(np.abs(apart[kept]).max()) == 0
    notes = ("The two maps are equal.",) if flat else ()
    return [
        replace(
            plain,
            title=f"{names[0]} − {names[1]}",
            map=None if flat else apart,
            unit="difference of the maps, each as a share of its own peak",
            facts=(
                ("Blue", f"{names[0]} looks there more"),
                ("Yellow", f"{names[1]} looks there more"),
                ("Probability", f"{p - q:+.2f}".replace("-", "−")),
            ),
            notes=notes,
            alt=f"Chest radiograph with the difference of two maps: {names[0]} minus {names[1]}. "
            f"Probabilities {p:.2f} and {q:.2f}.",
        )
    ]


def about(study: Study) -> tuple[tuple[str, str], ...]:
    """What the data set knows about a study, as names and values."""
    present = [name for name, value in study.findings.items() if value == 1]
    unknown = [name for name, value in study.findings.items() if math.isnan(value)]
    sex = {"M": "male", "F": "female"}.get(study.sex, "")
    age = "" if study.age is None else f"{study.age:g} years"
    facts = [("Labels", ", ".join(present) or "no finding")]
    if unknown:
        facts.append(("Not known", ", ".join(unknown)))
    who = ", ".join(part for part in (study.view, sex, age) if part)
    if who:
        facts.append(("Patient", who))
    marked = sorted({box.finding for box in study.boxes})
    if marked:
        facts.append(("Marked", ", ".join(marked)))
    return tuple(facts)


def _facts(reading: RunView) -> tuple[tuple[str, str], ...]:
    request = reading.request
    assert request is not None
    found, scores = request.explanation, request.scores
    called = _called(found.probability, reading.thresholds.get(found.finding))
    facts = [(found.finding, f"{found.probability:.2f}{called}")]
    if scores is not None:
        energy = "–" if math.isnan(scores.energy) else f"{scores.energy:.0%}"
        facts += [
            ("Peak", "inside what is marked" if scores.hit else "outside what is marked"),
            ("Energy inside", f"{energy} (an even map: {scores.area:.0%})"),
            ("IoU", f"{scores.iou:.2f} at half the peak, {scores.best_iou:.2f} at best"),
        ]
    facts.append(("Layer", f"{found.layer}, {found.grid[0]} × {found.grid[1]} cells"))
    return tuple(facts)


def _called(probability: float, threshold: float | None) -> str:
    if threshold is None:
        return " (no operating point)"
    sign, word = ("≥", "present") if probability >= threshold else ("<", "absent")
    return f" {sign} {threshold:.2f}: called {word}"


def table(readings: Sequence[RunView], finding: str, study: Study | None) -> str:
    """HTML of each run's probability of each finding, beside label and operating point.

    Args:
        readings: The runs' readings.
        finding: The finding that is shown, marked in the table.
        study: What is known about the study; None for an uploaded picture.
    """
    answered = [one for one in readings if one.request is not None]
    if not answered:
        return ""
    rows: dict[str, None] = {}
    for one in answered:
        if one.request is not None:
            rows.update(dict.fromkeys(one.request.explanation.probabilities))
    heads = "".join(
        f'<th class="cxr-num cxr-wrap"><i class="cxr-swatch" style="background:{one.colour}"></i>'
        f"{escape(one.title)}</th>"
        for one in answered
    )
    body = "".join(_row(name, answered, finding, study) for name in rows)
    label = "<th>Label</th>" if study else ""
    return (
        '<div class="cxr-panel"><h3 class="cxr-head">Probability by finding</h3>'
        '<div class="cxr-scroll"><table class="cxr-table" aria-label="Probability by finding">'
        f"<thead><tr><th>Finding</th>{label}{heads}</tr></thead><tbody>{body}</tbody></table></div>"
        '<p class="cxr-muted cxr-small">● at or above the run’s operating point: the threshold '
        "with the highest sensitivity + specificity (Youden) on the run’s validation split. Small: "
        "that threshold.</p></div>"
    )


def _row(name: str, readings: Sequence[RunView], finding: str, study: Study | None) -> str:
    cells = []
    for one in readings:
        assert one.request is not None
        value = one.request.explanation.probabilities.get(name)
        if value is None:
            cells.append('<td class="cxr-num cxr-muted">–</td>')
            continue
        at = one.thresholds.get(name)
        dot = '<span title="called present">● </span>' if at is not None and value >= at else ""
        small = "" if at is None else f' <span class="cxr-muted cxr-small">{at:.2f}</span>'
        cells.append(f'<td class="cxr-num">{dot}{value:.2f}{small}</td>')
    label = ""
    if study:
        truth = study.findings.get(name, math.nan)
        word = "not known" if math.isnan(truth) else "present" if truth == 1 else "absent"
        label = f'<td class="{"" if truth == 1 else "cxr-muted"}">{word}</td>'
    current = ' aria-current="true"' if name == finding else ""
    return (
        f'<tr data-key="{escape(name)}"{current}><td>{escape(name.replace("_", " "))}</td>'
        f"{label}{''.join(cells)}</tr>"
    )


def caveat(method: str) -> str:
    """HTML of what the method shows, where it was published, and what no such map can tell."""
    one = SALIENCY_METHODS[method]
    return (
        f'<p class="cxr-note"><b>{escape(one.title)}.</b> {escape(one.sentence)} '
        f'<span class="cxr-muted">{escape(one.paper)}.</span><br>{escape(LIMITS)} '
        "Colours are scaled per image unless the scale is set to shared.</p>"
    )


def heading(title: str, finding: str, method: str) -> str:
    """The line over the pictures, which also stands on the saved panel."""
    return f"{title} · {finding.replace('_', ' ')} · {SALIENCY_METHODS[method].title}"


def titles(runs: Sequence[Run]) -> list[str]:
    """What tells runs apart that are shown together: their names without the parts all share."""
    parts = [run.name.split(" · ") for run in runs]
    shared = set.intersection(*map(set, parts)) if len(parts) > 1 else set()
    short = [" · ".join(one for one in each if one not in shared) for each in parts]
    if len(set(short)) < len(short) or not all(short):
        return [run.name if len(runs) < 2 else run_title(run) for run in runs]
    return short


def names(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Runs to choose from: (text, id)."""
    return [(run_title(run), run.id) for run in runs]
