"""Data page: what am I training on?"""

from __future__ import annotations

from typing import Any

import gradio as gr

from core.data.base import ChestDataset
from core.data.cache.image_cache import ImageCache
from core.data.datasets.registry import DATASETS
from core.data.images.radiograph import Radiograph
from core.errors import CoreError
from core.workspace import STYLES
from explorer.components import dataset_choice, study_list, study_views, viewer
from explorer.components.live_region import QUIET, after, live
from explorer.components.viewer import View
from explorer.context import Context
from explorer.pages.data import contents
from explorer.pages.data.check import Checks, panel
from explorer.pages.data.contents import ANY, Filter
from explorer.pages.data.register import RegisterForm
from explorer.pages.data.source import DataSource, finding_choices
from explorer.templates import error_message, render_macro

TITLE = "Data"

SPLITS = [("All", ""), ("Training", "train"), ("Validation", "val"), ("Test", "test")]
FIRST = next(iter(DATASETS))
CHECK_SECONDS = 1.0
NO_STUDY = "Choose a study to see it here."


def build(context: Context, tab: gr.Tab) -> None:
    """Lay out the page and connect its events."""
    page = DataPage(context)
    page.connect_choice(tab)
    page.connect_studies()
    page.connect_check()
    page.connect_navigation()


class DataPage:
    """Components and handlers of the page.

    The choice of a data set comes first, then the sheet of studies with the chosen study, then
    the tables. ``source`` names a data set: key or registered name, folder, version of the split.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.data = DataSource(context)
        self.checks = Checks()
        style = (STYLES / "data.css").read_text(encoding="utf-8")
        self._lay_out_choice()
        self.registered = gr.State(None)
        RegisterForm(context.workspace, self.registered, style)
        self.about = live(elem_id="data-about", css_template=style)
        self.check = live(elem_id="data-check", css_template=style)
        self.clock = gr.Timer(CHECK_SECONDS, active=False)
        with gr.Row(equal_height=False):
            with gr.Column(scale=6, min_width=420):
                self.sheet = live(elem_id="data-sheet", css_template=style)
            with gr.Column(scale=5, min_width=400):
                self.viewer = viewer.radiographs(elem_id="data-viewer", label="The chosen study")
                self.to_saliency = gr.Button(
                    "Open in Saliency", size="sm", visible=False, elem_id="data-leave"
                )
        self.tables = live(elem_id="data-tables", css_template=style)
        self.page, self.study = gr.State(0), gr.State(None)
        self.source = [self.name, self.root, self.version]
        self.fields = [self.root, self.version, self.finding]
        self.listed = [*self.source, self.split, self.finding]

    def _lay_out_choice(self) -> None:
        with gr.Row(equal_height=False, elem_classes="cxr-group"):
            self.name = gr.Dropdown(
                dataset_choice.choices(self.context.workspace),
                value=FIRST,
                label="Data set",
                elem_id="data-name",
                min_width=200,
            )
            self.root = gr.Textbox(
                label="Folder", elem_id="data-root", visible=False, submit_btn="Open", scale=2
            )
            self.version = gr.Dropdown(
                [], label="Split version", elem_id="data-version", visible=False, min_width=160
            )
            self.split = gr.Radio(
                SPLITS, value="", label="Studies from", elem_id="data-part", min_width=300
            )
            self.finding = gr.Dropdown(
                finding_choices(DATASETS[FIRST].findings),
                value=ANY,
                label="Finding",
                elem_id="data-finding",
                min_width=170,
            )
            self.seed = gr.Number(
                0,
                label="Subset seed",
                precision=0,
                minimum=0,
                elem_id="data-seed",
                min_width=130,
                scale=0,
            )

    def connect_choice(self, tab: gr.Tab) -> None:
        """Open a data set when its name, folder or version changes, and show it on the page."""
        self._open_after(
            self.name.input(self.data.fields, [self.name, self.root], self.fields, **QUIET)
        )
        for event in (self.root.submit, self.version.input):
            self._open_after(event(_nothing, None, None, **QUIET))
        named = [self.name, *self.fields]
        self._open_after(
            self.registered.change(self.choose_registered, self.registered, named, **QUIET)
        )
        for event in (tab.select, self.context.blocks.load):
            event(self.offer_names, None, self.name, **QUIET)
        self._show_after(after([tab.select]))
        self.seed.input(self.show_tables, [*self.source, self.seed], self.tables, **QUIET)

    def connect_studies(self) -> None:
        """Filter, turn the page, choose a study, and step to the next or previous one."""
        for control in (self.split, self.finding):
            self._turn_after(control.input(lambda: 0, None, self.page, **QUIET))
        places = [self.page, self.study]
        clicked = self.sheet.click(_clicked, places, places, **QUIET)
        self._look_after(self._turn_after(clicked))
        for event, step in (
            (self.viewer.next_study, self.next_study),
            (self.viewer.previous_study, self.previous_study),
        ):
            stepped = event(step, [self.study, *self.listed], [self.study, self.page], **QUIET)
            self._look_after(self._turn_after(stepped))

    def connect_check(self) -> None:
        """Start or stop the check, and follow its progress."""
        outputs = [self.check, self.clock]
        self.check.click(self.control_check, self.source, outputs, **QUIET)
        self.clock.tick(self.show_check, self.source, outputs, **QUIET)

    def connect_navigation(self) -> None:
        """Take requests of other pages, and open the chosen study in Saliency."""
        inbox = self.context.inboxes["data"]
        outputs = [self.name, *self.fields, self.study]
        self._look_after(self._show_after(inbox.change(self.receive, inbox, outputs, **QUIET)))
        if "saliency" in self.context.inboxes:
            self.to_saliency.click(
                self.open_in_saliency,
                [self.name, self.study],
                self.context.outputs("saliency"),
                **QUIET,
            )

    def offer_names(self) -> Any:
        """The data sets that can be chosen now."""
        return gr.Dropdown(choices=dataset_choice.choices(self.context.workspace))

    def choose_registered(self, change: dict[str, Any] | None) -> list[Any]:
        """The new name after a registration, the first data set after a name was removed."""
        name = (change and change["name"]) or FIRST
        names = gr.Dropdown(choices=dataset_choice.choices(self.context.workspace), value=name)
        return [names, *self.data.fields(name)]

    def receive(self, request: dict[str, Any] | None) -> list[Any]:
        """The data set and the study of another page's request."""
        known = dataset_choice.choices(self.context.workspace)
        if request is None or request.get("data") not in [name for _, name in known]:
            return [gr.skip()] * 5
        name = request["data"]
        names = gr.Dropdown(choices=known, value=name)
        return [names, *self.data.fields(name), request.get("study")]

    def show(
        self,
        name: str,
        root: str,
        version: str | None,
        split: str,
        finding: str,
        page: int,
        study: str | None,
        seed: float | None,
    ) -> list[Any]:
        """Facts, sheet, tables, findings and check of a data set, or an error under its field."""
        entry = dataset_choice.dataset_entry(self.context.workspace, name)
        if entry.needs_root and not (root or "").strip():
            text = render_macro("pages/data/page.html.j2", "folder_needed", entry=entry)
            return [text, "", "", gr.skip(), "", gr.Timer(active=False)]
        check = self.show_check(name, root, version)
        try:
            dataset = self.data.open(name, root, version)
            findings = finding_choices(dataset.findings)
            kept = finding if finding in [value for _, value in findings] else ANY
            return [
                contents.about(dataset),
                self._sheet(dataset, Filter(split, kept), page, study),
                contents.tables(dataset, _whole(seed)),
                gr.Dropdown(choices=findings, value=kept),
                *check,
            ]
        except CoreError as error:
            field = "data-root" if error.field in (None, "data.root") else ""
            return [error_message(error, field), "", "", gr.skip(), *check]

    def show_sheet(
        self,
        name: str,
        root: str,
        version: str | None,
        split: str,
        finding: str,
        page: int,
        study: str | None,
    ) -> str:
        """One page of the studies that pass the filter."""
        try:
            return self._sheet(
                self.data.open(name, root, version), Filter(split, finding), page, study
            )
        except CoreError as error:
            return error_message(error)

    def show_tables(self, name: str, root: str, version: str | None, seed: float | None) -> str:
        """Prevalences, and the training subsets drawn with a seed."""
        try:
            return contents.tables(self.data.open(name, root, version), _whole(seed))
        except CoreError as error:
            return error_message(error)

    def show_study(
        self, name: str, root: str, version: str | None, study_id: str | None
    ) -> list[Any]:
        """One study in the viewer with its boxes and masks, and the button to Saliency."""
        if study_id is None:
            return [viewer.viewer_value([], empty=NO_STUDY), gr.Button(visible=False)]
        try:
            image = self.data.radiograph(name, root, version, study_id)
            view = _view(self.data.open(name, root, version), study_id, image)
            value = viewer.viewer_value([view], study=f"{name} {study_id}", steps=True, truth=True)
        except CoreError as error:
            return [viewer.viewer_value([], empty=str(error)), gr.Button(visible=False)]
        return [value, gr.Button(visible=self.data.latest_run(name) is not None)]

    def next_study(self, study: str | None, *listed: Any) -> list[Any]:
        """The study after the chosen one, and its page."""
        return self._step(study, 1, *listed)

    def previous_study(self, study: str | None, *listed: Any) -> list[Any]:
        """The study before the chosen one, and its page."""
        return self._step(study, -1, *listed)

    def control_check(
        self, name: str, root: str, version: str | None, event: gr.EventData
    ) -> list[Any]:
        """Start or stop the check of a data set, whichever button was clicked."""
        return self.show_check(name, root, version, event._data.get("act"))

    def show_check(
        self, name: str, root: str, version: str | None, action: str | None = None
    ) -> list[Any]:
        """Start or stop the check of a data set if asked, and show its progress or report."""
        try:
            data = self.data.spec(name, root, version)
            if action in ("lists", "pictures"):
                self.checks.start(data, pixels=action == "pictures")
            check = self.checks.latest(data)
            if action == "stop" and check is not None:
                check.stop()
        except CoreError as error:
            return [error_message(error), gr.Timer(active=False)]
        return [panel(check), gr.Timer(active=check is not None and check.running)]

    def open_in_saliency(self, name: str, study: str | None) -> list[Any]:
        """Show the study on the Saliency page, with the latest run on its data set."""
        run = self.data.latest_run(name)
        return self.context.request("saliency", run=run.id if run else None, study=study)

    def _open_after(self, event: Any) -> None:
        start = event.then(lambda: [0, None], None, [self.page, self.study], **QUIET)
        self._look_after(self._show_after(start))

    def _show_after(self, event: Any) -> Any:
        inputs = [*self.listed, self.page, self.study, self.seed]
        outputs = [self.about, self.sheet, self.tables, self.finding, self.check, self.clock]
        return event.then(self.show, inputs, outputs, **QUIET)

    def _turn_after(self, event: Any) -> Any:
        inputs = [*self.listed, self.page, self.study]
        return event.then(self.show_sheet, inputs, self.sheet, **QUIET)

    def _look_after(self, event: Any) -> None:
        inputs, outputs = [*self.source, self.study], [self.viewer, self.to_saliency]
        event.then(self.show_study, inputs, outputs, **QUIET)

    def _sheet(self, dataset: ChestDataset, wanted: Filter, page: int, study: str | None) -> str:
        cache = ImageCache(self.context.workspace.cache, dataset, contents.THUMBNAIL)
        return contents.sheet(dataset, cache, contents.studies(dataset, wanted), page, study)

    def _step(self, study: str | None, by: int, *listed: Any) -> list[Any]:
        *source, split, finding = listed
        ids = contents.studies(self.data.open(*source), Filter(split, finding))
        chosen = study_list.step(ids, study, by)
        return [chosen, ids.index(chosen) // contents.PAGE if chosen else 0]


def _view(dataset: ChestDataset, study_id: str, image: Radiograph) -> View:
    study = dataset.study(study_id)
    masks = {
        name: mask
        for name in dataset.findings
        if study.findings[name] == 1 and (mask := dataset.mask(study_id, name)) is not None
    }
    return View(
        image, title=study_id, boxes=study.boxes, masks=masks, facts=study_views.about(study)
    )


def _clicked(page: int, study: str | None, event: gr.EventData) -> list[Any]:
    """Page and study after a click into the sheet."""
    if event._data.get("act") == "page":
        return [int(event._data["page"]), study]
    return [page, str(event._data.get("study"))]


def _whole(seed: float | None) -> int:
    return max(0, int(seed or 0))


def _nothing() -> None:
    """For events that change no field by themselves."""
