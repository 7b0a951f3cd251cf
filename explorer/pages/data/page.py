"""Data: what am I training on?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from core.config.run import DataSpec
from core.data.base import ChestDataset
from core.data.cache.image_cache import ImageCache
from core.data.datasets import registered
from core.data.datasets.registry import DATASETS
from core.errors import CoreError
from core.runs.store import Run, RunState
from core.workspace import STYLES
from explorer.components import dataset_choice, model_cache, study_list, study_views, viewer
from explorer.components.live_region import QUIET, after, live
from explorer.components.model_cache import ModelCache
from explorer.components.viewer import View
from explorer.context import Context
from explorer.pages.data import check as checkup
from explorer.pages.data import contents, register
from explorer.pages.data.check import Checks
from explorer.pages.data.contents import ANY, NONE, Filter
from explorer.templates import error_message

TITLE = "Data"

SPLITS = [("All", ""), ("Training", "train"), ("Validation", "val"), ("Test", "test")]
FIRST = next(iter(DATASETS))
CHECK_SECONDS = 1.0
EMPTY = "Choose a study of the sheet to see it here."


def build(context: Context, tab: gr.Tab) -> None:
    """Lay out the choice of data, the sheet beside the chosen study, and the tables below."""
    shelf = model_cache.model_cache(context.workspace, context.store)
    style = (STYLES / "data.css").read_text(encoding="utf-8")
    with gr.Row(equal_height=False, elem_classes="cxr-group"):
        name = gr.Dropdown(
            dataset_choice.choices(context.workspace),
            value=FIRST,
            label="Data set",
            elem_id="data-name",
            min_width=200,
        )
        root = gr.Textbox(
            label="Folder", elem_id="data-root", visible=False, submit_btn="Open", scale=2
        )
        version = gr.Dropdown(
            [], label="Split version", elem_id="data-version", visible=False, min_width=160
        )
        part = gr.Radio(SPLITS, value="", label="Studies of", elem_id="data-part", min_width=300)
        finding = gr.Dropdown(
            _findings(DATASETS[FIRST].findings),
            value=ANY,
            label="Finding",
            elem_id="data-finding",
            min_width=170,
        )
        seed = gr.Number(
            0, label="Seed of the subset", precision=0, minimum=0, elem_id="data-seed",
            min_width=130, scale=0,
        )  # fmt: skip
    wanted = gr.State(None)
    register.dialogue(context.workspace, wanted, style)
    about = live(elem_id="data-about", css_template=style)
    report = live(elem_id="data-check", css_template=style)
    clock = gr.Timer(CHECK_SECONDS, active=False)
    with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=420):
            sheet = live(elem_id="data-sheet", css_template=style)
        with gr.Column(scale=5, min_width=400):
            panel = viewer.radiographs(elem_id="data-viewer", label="The chosen study")
            leave = gr.Button("Open in Saliency", size="sm", visible=False, elem_id="data-leave")
    tables = live(elem_id="data-tables", css_template=style)
    page, study = gr.State(0), gr.State(None)
    source = [name, root, version]
    listed = [*source, part, finding]
    fields = [root, version, finding]
    shown = [about, sheet, tables, finding, report, clock]
    checks = Checks()

    def fill(key: str, folder: str | None) -> list[Any]:
        return _fields(context, key, folder)

    def show(*question: Any) -> list[Any]:
        return _show(context, shelf, checks, *question)

    def turn(*question: Any) -> str:
        return _sheet(context, shelf, *question)

    def count(key: str, folder: str, split: str | None, number: float | None) -> str:
        return _tables(context, shelf, key, folder, split, number)

    def look(key: str, folder: str, split: str | None, at: str | None) -> list[Any]:
        return _look(context, shelf, key, folder, split, at)

    def click(at: int, now: str | None, event: gr.EventData) -> list[Any]:
        asked = event._data
        if asked.get("act") == "page":
            return [int(asked["page"]), now]
        return [at, str(asked.get("study"))]

    def step(at: str | None, *question: Any, by: int) -> Any:
        dataset = _open(context, shelf, *question[:3])
        ids = contents.studies(dataset, Filter(question[3], question[4]))
        found = study_list.step(ids, at, by)
        return [found, ids.index(found) // contents.PAGE if found else 0]

    def opened(event: Any) -> None:
        event.then(lambda: [0, None], None, [page, study], **QUIET).then(
            show, [*listed, page, study, seed], shown, **QUIET
        ).then(look, [*source, study], [panel, leave], **QUIET)

    def check(key: str, folder: str, split: str | None, event: gr.EventData) -> list[Any]:
        return _check(context, checks, key, folder, split, event._data.get("act"))

    def follow(key: str, folder: str, split: str | None) -> list[Any]:
        return _check(context, checks, key, folder, split)

    def choose(key: str | None) -> list[Any]:
        key = key or FIRST
        options = gr.Dropdown(choices=dataset_choice.choices(context.workspace), value=key)
        return [options, *fill(key, None)]

    opened(name.input(fill, [name, root], fields, **QUIET))
    opened(root.submit(lambda: None, None, None, **QUIET))
    opened(version.input(lambda: None, None, None, **QUIET))
    for event in (tab.select, context.blocks.load):
        event(
            lambda: gr.Dropdown(choices=dataset_choice.choices(context.workspace)),
            None,
            name,
            **QUIET,
        )
    after([tab.select]).then(show, [*listed, page, study, seed], shown, **QUIET)
    report.click(check, source, [report, clock], **QUIET)
    clock.tick(follow, source, [report, clock], **QUIET)
    opened(wanted.change(lambda asked: choose(asked and asked["name"]), wanted,
                         [name, *fields], **QUIET))  # fmt: skip
    for control in (part, finding):
        control.input(lambda: 0, None, page, **QUIET).then(
            turn, [*listed, page, study], sheet, **QUIET
        )
    seed.input(count, [*source, seed], tables, **QUIET)
    sheet.click(click, [page, study], [page, study], **QUIET).then(
        turn, [*listed, page, study], sheet, **QUIET
    ).then(look, [*source, study], [panel, leave], **QUIET)
    for event, by in ((panel.next_study, 1), (panel.previous_study, -1)):
        event(
            lambda at, *question, by=by: step(at, *question, by=by),
            [study, *listed], [study, page], **QUIET,
        ).then(turn, [*listed, page, study], sheet, **QUIET).then(
            look, [*source, study], [panel, leave], **QUIET
        )  # fmt: skip
    inbox = context.inboxes["data"]
    inbox.change(
        lambda asked: _receive(context, asked), inbox, [name, *fields, study], **QUIET
    ).then(show, [*listed, page, study, seed], shown, **QUIET).then(
        look, [*source, study], [panel, leave], **QUIET
    )
    if "saliency" in context.inboxes:
        leave.click(
            lambda key, at: context.request(
                "saliency", run=getattr(_model(context, key), "id", None), study=at
            ),
            [name, study],
            context.outputs("saliency"),
            **QUIET,
        )


def _findings(names: tuple[str, ...]) -> list[tuple[str, str]]:
    each = [(name.replace("_", " "), name) for name in names]
    return [("All studies", ANY), ("No finding", NONE), *each]


def _spec(context: Context, key: str, root: str | None, split: str | None) -> DataSpec:
    """What the fields name; a registered name is resolved."""
    entry = dataset_choice.entry(context.workspace, key)
    folder = Path(root.strip()) if entry.needs_root and root and root.strip() else None
    asked = DataSpec(name=key, root=folder, split=(split or None) if entry.splits else None)
    return registered.resolved(context.workspace, asked)


def _open(
    context: Context, shelf: ModelCache, key: str, root: str | None, split: str | None
) -> ChestDataset:
    return shelf.dataset(_spec(context, key, root, split))


def _fields(context: Context, key: str, folder: str | None) -> list[Any]:
    """The fields that a data set needs: folder, version of the split, findings."""
    entry = dataset_choice.entry(context.workspace, key)
    known = _last_root(context, key) if entry.needs_root else None
    return [
        gr.Textbox(value=known or (folder if entry.needs_root else ""), visible=entry.needs_root),
        gr.Dropdown(
            choices=list(entry.splits),
            value=entry.splits[0] if entry.splits else None,
            visible=len(entry.splits) > 1,
        ),
        gr.Dropdown(choices=_findings(entry.findings), value=ANY),
    ]


def _last_root(context: Context, key: str) -> str | None:
    for run in context.store.list():
        if run.spec.data.name == key and run.spec.data.root is not None:
            return str(run.spec.data.root)
    return None


def _receive(context: Context, asked: dict[str, Any] | None) -> list[Any]:
    known = dataset_choice.choices(context.workspace)
    if asked is None or asked.get("data") not in [key for _, key in known]:
        return [gr.skip()] * 5
    key = asked["data"]
    return [gr.Dropdown(choices=known, value=key), *_fields(context, key, None), asked.get("study")]


def _show(
    context: Context,
    shelf: ModelCache,
    checks: Checks,
    key: str,
    root: str,
    split: str | None,
    part: str,
    finding: str,
    page: int,
    study: str | None,
    seed: float | None,
) -> list[Any]:
    """Facts, sheet, tables, findings and check of a data set, or the fault beside its field."""
    entry = dataset_choice.entry(context.workspace, key)
    if entry.needs_root and not (root or "").strip():
        words = f"{entry.title}: name the folder that holds it, then press Open."
        return [f'<p class="cxr-note">{words}</p>', "", "", gr.skip(), "", gr.Timer(active=False)]
    check = _check(context, checks, key, root, split)
    try:
        dataset = _open(context, shelf, key, root, split)
        offered = _findings(dataset.findings)
        known = finding if finding in [value for _, value in offered] else ANY
        return [
            contents.about(dataset),
            _page(context, dataset, Filter(part, known), page, study),
            contents.tables(dataset, _whole(seed)),
            gr.Dropdown(choices=offered, value=known),
            *check,
        ]
    except CoreError as error:
        field = (error.field or "data.root").replace(".", "-")
        beside = f'<div data-beside="{field}">{error_message(error)}</div>'
        said = beside if field == "data-root" else error_message(error)
        return [said, "", "", gr.skip(), *check]


def _check(
    context: Context,
    checks: Checks,
    key: str,
    root: str | None,
    split: str | None,
    act: str | None = None,
) -> list[Any]:
    """Start or stop the check of a data set if that was asked, and say how it stands."""
    try:
        data = _spec(context, key, root, split)
        if act in ("lists", "pictures"):
            checks.start(data, pixels=act == "pictures")
        known = checks.of(data)
        if act == "stop" and known is not None:
            known.stop()
    except CoreError as error:
        return [error_message(error), gr.Timer(active=False)]
    return [checkup.panel(known), gr.Timer(active=known is not None and known.running)]


def _sheet(
    context: Context,
    shelf: ModelCache,
    key: str,
    root: str,
    split: str | None,
    part: str,
    finding: str,
    page: int,
    study: str | None,
) -> str:
    try:
        dataset = _open(context, shelf, key, root, split)
        return _page(context, dataset, Filter(part, finding), page, study)
    except CoreError as error:
        return error_message(error)


def _page(
    context: Context, dataset: ChestDataset, wanted: Filter, page: int, study: str | None
) -> str:
    cache = ImageCache(context.workspace.cache, dataset, contents.THUMBNAIL)
    return contents.sheet(dataset, cache, contents.studies(dataset, wanted), page, study)


def _tables(
    context: Context,
    shelf: ModelCache,
    key: str,
    root: str,
    split: str | None,
    seed: float | None,
) -> str:
    try:
        return contents.tables(_open(context, shelf, key, root, split), _whole(seed))
    except CoreError as error:
        return error_message(error)


def _whole(seed: float | None) -> int:
    return max(0, int(seed or 0))


def _look(
    context: Context,
    shelf: ModelCache,
    key: str,
    root: str,
    split: str | None,
    study_id: str | None,
) -> list[Any]:
    """One study in the viewer, with all that is marked on it."""
    if study_id is None:
        return [viewer.viewer_value([], empty=EMPTY), gr.Button(visible=False)]
    try:
        dataset = _open(context, shelf, key, root, split)
        study = dataset.study(study_id)
        masks = {
            name: mask
            for name in dataset.findings
            if study.findings[name] == 1 and (mask := dataset.mask(study_id, name)) is not None
        }
        view = View(
            dataset.radiograph(study_id),
            title=study_id,
            boxes=study.boxes,
            masks=masks,
            facts=study_views.about(study),
        )
        value = viewer.viewer_value([view], study=f"{key} {study_id}", steps=True, truth=True)
    except CoreError as error:
        return [viewer.viewer_value([], empty=str(error)), gr.Button(visible=False)]
    return [value, gr.Button(visible=_model(context, key) is not None)]


def _model(context: Context, key: str) -> Run | None:
    """The latest completed run on a data set."""
    runs = context.store.list(states=[RunState.COMPLETED])
    return next((run for run in runs if (run.spec.data.called or run.spec.data.name) == key), None)
