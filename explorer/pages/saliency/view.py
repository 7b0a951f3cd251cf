"""What the Saliency page shows: the offered runs and studies, and the maps of a selection.

Every handler looks up its objects by id: the run in the store, the study in the run's data set. An
uploaded image is identified by a token (see ``explorer.pages.saliency.uploads``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from core.data.base import ChestDataset
from core.data.images.radiograph import Radiograph
from core.errors import CoreError, DataError
from core.runs.run import Run, RunState
from core.saliency.methods.registry import SALIENCY_METHODS, method_title, offered
from explorer.components import study_list, study_views, viewer
from explorer.components.model_cache import ModelCache, Predictions
from explorer.components.study_views import RunView
from explorer.context import Context
from explorer.pages.saliency.uploads import Upload
from explorer.templates import error_message, render

NO_RUNS = "No completed run yet. Start a run on the Launch page to inspect its model here."
DEFAULT_LAYER = ("Default of the network", "")
NONE = ("None", "")


@dataclass(frozen=True)
class Selection:
    """What a user selected.

    Attributes:
        run: Id of the main run.
        others: Ids of the runs to compare with.
        study: Id of a study of the main run's data set.
        finding: The finding.
        method: A key of ``SALIENCY_METHODS``.
        layer: The layer of the map; empty selects the default of each network.
        difference: Ids of two of the runs, separated by a space, whose maps are subtracted; or
            empty.
        upload: An uploaded image, in place of the study.
    """

    run: str | None
    others: Sequence[str]
    study: str | None
    finding: str
    method: str
    layer: str
    difference: str
    upload: Upload | None = None


def completed(context: Context) -> list[Run]:
    """The runs whose models can be inspected."""
    return context.store.list(states=[RunState.COMPLETED])


def run_choices(context: Context, run: str | None) -> list[Any]:
    """Update the choices of both lists of runs; what is selected stays."""
    choices = study_views.names(completed(context))
    others = [choice for choice in choices if choice[1] != run]
    return [gr.Dropdown(choices=choices), gr.Dropdown(choices=others)]


def offer_runs(context: Context, run: str | None, others: list[str] | None) -> list[Any]:
    """Update both lists of runs, and select those of these runs that still exist."""
    runs = completed(context)
    known = {each.id for each in runs}
    choices = study_views.names(runs)
    return [
        gr.Dropdown(choices=choices, value=run if run in known else None),
        gr.Dropdown(
            choices=[choice for choice in choices if choice[1] != run],
            value=[other for other in others or [] if other in known],
        ),
    ]


def offer(
    context: Context,
    models: ModelCache,
    run_id: str | None,
    others: list[str] | None,
    finding: str | None,
    which: str,
    order: str,
    study: str | None,
) -> list[Any]:
    """Update the lists for a run: the runs to compare with, its findings and its studies."""
    by_id = {run.id: run for run in completed(context)}
    run = _main_run(context, by_id, run_id)
    if run is None:
        return [gr.Dropdown(choices=[], value=None)] * 4 + [gr.skip(), []]
    others = [other for other in others or [] if other in by_id and other != run.id]
    try:
        dataset = models.dataset(run.spec.data)
        if finding not in dataset.findings:
            finding, study = _first_hit(models, run, dataset, study)
        order = order if others or order not in study_list.PAIRED else "listed"
        ids, decided = _studies(models, [run.id, *others], dataset, finding, which, order)
    except CoreError:
        # ``show`` reports the error in place of the images; the other lists stay usable.
        lists = offer_runs(context, run.id, others)
        return [*lists, gr.skip(), gr.Dropdown(choices=[], value=None), gr.skip(), []]
    if study not in dataset.table.index or (ids and study not in ids):
        study = ids[0] if ids else None
    label = f"Study ({len(ids):,} of the {_split(dataset)} split)"
    if len(ids) > study_list.LISTED:
        label += f", first {study_list.LISTED} listed"
    if decided is not None:
        label += f"; the first {decided:,} match the order"
    names = study_views.titles([run, *(by_id[other] for other in others)])
    return [
        *offer_runs(context, run.id, others),
        gr.Dropdown(
            choices=[(name.replace("_", " "), name) for name in dataset.findings], value=finding
        ),
        gr.Dropdown(choices=study_list.choices(dataset, ids), value=study, label=label),
        gr.Dropdown(choices=study_list.orders(names), value=order),
        ids,
    ]


def _first_hit(
    models: ModelCache, run: Run, dataset: ChestDataset, study: str | None
) -> tuple[str, str | None]:
    """The finding that a run places best and a study with a hit; else the first finding."""
    rates = models.hit_rates(run.id)
    best = rates.best if rates else None
    if best is None or best.finding not in dataset.findings:
        return dataset.findings[0], study
    return best.finding, study or best.hits[0]


def hit_rates(models: ModelCache, run_id: str | None) -> Markup:
    """HTML of how often the main run's maps hit marked regions, measured if needed."""
    if not run_id:
        return Markup()
    try:
        rates = models.measure_hit_rates(run_id)
    except CoreError:  # ``show`` reports the error
        return Markup()
    if rates is None:  # nothing is marked in its test split
        return Markup()
    return render(
        "pages/saliency/hit_rates.html.j2",
        rates=rates,
        method=SALIENCY_METHODS[rates.method].title,
        isnan=math.isnan,
    )


