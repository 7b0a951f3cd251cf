"""One study by several runs: original and maps as views of the viewer, and their text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from core.data.base import ChestDataset, Study
from core.data.images.radiograph import Radiograph
from core.errors import CoreError, DataError
from core.evaluation.calls import Caller
from core.formatting import percent
from core.runs.run import Run
from core.saliency.explain import LIMITS
from core.saliency.methods.registry import SALIENCY_METHODS
from explorer.components.model_cache import ModelCache
from explorer.components.viewer import MAX_VIEWS, View
from explorer.figures.palette import run_styles
from explorer.formatting import run_title
from explorer.templates import render

if TYPE_CHECKING:
    from core.saliency.request import ExplainedStudy


@dataclass(frozen=True)
class RunView:
    """The result of one run for a study.

    Attributes:
        run: The run.
        title: Its name among the runs that are shown.
        colour: Its colour.
        explained: Map, probabilities and scores; None if there is an error.
        callers: How its probabilities are read, by finding.
        error: Why there is no map.
    """

    run: Run
    title: str
    colour: str
    explained: ExplainedStudy | None
    callers: dict[str, Caller]
    error: CoreError | None = None


def read(
    models: ModelCache,
    runs: Sequence[Run],
    study: str | NDArray[np.uint8],
    finding: str,
    method: str,
    layer: str | None = None,
) -> list[RunView]:
    """Explain one study by each of several runs.

    Args:
        models: The cache of models.
        runs: The runs; a study id belongs to the first run's data set.
        study: Id of a study, or an uploaded image of shape (height, width).
        finding: The finding.
        method: A key of ``SALIENCY_METHODS``.
        layer: The layer of the map; None selects the default of each network.

    Returns:
        One result per run; a run that fails has an error and does not affect the others.
    """
    styles = run_styles([run.spec.adapter.method for run in runs])
    results = []
    for run, title, style in zip(runs, titles(runs), styles, strict=True):
        try:
            if isinstance(study, str):
                data = runs[0].spec.data
                explained = models.explain(data, run.id, study, finding, method, layer)
            else:
                explained = models.explain_image(run.id, study, finding, method, layer)
        except CoreError as error:
            results.append(RunView(run, title, style.colour, None, {}, error))
            continue
        results.append(RunView(run, title, style.colour, explained, models.callers(run.id)))
    return results


def views(
    run_views: Sequence[RunView],
    radiograph: Radiograph,
    finding: str,
    *,
    dataset: ChestDataset | None = None,
    study: Study | None = None,
    difference: tuple[str, str] | None = None,
) -> list[View]:
    """The original and each run's map, ready for the viewer.

    Args:
        run_views: The results of one to six runs.
        radiograph: The radiograph.
        finding: The finding.
        dataset: The data set of the study; None for an uploaded image.
        study: The study; None for an uploaded image.
        difference: Ids of two of the runs; the difference of their maps is shown as well.

    Returns:
        The original first, if there is room for it, one view per run, the difference last.

    Raises:
        DataError: There are more than six runs.
    """
    if len(run_views) > MAX_VIEWS:
        raise DataError(
            f"{len(run_views)} runs do not fit side by side.", f"Choose at most {MAX_VIEWS}."
        )
    mask = dataset.mask(study.id, finding) if dataset and study else None
    original = View(
        radiograph,
        title="Original",
        boxes=study.boxes if study else (),
        masks={finding: mask} if mask is not None and mask.any() else {},
        facts=about(study) if study else (),
        alt="Chest radiograph, " + (study.id if study else "uploaded image"),
    )
    shown = [original, *(_run_view(result, original) for result in run_views)]
    if difference is not None:
        shown += _difference_view(run_views, original, *difference)
    return (shown if len(shown) <= MAX_VIEWS else shown[1:])[:MAX_VIEWS]


def _run_view(result: RunView, original: View) -> View:
    """The original with a run's map, or with the reason why there is no map."""
    if result.explained is None:
        return replace(
            original,
            title=result.title,
            colour=result.colour,
            facts=(),
            notes=(str(result.error),),
            alt=f"Chest radiograph. {result.title}: {result.error}",
        )
    explanation = result.explained.explanation
    method = SALIENCY_METHODS[explanation.method]
    facts = _facts(result)
    return replace(
        original,
        title=result.title,
        colour=result.colour,
        map=explanation.map,
        unit=method.unit,
        facts=facts,
        notes=explanation.notes,
        alt=f"Chest radiograph with the {method.title} map of {result.title}. "
        + "; ".join(f"{name}: {text}" for name, text in facts),
    )


def _difference_view(
    run_views: Sequence[RunView], original: View, first: str, second: str
) -> list[View]:
    """The difference of two runs' maps, if both runs have one."""
    by_id = {result.run.id: result for result in run_views if result.explained is not None}
    if first not in by_id or second not in by_id or first == second:
        return []
    maps, probabilities = [], []
    for run_id in (first, second):
        explained = by_id[run_id].explained
        assert explained is not None
        explanation = explained.explanation
        # Each as a share of its peak: two models' units differ by their own scale.
        maps.append(explanation.map / explanation.peak if explanation.peak > 0 else explanation.map)
        probabilities.append(explanation.probability)
    difference = np.asarray(maps[0] - maps[1], np.float32)
    finite = np.isfinite(difference)
    equal = not finite.any() or float(np.abs(difference[finite]).max()) == 0
    names = [by_id[run_id].title for run_id in (first, second)]
    p, q = probabilities
    return [
        replace(
            original,
            title=f"{names[0]} − {names[1]}",
            map=None if equal else difference,
            unit="difference of the maps, each as a share of its own peak",
            facts=(
                ("Blue", f"higher for {names[0]}"),
                ("Yellow", f"higher for {names[1]}"),
                ("Probability", f"{p - q:+.2f}".replace("-", "−")),
            ),
            notes=("The two maps are equal.",) if equal else (),
            alt=f"Chest radiograph with the difference of two maps: {names[0]} minus {names[1]}. "
            f"Probabilities {p:.2f} and {q:.2f}.",
        )
    ]


