"""Saliency: what does each model look at?

Everything is looked up again by id: the run in the store, the study in the run's data set. An
uploaded picture lives in memory only, until its page is closed; its file is deleted as soon as it
was read.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from core.config.run import RunSpec
from core.errors import CoreError
from core.runs import queue
from core.runs.run import RunState
from core.saliency.methods.registry import SALIENCY_METHODS
from explorer.components import model_cache, study_list, viewer
from explorer.components.live_region import QUIET, after, live
from explorer.context import Context
from explorer.pages.saliency import download, uploads, view
from explorer.pages.saliency.uploads import Upload, Uploads
from explorer.pages.saliency.view import DEFAULT_LAYER, Question
from explorer.templates import error_message

TITLE = "Saliency"

WHICH = {"all": "All", "present": "With the finding", "marked": "With box or mask"}
NOTHING = """<div class="cxr-panel cxr-empty"><p><b>No model to look into yet</b>
When a run has completed, this page shows where its model looks on a radiograph.</p>
<button type="button" class="cxr-button cxr-button-main" data-act="example">Start the example run
</button></div>"""


@dataclass(frozen=True)
class Controls:
    """The controls of the page."""

    run: gr.Dropdown
    others: gr.Dropdown
    finding: gr.Dropdown
    which: gr.Radio
    order: gr.Dropdown
    study: gr.Dropdown
    method: gr.Dropdown
    layer: gr.Dropdown
    apart: gr.Dropdown
    listed: gr.State
    picture: gr.State

    @property
    def filters(self) -> list[Any]:
        """What decides which studies are offered."""
        return [self.run, self.others, self.finding, self.which, self.order, self.study]

    @property
    def choices(self) -> list[Any]:
        """What changes with the run and the filters."""
        return [self.run, self.others, self.finding, self.study, self.order, self.listed]

    @property
    def question(self) -> list[Any]:
        """What decides what is shown."""
        return [
            self.run, self.others, self.study, self.finding, self.method, self.layer, self.apart,
            self.picture,
        ]  # fmt: skip


@dataclass(frozen=True)
class UploadPanel:
    """Where a picture of one's own is opened, and files are taken away."""

    upload: gr.UploadButton
    keep: gr.Button
    buttons: dict[str, gr.Button]
    file: gr.DownloadButton
    said: gr.HTML
    likeness: gr.HTML


