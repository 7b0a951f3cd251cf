"""What the Saliency page answers: which runs and studies are offered, and what is shown of one.

Everything is looked up again by id: the run in the store, the study in the run's data set. A user's
own picture is known by a token (see ``explorer.pages.saliency.uploads``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from core.data.base import ChestDataset
from core.data.images.radiograph import Radiograph
from core.errors import CoreError, DataError
from core.runs.store import Run, RunState
from core.saliency.methods.registry import SALIENCY_METHODS
from explorer.components import study_list, study_views, viewer
from explorer.components.model_cache import ModelCache, Predictions
from explorer.components.study_views import RunView
from explorer.context import Context
from explorer.pages.saliency.uploads import Upload
from explorer.templates import error_message

NO_RUNS = "No completed run yet. Start one on the Launch page; its model can be inspected here."
DEFAULT_LAYER = ("Default of the network", "")
NONE = ("None", "")


@dataclass(frozen=True)
class Question:
    """What a user asks to see.

    Attributes:
        run: Id of the main run.
        others: Ids of the runs beside it.
        study: Id of a study of the main run's data set.
        finding: The finding.
        method: A key of ``SALIENCY_METHODS``.
        layer: The layer of the map; empty takes each network's default.
        apart: Ids of two of the runs with a space between, whose maps are subtracted; or empty.
        upload: A picture of the user's own, in place of the study.
    """

    run: str | None
    others: Sequence[str]
    study: str | None
    finding: str
    method: str
    layer: str
    apart: str
    upload: Upload | None = None


def completed(context: Context) -> list[Run]:
    """The runs that can be looked into."""
    return context.store.list(states=[RunState.COMPLETED])


def runs_offered(context: Context, run: str | None, others: list[str] | None) -> list[Any]:
    """The two lists of runs, and the main and the others that are still there."""
    runs = completed(context)
    known = {one.id for one in runs}
    named = study_views.names(runs)
    beside = [pair for pair in named if pair[1] != run]
    return [
        gr.Dropdown(choices=named, value=run if run in known else None),
        gr.Dropdown(choices=beside, value=[one for one in others or [] if one in known]),
    ]


def offer(
    context: Context,
    shelf: ModelCache,
    run_id: str | None,
    others: list[str] | None,
    finding: str | None,
    which: str,
    order: str,
    study: str | None,
) -> list[Any]:
    """Fill the lists for a run: the runs beside it, its findings and its studies."""
    runs = completed(context)
    by_id = {one.id: one for one in runs}
    if run_id and run_id not in by_id:
        try:
            chosen = context.store.get(run_id)
        except CoreError:
            chosen = None
        run_id = chosen.id if chosen and chosen.id in by_id else None
    run = by_id.get(run_id or "") or (runs[0] if runs else None)
    if run is None:
        return [gr.Dropdown(choices=[], value=None)] * 4 + [gr.skip(), []]
    beside = [one for one in others or [] if one in by_id and one != run.id]
    try:
        dataset = shelf.dataset(run.spec.data)
        finding = finding if finding in dataset.findings else dataset.findings[0]
        order = order if beside or order not in study_list.PAIRED else "listed"
        ids, won = _listed(shelf, [run.id, *beside], dataset, finding, which, order)
    except CoreError:
        # The pictures' place says why; the other lists stay usable.
        lists = runs_offered(context, run.id, beside)
        return [*lists, gr.skip(), gr.Dropdown(choices=[], value=None), gr.skip(), []]
    chosen_study = study if study in dataset.table.index else None
    if chosen_study is None or (ids and chosen_study not in ids):
        chosen_study = ids[0] if ids else None
    split = "test" if dataset.ids("test") else "val"
    label = f"Study ({len(ids):,} of the {split} split)"
    if len(ids) > study_list.LISTED:
        label += f", first {study_list.LISTED} listed"
    if won is not None:
        label += f"; the first {won:,} are so"
    names = study_views.titles([run, *(by_id[one] for one in beside)])
    return [
        *runs_offered(context, run.id, beside),
        gr.Dropdown(
            choices=[(one.replace("_", " "), one) for one in dataset.findings], value=finding
        ),
        gr.Dropdown(choices=study_list.choices(dataset, ids), value=chosen_study, label=label),
        gr.Dropdown(choices=study_list.orders(names), value=order),
        ids,
    ]


def _listed(
    shelf: ModelCache,
    run_ids: Sequence[str],
    dataset: ChestDataset,
    finding: str,
    which: str,
    order: str,
) -> tuple[list[str], int | None]:
    """Ids in order, and how many one run calls right and the other wrong if that is the order."""
    split = "test" if dataset.ids("test") else "val"
    predictions: list[Predictions] = []
    cuts: list[float] = []
    if order != "listed":
        for run_id in run_ids:
            try:
                predictions.append(shelf.predictions(run_id, split))
            except DataError:
                continue
            cuts.append(shelf.thresholds(run_id).get(finding, 0.5))
    ids = study_list.studies(
        dataset,
        split,
        finding=finding,
        present=which == "present",
        marked=which == "marked",
        order=order,
        predictions=predictions,
        cuts=cuts,
    )
    return ids, study_list.decided(dataset, ids, finding, order, predictions, cuts)


def show(context: Context, shelf: ModelCache, asked: Question) -> list[Any]:
    """Pictures, words below them, words beside them, the layers and the differences on offer."""
    try:
        if not asked.run:
            empty = NO_RUNS if not completed(context) else "Choose a run."
            return [viewer.viewer_value([], empty=empty), "", "", gr.skip(), gr.skip()]
        if asked.study is None and asked.upload is None:
            empty = f"No such study has {asked.finding}. Choose other studies or another finding."
            return [viewer.viewer_value([], empty=empty), "", "", gr.skip(), gr.skip()]
        runs, readings, plate = answers(context, shelf, asked)
        value, below = _shown(shelf, asked, runs, readings, plate)
        layers = _layers(shelf, asked)
        return [value, below, "", layers, _differences(runs, asked.apart)]
    except CoreError as error:
        empty = viewer.viewer_value([], empty=f"{error.cause} {error.remedy}".strip())
        return [empty, "", error_message(error), gr.skip(), gr.skip()]


def answers(
    context: Context, shelf: ModelCache, asked: Question
) -> tuple[list[Run], list[RunView], Radiograph]:
    """What each run says of the study or picture, and the picture itself.

    Raises:
        CoreError: There is no such run or study, or its picture cannot be read.
    """
    runs = [context.store.get(one) for one in (asked.run or "", *asked.others)]
    if asked.upload is not None:
        plate = asked.upload.plate
        source: Any = plate.grey
    else:
        source = asked.study or ""
        plate = shelf.dataset(runs[0].spec.data).radiograph(source)
    layer = asked.layer or None
    readings = study_views.read(shelf, runs, source, asked.finding, asked.method, layer)
    return runs, readings, plate


def likeness(shelf: ModelCache, asked: Question) -> str:
    """HTML of whether a user's own picture is like those the main run was validated on."""
    if asked.upload is None or not asked.run:
        return ""
    colours = (
        '<p class="cxr-warn" role="alert"><b>This picture is in colour.</b> No radiograph is; only '
        "its brightness was kept.</p>"
        if asked.upload.coloured
        else ""
    )
    try:
        found = shelf.likeness(asked.run, asked.upload.plate.grey)
    except CoreError as error:
        reason = f"{error.cause} {error.remedy}".strip()
        return (
            f'{colours}<p class="cxr-note">Whether the picture is like the training data is not '
            f"known. {escape(reason)}</p>"
        )
    figures = (
        f"Its distance in feature space from the run’s validation set is {found.distance:.2f}; "
        f"pictures there lie up to {found.largest:.2f} apart, and the warning begins at "
        f"{found.threshold:.2f}."
    )
    if found.unlike:
        return (
            f'{colours}<p class="cxr-warn" role="alert"><b>This picture is unlike the data the run '
            f"was trained on.</b> Its probabilities and maps mean nothing here. {figures}</p>"
        )
    outside = found.distance > found.largest
    words = "lies a little outside the run’s own" if outside else "is like the run’s own"
    return f'{colours}<p class="cxr-note">The picture {words}. {figures}</p>'


