"""The Saliency page: what does each model look at?

Every handler looks up its objects by id: the run in the store, the study in the run's data set. An
uploaded image is in memory only, until its page is closed; its file is deleted as soon as it has
been read.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from core.config.run import RunSpec
from core.errors import CoreError
from core.runs import queue
from core.runs.run import RunState
from explorer.components import model_cache, study_list, viewer
from explorer.components.live_region import QUIET, after, live
from explorer.context import Context
from explorer.pages.saliency import download, uploads, view
from explorer.pages.saliency.controls import Controls, UploadPanel
from explorer.pages.saliency.uploads import Uploads
from explorer.pages.saliency.view import Selection
from explorer.templates import error_message, render

TITLE = "Saliency"


def build(context: Context, tab: gr.Tab) -> None:
    """Lay out the page and connect its events."""
    SaliencyPage(context).connect(tab)


class SaliencyPage:
    """Controls on the left, viewer on the right, text below it; laid out where this is called."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._models = model_cache.model_cache(context.workspace, context.store)
        self._uploads = Uploads()
        self._no_runs = live(elem_id="saliency-nothing")
        with gr.Row(equal_height=False, visible=False) as self._page:
            with gr.Column(scale=1, min_width=290, elem_classes="cxr-group"):
                self._controls = Controls.layout()
                self._random = gr.Button("Random study", size="sm", min_width=80)
                self._panel = UploadPanel.layout()
            with gr.Column(scale=4, min_width=500):
                self._viewer = viewer.radiographs(
                    elem_id="saliency-viewer", label="Where each model looks on the radiograph"
                )
                self._rates = live(elem_id="saliency-rates")
                self._below = live(elem_id="saliency-below")

    # Events ------------------------------------------------------------------------------------

    def connect(self, tab: gr.Tab) -> None:
        """Attach all handlers."""
        self._connect_opening(tab)
        self._connect_choices()
        self._connect_upload()

    @property
    def _shown(self) -> list[Any]:
        """The outputs of ``show``."""
        return [
            self._viewer, self._below, self._panel.message, self._controls.layer,
            self._controls.difference, self._controls.method, self._panel.file,
        ]  # fmt: skip

    def _then_show(self, event: Any) -> Any:
        shown = event.then(self.show, self._controls.selection, self._shown, **QUIET)
        shown.then(self.rates, self._controls.run, self._rates, **QUIET)
        return shown

    def _connect_opening(self, tab: gr.Tab) -> None:
        """The page is opened or requested by another page, or a run changed in the store."""
        context, controls = self._context, self._controls
        tab.select(self.update_visibility, None, [self._no_runs, self._page], **QUIET)
        self._no_runs.click(self.start_example, None, context.outputs("runs"), **QUIET)
        context.blocks.load(self.preload, None, None, queue=False, **QUIET)
        context.blocks.unload(self.close)
        inbox = context.inboxes["saliency"]
        filters = [inbox, *controls.filters]
        self._then_show(inbox.change(self.receive, filters, controls.choices, **QUIET))
        self._then_show(after([tab.select]).then(self.open, filters, controls.choices, **QUIET))
        context.pulses["saliency"].click(
            self.update_runs,
            controls.run,
            [self._no_runs, self._page, controls.run, controls.others],
            **QUIET,
        )

    def _connect_choices(self) -> None:
        """A control is changed, or another study is selected by key or button."""
        controls, panel = self._controls, self._panel
        for control in (
            controls.run, controls.others, controls.finding, controls.which, controls.order,
        ):  # fmt: skip
            self._then_show(
                control.input(self.offer, controls.filters, controls.choices, **QUIET)
            ).then(self.compare, controls.selection, panel.similarity, **QUIET)
        for control in (controls.method, controls.layer, controls.difference):
            control.input(self.show, controls.selection, self._shown, **QUIET)
        upload_state = [controls.upload, panel.keep, panel.similarity]
        self._then_show(controls.study.input(self.drop_upload, None, upload_state, **QUIET))
        for event, step in (
            (self._viewer.next_study, _next_study),
            (self._viewer.previous_study, _previous_study),
            (self._random.click, _random_study),
        ):
            moved = event(step, [controls.listed, controls.study], controls.study, **QUIET)
            self._then_show(moved.then(self.drop_upload, None, upload_state, **QUIET))

    def _connect_upload(self) -> None:
        """An image is uploaded or kept, or maps are saved."""
        controls, panel = self._controls, self._panel
        uploaded = panel.upload.upload(
            self.take_upload, panel.upload, [controls.upload, panel.keep, panel.message], **QUIET
        )
        uploaded.success(self.show, controls.selection, self._shown, **QUIET).then(
            self.compare, controls.selection, panel.similarity, **QUIET
        )
        panel.keep.click(self.keep_upload, controls.upload, panel.message, **QUIET)
        for kind, button in panel.saves.items():
            button.click(
                self._packer(kind),
                controls.selection,
                [panel.file, panel.message],
                api_visibility="private",
            )

    # Handlers ----------------------------------------------------------------------------------

    def update_visibility(self) -> list[Any]:
        """Show the page if there is a completed run, and otherwise what to do first."""
        has_runs = bool(self._context.store.list(states=[RunState.COMPLETED], limit=1))
        return ["" if has_runs else render("pages/saliency/no_runs.html.j2"),
                gr.Row(visible=has_runs)]  # fmt: skip

    def update_runs(self, run: str | None) -> list[Any]:
        """Update the choices of runs after a change in the store; the selected runs stay."""
        return [*self.update_visibility(), *view.run_choices(self._context, run)]

    def start_example(self) -> list[Any]:
        """Queue the example run, and show it on the Runs page."""
        run = queue.submit(self._context.store, RunSpec())
        return self._context.request("runs", run=run.id)

    def preload(self) -> None:
        """Load libraries in the background if there is a completed run to inspect."""
        if self._context.store.list(states=[RunState.COMPLETED], limit=1):
            self._models.warm(idle=True)

    def offer(self, *filters: Any) -> list[Any]:
        """Update the lists after a filter was changed."""
        return view.offer(self._context, self._models, *filters)

    def open(self, wanted: dict[str, Any] | None, *filters: Any) -> list[Any]:
        """Fill the lists when the page is opened."""
        self._models.warm()
        if wanted is not None and not filters[0]:
            # Another page or the address opened this page: ``receive`` fills the lists.
            return [gr.skip()] * len(self._controls.choices)
        return self.offer(*filters)

    def receive(self, wanted: dict[str, Any] | None, *filters: Any) -> list[Any]:
        """Fill the lists for the run and study that another page or the address requested."""
        if wanted is None:
            return [gr.skip()] * len(self._controls.choices)
        _, others, finding, which, order, study = filters
        return self.offer(
            wanted["run"],
            wanted.get("others") or others,
            wanted.get("finding") or finding,
            which,
            order,
            wanted.get("study") or study,
        )

    def show(self, request: gr.Request, *selection: Any) -> list[Any]:
        """Explain the selection and show it."""
        outdated = gr.DownloadButton(visible=False)  # its file has the maps shown before
        try:
            selected = self._selection(request, *selection)
        except CoreError as error:  # the uploaded image was deleted
            empty = viewer.viewer_value([], empty=str(error))
            return [empty, "", error_message(error), *[gr.skip()] * 3, outdated]
        return [*view.show(self._context, self._models, selected), outdated]

    def rates(self, run: str | None) -> str:
        """How often the main run's maps hit marked regions."""
        return view.hit_rates(self._models, run)

    def compare(self, request: gr.Request, *selection: Any) -> str:
        """Compare an uploaded image with the validation images of the main run."""
        try:
            return view.out_of_distribution(self._models, self._selection(request, *selection))
        except CoreError:  # ``show`` reports the error
            return ""

    def take_upload(self, request: gr.Request, path: str | None) -> list[Any]:
        """Read an uploaded image into memory and delete its file."""
        if path is None:
            raise gr.Error("No file was received. Choose a PNG, JPEG, TIFF or DICOM file.")
        try:
            upload = self._uploads.take(str(request.session_hash), Path(path))
        except CoreError as error:
            raise gr.Error(str(error), print_exception=False) from error
        return [upload.token, gr.Button(visible=True), ""]

    def keep_upload(self, request: gr.Request, token: str | None) -> str:
        """Save the pixels of the uploaded image in the workspace."""
        try:
            upload = self._uploads.get(str(request.session_hash), token or "")
            path = uploads.keep(upload, self._context.workspace.uploads)
        except CoreError as error:
            return error_message(error)
        return render("pages/saliency/kept.html.j2", path=path)

    def drop_upload(self, request: gr.Request) -> list[Any]:
        """Delete the uploaded image, since a study of the data set is shown again."""
        self.close(request)
        return [None, gr.Button(visible=False), ""]

    def close(self, request: gr.Request) -> None:
        """Delete the uploaded image of a closed page."""
        self._uploads.forget(str(request.session_hash))

    def pack(self, kind: str, request: gr.Request, *selection: Any) -> list[Any]:
        """Write the maps that are shown into a file for download."""
        try:
            selected = self._selection(request, *selection)
            _, run_views, radiograph = view.explain(self._context, self._models, selected)
            study = None if selected.upload else selected.study
            folder = Path(self._panel.file.GRADIO_CACHE)
            file = download.pack(kind, run_views, radiograph, study, folder)
        except CoreError as error:
            return [gr.DownloadButton(visible=False), error_message(error)]
        if selected.upload is not None:
            # Files made from an uploaded image are deleted with it.
            selected.upload.folders.append(file.parent)
        return [gr.DownloadButton(value=file, visible=True), ""]

    def _packer(self, kind: str) -> Callable[..., list[Any]]:
        # A function and not ``functools.partial``, whose ``gr.Request`` Gradio does not recognise.
        def pack(request: gr.Request, *selection: Any) -> list[Any]:
            return self.pack(kind, request, *selection)

        return pack

    def _selection(
        self,
        request: gr.Request,
        run: str | None,
        others: list[str] | None,
        study: str | None,
        finding: str | None,
        method: str,
        layer: str | None,
        difference: str | None,
        token: str | None,
    ) -> Selection:
        """The values of ``Controls.selection``, with the uploaded image of a token."""
        return Selection(
            run=run,
            others=others or [],
            study=study,
            finding=finding or "",
            method=method,
            layer=layer or "",
            difference=difference or "",
            upload=self._uploads.get(str(request.session_hash), token) if token else None,
        )


def _next_study(studies: list[str], current: str | None) -> str | None:
    return study_list.step(studies, current, 1)


def _previous_study(studies: list[str], current: str | None) -> str | None:
    return study_list.step(studies, current, -1)


def _random_study(studies: list[str], current: str | None) -> str | None:
    return random.choice(studies) if studies else None