def about(study: Study) -> tuple[tuple[str, str], ...]:
    """The labels and attributes of a study, as names and values."""
    present = [name for name, value in study.findings.items() if value == 1]
    unknown = [name for name, value in study.findings.items() if math.isnan(value)]
    sex = {"M": "male", "F": "female"}.get(study.sex, "")
    age = "" if study.age is None else f"{study.age:g} years"
    facts = [("Labels", ", ".join(present) or "no finding")]
    if unknown:
        facts.append(("Unknown", ", ".join(unknown)))
    patient = ", ".join(part for part in (study.view, sex, age) if part)
    if patient:
        facts.append(("Patient", patient))
    marked = sorted({box.finding for box in study.boxes})
    if marked:
        facts.append(("Marked", ", ".join(marked)))
    return tuple(facts)


def _facts(result: RunView) -> tuple[tuple[str, str], ...]:
    assert result.explained is not None
    explanation, scores = result.explained.explanation, result.explained.scores
    call = _call(explanation.probability, result.callers.get(explanation.finding))
    facts = [(explanation.finding, f"{explanation.probability:.2f}, {call}")]
    if scores is not None:
        energy = "–" if math.isnan(scores.energy) else f"{scores.energy:.0%}"
        facts += [
            ("Peak", f"{'inside' if scores.hit else 'outside'} the marked region"),
            ("Energy inside", f"{energy} (uniform map: {scores.area:.0%})"),
            ("IoU", f"{scores.iou:.2f} at half the peak, {scores.best_iou:.2f} at best"),
        ]
    rows, columns = explanation.grid
    facts.append(("Layer", f"{explanation.layer}, {rows} × {columns} cells"))
    return tuple(facts)


def _call(probability: float, caller: Caller | None) -> str:
    if caller is None:
        return "no call, the validation split has too few studies with or without it"
    odds = caller.calibrated(probability)
    return (
        f"called {caller.word(probability)}: calibrated {percent(odds)}, prevalence "
        f"{percent(caller.prevalence)}"
    )


@dataclass(frozen=True)
class _Cell:
    """A run's probability of one finding; None if the run does not have the finding."""

    probability: float | None
    caller: Caller | None

    @property
    def word(self) -> str:
        """The call; empty without a caller."""
        if self.probability is None or self.caller is None:
            return ""
        return self.caller.word(self.probability)

    @property
    def calibrated(self) -> float | None:
        if self.probability is None or self.caller is None:
            return None
        return self.caller.calibrated(self.probability)


@dataclass(frozen=True)
class _TableRow:
    finding: str
    label: str
    cells: tuple[_Cell, ...]


def table(run_views: Sequence[RunView], finding: str, study: Study | None) -> Markup:
    """HTML of each run's probability of each finding, with label and call.

    The row of ``finding`` is highlighted; ``study`` is None for an uploaded image.
    """
    explained = [
        (result, result.explained.explanation.probabilities)
        for result in run_views
        if result.explained is not None
    ]
    if not explained:
        return Markup()
    findings = dict.fromkeys(name for _, probabilities in explained for name in probabilities)
    rows = [
        _TableRow(
            name,
            _label(study, name),
            tuple(
                _Cell(probabilities.get(name), result.callers.get(name))
                for result, probabilities in explained
            ),
        )
        for name in findings
    ]
    return render(
        "components/probability_table.html.j2",
        runs=[result for result, _ in explained],
        rows=rows,
        finding=finding,
        labelled=study is not None,
    )


def _label(study: Study | None, finding: str) -> str:
    value = study.findings.get(finding, math.nan) if study else math.nan
    return "unknown" if math.isnan(value) else "present" if value == 1 else "absent"


def caveat(method: str) -> Markup:
    """HTML of what the method shows, where it was published, and the limits of saliency maps."""
    return render(
        "components/saliency_caveat.html.j2", method=SALIENCY_METHODS[method], limits=LIMITS
    )


def heading(title: str, finding: str, method: str) -> str:
    """The line above the views, which is also part of the saved figure."""
    return f"{title} · {finding.replace('_', ' ')} · {SALIENCY_METHODS[method].title}"


def titles(runs: Sequence[Run]) -> list[str]:
    """Short names of runs that are shown together, without the parts that all names share."""
    parts = [run.name.split(" · ") for run in runs]
    shared = set.intersection(*map(set, parts)) if len(parts) > 1 else set()
    short = [" · ".join(part for part in each if part not in shared) for each in parts]
    if len(set(short)) < len(short) or not all(short):
        return [run.name if len(runs) < 2 else run_title(run) for run in runs]
    return short


def names(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Choices of runs: (text, id)."""
    return [(run_title(run), run.id) for run in runs]