def build(context: Context, tab: gr.Tab) -> None:
    """Lay out the controls on the left, the pictures on the right, the words below them."""
    shelf = model_cache.model_cache(context.workspace, context.store)
    held = Uploads()
    nothing = live(elem_id="saliency-nothing")
    with gr.Row(equal_height=False, visible=False) as page:
        with gr.Column(scale=1, min_width=290, elem_classes="cxr-group"):
            desk = _controls()
            drawn = gr.Button("Random study", size="sm", min_width=80)
            shop = _shop()
        with gr.Column(scale=4, min_width=500):
            pictures = viewer.radiographs(
                elem_id="saliency-viewer", label="Where each model looks on the radiograph"
            )
            below = live(elem_id="saliency-below")
    shown = [pictures, below, shop.said, desk.layer, desk.apart, shop.file]

    def asked(session: str, *given: Any) -> Question:
        run, others, study, finding, method, layer, apart, token = given
        own = held.get(session, token) if token else None
        return Question(
            run=run,
            others=others or [],
            study=study,
            finding=finding or "",
            method=method,
            layer=layer or "",
            apart=apart or "",
            upload=own,
        )

    def show(request: gr.Request, *given: Any) -> list[Any]:
        stale = gr.DownloadButton(visible=False)  # it holds what was shown before
        try:
            found = view.show(context, shelf, asked(str(request.session_hash), *given))
        except CoreError as error:  # the picture is gone
            empty = viewer.viewer_value([], empty=str(error))
            return [empty, "", error_message(error), gr.skip(), gr.skip(), stale]
        return [*found, stale]

    def compare(request: gr.Request, *given: Any) -> str:
        try:
            return view.likeness(shelf, asked(str(request.session_hash), *given))
        except CoreError:  # what is shown says why
            return ""

    def offer(*filters: Any) -> list[Any]:
        return view.offer(context, shelf, *filters)

    def arrive(wanted: dict[str, Any] | None, *filters: Any) -> list[Any]:
        shelf.warm()
        if wanted is not None and not filters[0]:
            # Another page or the address sent the user here: ``receive`` shows what it asked for.
            return [gr.skip()] * len(desk.choices)
        return view.offer(context, shelf, *filters)

    def foresee() -> None:
        """Whoever has a finished run may look into it next: what that needs is loaded meanwhile."""
        if context.store.list(states=[RunState.COMPLETED], limit=1):
            shelf.warm(idle=True)

    def receive(wanted: dict[str, Any] | None, *filters: Any) -> list[Any]:
        _, others, finding, which, order, study = filters
        if wanted is None:
            return [gr.skip()] * len(desk.choices)
        finding = wanted.get("finding") or finding
        beside = wanted.get("others") or others
        where = [wanted["run"], beside, finding, which, order, wanted.get("study") or study]
        return view.offer(context, shelf, *where)

    def forget(request: gr.Request) -> list[Any]:
        """Back to the data set: the picture is dropped at once."""
        held.forget(str(request.session_hash))
        return [None, gr.Button(visible=False), ""]

    def leave(request: gr.Request) -> None:
        held.forget(str(request.session_hash))

    def start() -> list[Any]:
        found = queue.submit(context.store, RunSpec())
        return context.request("runs", run=found.id)

    def receive_file(request: gr.Request, path: str | None) -> list[Any]:
        return _take(held, str(request.session_hash), path)

    def keep(request: gr.Request, token: str | None) -> str:
        try:
            own = held.get(str(request.session_hash), token or "")
            path = uploads.keep(own, context.workspace.uploads)
        except CoreError as error:
            return error_message(error)
        return f'<p class="cxr-note" role="status">Kept, pixels alone: {path}</p>'

    def pack(kind: str, request: gr.Request, *given: Any) -> list[Any]:
        question = asked(str(request.session_hash), *given)
        return _pack(context, shelf, kind, question, Path(shop.file.GRADIO_CACHE))

    tab.select(lambda: _guide(context), None, [nothing, page], **QUIET)
    nothing.click(start, None, context.outputs("runs"), **QUIET)
    context.blocks.load(foresee, None, None, queue=False, **QUIET)
    context.blocks.unload(leave)
    inbox = context.inboxes["saliency"]
    inbox.change(receive, [inbox, *desk.filters], desk.choices, **QUIET).then(
        show, desk.question, shown, **QUIET
    )
    after([tab.select]).then(arrive, [inbox, *desk.filters], desk.choices, **QUIET).then(
        show, desk.question, shown, **QUIET
    )
    offered = [desk.run, desk.others]
    context.pulses["saliency"].click(
        lambda run, others: [*_guide(context), *view.runs_offered(context, run, others)],
        offered,
        [nothing, page, *offered],
        **QUIET,
    )
    for control in (desk.run, desk.others, desk.finding, desk.which, desk.order):
        control.input(offer, desk.filters, desk.choices, **QUIET).then(
            show, desk.question, shown, **QUIET
        ).then(compare, desk.question, shop.likeness, **QUIET)
    for control in (desk.method, desk.layer, desk.apart):
        control.input(show, desk.question, shown, **QUIET)
    dropped = [desk.picture, shop.keep, shop.likeness]
    desk.study.input(forget, None, dropped, **QUIET).then(show, desk.question, shown, **QUIET)
    moves = (
        (pictures.next_study, lambda ids, now: study_list.step(ids, now, 1)),
        (pictures.previous_study, lambda ids, now: study_list.step(ids, now, -1)),
        (drawn.click, lambda ids, now: random.choice(ids) if ids else None),
    )
    for event, move in moves:
        event(move, [desk.listed, desk.study], desk.study, **QUIET).then(
            forget, None, dropped, **QUIET
        ).then(show, desk.question, shown, **QUIET)
    shop.upload.upload(
        receive_file, shop.upload, [desk.picture, shop.keep, shop.said], **QUIET
    ).success(show, desk.question, shown, **QUIET).then(
        compare, desk.question, shop.likeness, **QUIET
    )
    shop.keep.click(keep, desk.picture, shop.said, **QUIET)
    for kind, button in shop.buttons.items():
        button.click(
            _for_kind(pack, kind), desk.question, [shop.file, shop.said], api_visibility="private"
        )


