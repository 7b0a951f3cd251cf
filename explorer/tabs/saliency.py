"""Saliency: what does each model look at?

Everything is looked up again by id: the run in the store, the study in the run's data set. An
uploaded picture lives in the session's memory only; its file is deleted as soon as it was read.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from core.data.base import ChestDataset
from core.errors import CoreError, DataError
from core.runs import queue
from core.runs.store import Run, RunState
from core.saliency import methods
from core.spec import RunSpec
from explorer import gallery as galleries
from explorer import lightbox, viewer, wording, worklist
from explorer.context import Context
from explorer.gallery import Gallery
from explorer.live import live

TITLE = "Saliency"

WHICH = {"all": "All", "present": "With the finding", "marked": "With box or mask"}
NO_RUNS = "No completed run yet. Start one on the Launch page; its model can be inspected here."
NOTHING = """<div class="cxr-panel cxr-empty"><p><b>No model to look into yet</b>
When a run has completed, this page shows where its model looks on a radiograph.</p>
<button type="button" class="cxr-button cxr-button-main" data-act="example">Start the example run
</button></div>"""
DEFAULT_LAYER = ("Default of the network", "")
QUIET: dict[str, Any] = {
    "api_visibility": "private",
    "show_progress": "hidden",
    "trigger_mode": "always_last",
}


@dataclass(frozen=True)
class Desk:
    """The controls of the page."""

    run: gr.Dropdown
    others: gr.Dropdown
    finding: gr.Dropdown
    which: gr.Radio
    order: gr.Dropdown
    study: gr.Dropdown
    method: gr.Dropdown
    layer: gr.Dropdown
    listed: gr.State
    picture: gr.State

    @property
    def filters(self) -> list[Any]:
        """What decides which studies are offered."""
        return [self.run, self.others, self.finding, self.which, self.order, self.study]

    @property
    def choices(self) -> list[Any]:
        """What changes with the run and the filters."""
        return [self.run, self.others, self.finding, self.study, self.listed]

    @property
    def question(self) -> list[Any]:
        """What decides what is shown."""
        return [
            self.run, self.others, self.study, self.finding, self.method, self.layer, self.picture,
        ]  # fmt: skip


def build(context: Context, tab: gr.Tab) -> None:
    """Lay out the controls on the left, the pictures on the right, the words below them."""
    shelf = galleries.gallery(context.workspace, context.store)
    nothing = live(elem_id="saliency-nothing")
    with gr.Row(equal_height=False, visible=False) as page:
        with gr.Column(scale=1, min_width=290, elem_classes="cxr-group"):
            desk = _controls()
            with gr.Row():
                drawn = gr.Button("Random study", size="sm", min_width=80)
                upload = gr.UploadButton("Open a picture", size="sm", min_width=80)
            said = live(elem_id="saliency-said")
        with gr.Column(scale=4, min_width=500):
            pictures = viewer.radiographs(
                elem_id="saliency-viewer", label="Where each model looks on the radiograph"
            )
            below = live(elem_id="saliency-below")
    shown = [pictures, below, said, desk.layer]

    def show(*question: Any) -> list[Any]:
        return _show(context, shelf, *question)

    def offer(*filters: Any) -> list[Any]:
        return _offer(context, shelf, *filters)

    def arrive(*filters: Any) -> list[Any]:
        shelf.warm()
        return _offer(context, shelf, *filters)

    def receive(asked: dict[str, Any] | None, *filters: Any) -> list[Any]:
        _, others, finding, which, order, study = filters
        if asked is None:
            return [gr.skip()] * len(desk.choices)
        wanted = asked.get("finding") or finding
        where = [asked["run"], others, wanted, which, order, asked.get("study") or study]
        return _offer(context, shelf, *where)

    def forget() -> None:
        return None

    def start() -> list[Any]:
        found = queue.submit(context.store, RunSpec())
        return context.request("runs", run=found.id)

    for occasion in (context.version.change, tab.select):
        occasion(lambda: _guide(context), None, [nothing, page], **QUIET)
    nothing.click(start, None, context.outputs("runs"), **QUIET)
    inbox = context.inboxes["saliency"]
    inbox.change(receive, [inbox, *desk.filters], desk.choices, **QUIET).then(
        show, desk.question, shown, **QUIET
    )
    tab.select(arrive, desk.filters, desk.choices, **QUIET).then(
        show, desk.question, shown, **QUIET
    )
    context.version.change(
        lambda run, others: _runs(context, run, others),
        [desk.run, desk.others],
        [desk.run, desk.others],
        **QUIET,
    )
    for control in (desk.run, desk.others, desk.finding, desk.which, desk.order):
        control.input(offer, desk.filters, desk.choices, **QUIET).then(
            show, desk.question, shown, **QUIET
        )
    for control in (desk.method, desk.layer):
        control.input(show, desk.question, shown, **QUIET)
    desk.study.input(forget, None, desk.picture, **QUIET).then(show, desk.question, shown, **QUIET)
    moves = (
        (pictures.next_study, lambda ids, now: worklist.step(ids, now, 1)),
        (pictures.previous_study, lambda ids, now: worklist.step(ids, now, -1)),
        (drawn.click, lambda ids, now: random.choice(ids) if ids else None),
    )
    for event, move in moves:
        event(move, [desk.listed, desk.study], desk.study, **QUIET).then(
            forget, None, desk.picture, **QUIET
        ).then(show, desk.question, shown, **QUIET)
    upload.upload(_take, upload, [desk.picture, said], **QUIET).success(
        show, desk.question, shown, **QUIET
    )


def _controls() -> Desk:
    return Desk(
        run=gr.Dropdown([], label="Run", elem_id="saliency-run"),
        others=gr.Dropdown(
            [],
            label="Beside it",
            info="Up to five more runs on the same study.",
            multiselect=True,
            max_choices=viewer.MAX_VIEWS - 1,
            elem_id="saliency-others",
        ),
        finding=gr.Dropdown([], label="Finding", elem_id="saliency-finding"),
        which=gr.Radio(
            [(title, name) for name, title in WHICH.items()],
            value="present",
            label="Studies",
            elem_id="saliency-which",
        ),
        order=gr.Dropdown(
            [(title, name) for name, (title, _) in worklist.ORDERS.items()],
            value="listed",
            label="Order",
            elem_id="saliency-order",
        ),
        study=gr.Dropdown([], label="Study", allow_custom_value=True, elem_id="saliency-study"),
        method=gr.Dropdown(
            [(_method_title(name), name) for name in methods.METHODS],
            value=next(iter(methods.METHODS)),
            label="Method",
            elem_id="saliency-method",
        ),
        layer=gr.Dropdown([DEFAULT_LAYER], value="", label="Layer", elem_id="saliency-layer"),
        listed=gr.State([]),
        picture=gr.State(None),
    )


def _method_title(name: str) -> str:
    one = methods.METHODS[name]
    return f"{one.title} (slow)" if one.slow else one.title


def _completed(context: Context) -> list[Run]:
    return context.store.list(states=[RunState.COMPLETED])


def _guide(context: Context) -> list[Any]:
    """What to do as long as there is no model to look into, or else the page."""
    there = bool(context.store.list(states=[RunState.COMPLETED], limit=1))
    return ["" if there else NOTHING, gr.Row(visible=there)]


def _runs(context: Context, run: str | None, others: list[str] | None) -> list[Any]:
    """The two lists of runs, after the store changed."""
    runs = _completed(context)
    known = {one.id for one in runs}
    named = lightbox.names(runs)
    beside = [pair for pair in named if pair[1] != run]
    return [
        gr.Dropdown(choices=named, value=run if run in known else None),
        gr.Dropdown(choices=beside, value=[one for one in others or [] if one in known]),
    ]


def _offer(
    context: Context,
    shelf: Gallery,
    run_id: str | None,
    others: list[str] | None,
    finding: str | None,
    which: str,
    order: str,
    study: str | None,
) -> list[Any]:
    """Fill the lists for a run: the runs beside it, its findings and its studies."""
    runs = _completed(context)
    by_id = {one.id: one for one in runs}
    if run_id and run_id not in by_id:
        try:
            chosen = context.store.get(run_id)
        except CoreError:
            chosen = None
        run_id = chosen.id if chosen and chosen.id in by_id else None
    run = by_id.get(run_id or "") or (runs[0] if runs else None)
    if run is None:
        return [gr.Dropdown(choices=[], value=None)] * 4 + [[]]
    beside = [one for one in others or [] if one in by_id and one != run.id]
    try:
        dataset = shelf.dataset(run.spec.data)
        finding = finding if finding in dataset.findings else dataset.findings[0]
        ids = _listed(shelf, [run.id, *beside], dataset, finding, which, order)
    except CoreError:
        # The pictures' place says why; the other lists stay usable.
        return [*_runs(context, run.id, beside), gr.skip(), gr.Dropdown(choices=[], value=None), []]
    chosen_study = study if study in dataset.table.index else None
    if chosen_study is None or (ids and chosen_study not in ids):
        chosen_study = ids[0] if ids else None
    split = "test" if dataset.ids("test") else "val"
    label = f"Study ({len(ids):,} of the {split} split)"
    if len(ids) > worklist.LISTED:
        label += f", first {worklist.LISTED} listed"
    return [
        *_runs(context, run.id, beside),
        gr.Dropdown(
            choices=[(one.replace("_", " "), one) for one in dataset.findings], value=finding
        ),
        gr.Dropdown(choices=worklist.choices(dataset, ids), value=chosen_study, label=label),
        ids,
    ]


def _listed(
    shelf: Gallery,
    run_ids: Sequence[str],
    dataset: ChestDataset,
    finding: str,
    which: str,
    order: str,
) -> list[str]:
    split = "test" if dataset.ids("test") else "val"
    predictions = []
    if order != "listed":
        for run_id in run_ids:
            try:
                predictions.append(shelf.predictions(run_id, split))
            except DataError:
                continue
    return worklist.studies(
        dataset,
        split,
        finding=finding,
        present=which == "present",
        marked=which == "marked",
        order=order,
        predictions=predictions,
    )


def _show(
    context: Context,
    shelf: Gallery,
    run_id: str | None,
    others: list[str] | None,
    study_id: str | None,
    finding: str | None,
    method: str,
    layer: str | None,
    picture: NDArray[np.uint8] | None,
) -> list[Any]:
    """Pictures, words below them, words beside them, and the layers to choose from."""
    try:
        if not run_id:
            empty = NO_RUNS if not _completed(context) else "Choose a run."
            return [viewer.viewer_value([], empty=empty), "", "", gr.skip()]
        runs = [context.store.get(one) for one in (run_id, *(others or []))]
        data = shelf.dataset(runs[0].spec.data)
        if study_id is None and picture is None:
            empty = f"No such study has {finding}. Choose other studies or another finding."
            return [viewer.viewer_value([], empty=empty, steps=False), "", "", gr.skip()]
        dataset = None if picture is not None else data
        value, below = _answer(
            shelf, runs, dataset, study_id, finding or "", method, layer or None, picture
        )
        return [value, below, "", _layers(shelf, run_id, method, layer or "")]
    except CoreError as error:
        empty = viewer.viewer_value([], empty=f"{error.cause} {error.remedy}".strip())
        return [empty, "", wording.fault(error), gr.skip()]


def _answer(
    shelf: Gallery,
    runs: Sequence[Run],
    dataset: ChestDataset | None,
    study_id: str | None,
    finding: str,
    method: str,
    layer: str | None,
    picture: NDArray[np.uint8] | None,
) -> tuple[str, str]:
    study = None if dataset is None else dataset.study(study_id or "")
    source = picture if picture is not None else (study_id or "")
    readings = lightbox.read(shelf, runs, source, finding, method, layer)
    answered = next((one.request for one in readings if one.request is not None), None)
    if answered is not None:
        image = answered.image
    elif dataset is not None and study is not None:
        image = dataset.read(study.id)
    else:
        assert picture is not None
        image = picture
    title = study.id if study else "Uploaded picture"
    value = viewer.viewer_value(
        lightbox.views(readings, image, finding, dataset=dataset, study=study),
        study=title if study else f"upload {hash(image.tobytes())}",
        heading=lightbox.heading(title, finding, method),
        steps=study is not None,
    )
    address = json.dumps({"saliency": runs[0].id, "study": study.id if study else None})
    table = lightbox.table(readings, finding, study)
    below = f'<div data-address="{escape(address)}">{table}{lightbox.caveat(method)}</div>'
    return value, below


def _layers(shelf: Gallery, run_id: str, method: str, layer: str) -> Any:
    """The layers of the run's network, last first, where the method takes one."""
    if not methods.METHODS[method].by_layer:
        return gr.Dropdown(interactive=False, info="This method uses the whole network.")
    from core.saliency import layers

    names = layers.names(shelf.model(run_id).trained.model)[::-1]
    known = layer if layer in names else ""
    return gr.Dropdown(
        choices=[DEFAULT_LAYER, *((name, name) for name in names)],
        value=known,
        interactive=True,
        info="",
    )


def _take(path: str | None) -> list[Any]:
    """Read an uploaded picture into memory and delete its file."""
    from core.data.images import read_image

    if path is None:
        raise gr.Error("No file arrived. Choose a PNG, JPEG, TIFF or DICOM file.")
    file = Path(path)
    try:
        return [read_image(file.read_bytes()), ""]
    except CoreError as error:
        raise gr.Error(f"{error.cause} {error.remedy}".strip(), print_exception=False) from error
    finally:
        file.unlink(missing_ok=True)