def _main_run(context: Context, by_id: dict[str, Run], run_id: str | None) -> Run | None:
    """The completed run of an id, or of the start of an id or a name; else the latest."""
    if run_id and run_id not in by_id:
        try:
            run_id = context.store.get(run_id).id
        except CoreError:
            run_id = None
    return by_id.get(run_id or "") or next(iter(by_id.values()), None)


def _split(dataset: ChestDataset) -> str:
    return "test" if dataset.ids("test") else "val"


def _studies(
    models: ModelCache,
    run_ids: Sequence[str],
    dataset: ChestDataset,
    finding: str,
    which: str,
    order: str,
) -> tuple[list[str], int | None]:
    """Ids in order, and for how many exactly one of the first two runs is correct."""
    split = _split(dataset)
    predictions: list[Predictions] = []
    thresholds: list[float] = []
    if order != "listed":
        for run_id in run_ids:
            try:
                predictions.append(models.predictions(run_id, split))
            except DataError:
                continue
            caller = models.callers(run_id).get(finding)
            thresholds.append(caller.threshold if caller else 0.5)
    ids = study_list.studies(
        dataset,
        split,
        finding=finding,
        present=which == "present",
        marked=which == "marked",
        order=order,
        predictions=predictions,
        thresholds=thresholds,
    )
    decided = study_list.count_decided(dataset, ids, finding, order, predictions, thresholds)
    return ids, decided


def show(context: Context, models: ModelCache, selection: Selection) -> list[Any]:
    """Viewer, text below it, message, and the offered layers, differences and methods."""
    try:
        if not selection.run:
            empty = NO_RUNS if not completed(context) else "Choose a run."
            return [viewer.viewer_value([], empty=empty), "", "", *[gr.skip()] * 3]
        if selection.study is None and selection.upload is None:
            empty = (
                f"No study of this selection has {selection.finding}. Choose other studies or "
                "another finding."
            )
            return [viewer.viewer_value([], empty=empty), "", "", *[gr.skip()] * 3]
        runs, run_views, radiograph = explain(context, models, selection)
        value, below = _render(models, selection, runs, run_views, radiograph)
        layers = _offer_layers(models, selection)
        differences = _offer_differences(runs, selection.difference)
        return [value, below, "", layers, differences, _offer_methods(runs, selection.method)]
    except CoreError as error:
        return [viewer.viewer_value([], empty=str(error)), "", error_message(error),
                *[gr.skip()] * 3]  # fmt: skip