def _for_kind(pack: Any, kind: str) -> Any:
    def made(request: gr.Request, *given: Any) -> list[Any]:
        try:
            found: list[Any] = pack(kind, request, *given)
        except CoreError as error:
            return [gr.DownloadButton(visible=False), error_message(error)]
        return found

    return made


def _shop() -> UploadPanel:
    upload = gr.UploadButton(
        "Open a picture of your own", size="sm", min_width=80, elem_id="saliency-upload"
    )
    likeness = live(elem_id="saliency-likeness")
    keep = gr.Button(
        "Keep the picture", size="sm", visible=False, min_width=80, elem_id="saliency-keep"
    )
    with gr.Row():
        buttons = {
            kind: gr.Button(f"Save {title}", size="sm", min_width=80, elem_id=f"saliency-{kind}")
            for kind, title in download.KINDS.items()
        }
    file = gr.DownloadButton(
        "Download as zip", size="sm", visible=False, variant="primary", elem_id="saliency-file"
    )
    return UploadPanel(upload, keep, buttons, file, live(elem_id="saliency-said"), likeness)


def _controls() -> Controls:
    return Controls(
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
            study_list.orders([]),
            value="listed",
            label="Order",
            elem_id="saliency-order",
        ),
        study=gr.Dropdown([], label="Study", allow_custom_value=True, elem_id="saliency-study"),
        method=gr.Dropdown(
            [(_method_title(name), name) for name in SALIENCY_METHODS],
            value=next(iter(SALIENCY_METHODS)),
            label="Method",
            elem_id="saliency-method",
        ),
        layer=gr.Dropdown([DEFAULT_LAYER], value="", label="Layer", elem_id="saliency-layer"),
        apart=gr.Dropdown(
            [view.NONE],
            value="",
            label="Difference map",
            info="Where one model looks more than another.",
            visible=False,
            elem_id="saliency-apart",
        ),
        listed=gr.State([]),
        picture=gr.State(None),
    )


def _method_title(name: str) -> str:
    one = SALIENCY_METHODS[name]
    return f"{one.title} (slow)" if one.slow else one.title


def _guide(context: Context) -> list[Any]:
    """What to do as long as there is no model to look into, or else the page."""
    there = bool(context.store.list(states=[RunState.COMPLETED], limit=1))
    return ["" if there else NOTHING, gr.Row(visible=there)]


def _take(held: Uploads, session: str, path: str | None) -> list[Any]:
    """Read an uploaded picture into memory and delete its file."""
    if path is None:
        raise gr.Error("No file arrived. Choose a PNG, JPEG, TIFF or DICOM file.")
    try:
        own: Upload = held.take(session, Path(path))
    except CoreError as error:
        raise gr.Error(f"{error.cause} {error.remedy}".strip(), print_exception=False) from error
    return [own.token, gr.Button(visible=True), ""]


def _pack(
    context: Context, shelf: model_cache.ModelCache, kind: str, question: Question, place: Path
) -> list[Any]:
    """Make the file to take away; of a user's own picture it goes when the page is closed."""
    _, readings, plate = view.answers(context, shelf, question)
    study = None if question.upload else question.study
    file = download.pack(kind, readings, plate, study, place)
    if question.upload is not None:
        question.upload.folders.append(file.parent)
    return [gr.DownloadButton(value=file, visible=True), ""]