def _shown(
    shelf: ModelCache,
    asked: Question,
    runs: Sequence[Run],
    readings: Sequence[RunView],
    plate: Radiograph,
) -> tuple[str, str]:
    own = asked.upload is not None
    dataset = None if own else shelf.dataset(runs[0].spec.data)
    study = None if dataset is None else dataset.study(asked.study or "")
    title = study.id if study else "Uploaded picture"
    pair = asked.apart.split()
    value = viewer.viewer_value(
        study_views.views(
            readings,
            plate,
            asked.finding,
            dataset=dataset,
            study=study,
            apart=(pair[0], pair[1]) if len(pair) == 2 else None,
        ),
        study=title if study else f"picture {asked.upload.token if asked.upload else ''}",
        heading=study_views.heading(title, asked.finding, asked.method),
        steps=study is not None,
    )
    address = json.dumps({"saliency": runs[0].id, "study": study.id if study else None})
    table = study_views.table(readings, asked.finding, study)
    caveat = study_views.caveat(asked.method)
    return value, f'<div data-address="{escape(address)}">{table}{caveat}</div>'


def _differences(runs: Sequence[Run], now: str) -> Any:
    """The pairs of runs whose maps can be subtracted, by name."""
    named = list(zip(study_views.titles(runs), runs, strict=True))
    pairs = [
        (f"{title} − {other}", f"{first.id} {second.id}")
        for i, (title, first) in enumerate(named)
        for other, second in named[i + 1 :]
    ]
    known = {value for _, value in pairs}
    return gr.Dropdown(
        choices=[NONE, *pairs], value=now if now in known else "", visible=bool(pairs)
    )


def _layers(shelf: ModelCache, asked: Question) -> Any:
    """The layers of the run's network, last first, where the method takes one."""
    if not SALIENCY_METHODS[asked.method].by_layer:
        return gr.Dropdown(interactive=False, info="This method uses the whole network.")
    from core.saliency.methods import layers

    try:
        model = shelf.model(asked.run or "").trained.model
    except CoreError:  # its view says why
        return gr.Dropdown(choices=[DEFAULT_LAYER], value="")
    names = layers.names(model)[::-1]
    return gr.Dropdown(
        choices=[DEFAULT_LAYER, *((name, name) for name in names)],
        value=asked.layer if asked.layer in names else "",
        interactive=True,
        info="",
    )