def explain(
    context: Context, models: ModelCache, selection: Selection
) -> tuple[list[Run], list[RunView], Radiograph]:
    """The selected runs, their maps of the study or the uploaded image, and the radiograph.

    Raises:
        CoreError: There is no such run or study, or its image cannot be read.
    """
    runs = [context.store.get(run) for run in (selection.run or "", *selection.others)]
    study: Any
    if selection.upload is not None:
        radiograph = selection.upload.radiograph
        study = radiograph.grey
    else:
        study = selection.study or ""
        radiograph = models.radiograph(runs[0].spec.data, study)
    layer = selection.layer or None
    run_views = study_views.read(models, runs, study, selection.finding, selection.method, layer)
    return runs, run_views, radiograph


def out_of_distribution(models: ModelCache, selection: Selection) -> Markup:
    """HTML of whether an uploaded image is similar to the main run's validation images."""
    upload = selection.upload
    if upload is None or not selection.run:
        return Markup()
    score, error = None, None
    try:
        score = models.out_of_distribution(selection.run, upload.radiograph.grey)
    except CoreError as fault:
        error = fault
    return render(
        "pages/saliency/out_of_distribution.html.j2",
        coloured=upload.coloured,
        score=score,
        error=error,
    )


def _render(
    models: ModelCache,
    selection: Selection,
    runs: Sequence[Run],
    run_views: Sequence[RunView],
    radiograph: Radiograph,
) -> tuple[str, Markup]:
    """The viewer's value and the text below it."""
    dataset, study = None, None
    title, key = "Uploaded image", ""
    if selection.upload is None:
        dataset = models.dataset(runs[0].spec.data)
        study = dataset.study(selection.study or "")
        title = key = study.id
    else:
        key = f"image {selection.upload.token}"
    pair = selection.difference.split()
    value = viewer.viewer_value(
        study_views.views(
            run_views,
            radiograph,
            selection.finding,
            dataset=dataset,
            study=study,
            difference=(pair[0], pair[1]) if len(pair) == 2 else None,
        ),
        study=key,
        heading=study_views.heading(title, selection.finding, selection.method),
        steps=study is not None,
    )
    below = render(
        "pages/saliency/below.html.j2",
        address=json.dumps({"saliency": runs[0].id, "study": study.id if study else None}),
        table=study_views.table(run_views, selection.finding, study),
        caveat=study_views.caveat(selection.method),
    )
    return value, below


def _offer_differences(runs: Sequence[Run], current: str) -> Any:
    """The pairs of runs whose maps can be subtracted, by name."""
    named = list(zip(study_views.titles(runs), runs, strict=True))
    pairs = [
        (f"{title} − {other}", f"{first.id} {second.id}")
        for i, (title, first) in enumerate(named)
        for other, second in named[i + 1 :]
    ]
    known = {value for _, value in pairs}
    return gr.Dropdown(
        choices=[NONE, *pairs], value=current if current in known else "", visible=bool(pairs)
    )


def _offer_methods(runs: Sequence[Run], current: str) -> Any:
    """The methods that suit at least one of the runs; the current one stays."""
    names = {name for run in runs for name in offered(run.spec.adapter)} | {current}
    return gr.Dropdown(choices=[(method_title(n), n) for n in SALIENCY_METHODS if n in names])


def _offer_layers(models: ModelCache, selection: Selection) -> Any:
    """The layers of the main run's network, the last first, if the method uses one layer."""
    if not SALIENCY_METHODS[selection.method].by_layer:
        return gr.Dropdown(interactive=False, info="This method uses the whole network.")
    from core.saliency.methods import layers

    try:
        model = models.model(selection.run or "").trained.model
    except CoreError:  # the run's view shows the error
        return gr.Dropdown(choices=[DEFAULT_LAYER], value="")
    names = layers.names(model)[::-1]
    return gr.Dropdown(
        choices=[DEFAULT_LAYER, *((name, name) for name in names)],
        value=selection.layer if selection.layer in names else "",
        interactive=True,
        info="",
    )
