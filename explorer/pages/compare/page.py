"""Compare: which is better, and is it real?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from core.config.run import RunSpec
from core.errors import CoreError
from core.evaluation.verdict import counterpart
from core.runs import queue
from core.runs.store import Run, RunState
from core.workspace import STYLES
from explorer.components import model_cache, run_comparison, study_list, study_views, viewer
from explorer.components.live_region import QUIET, live
from explorer.components.run_comparison import Comparison
from explorer.context import Context
from explorer.formatting import run_title
from explorer.pages.compare import view
from explorer.templates import error_message

TITLE = "Compare"

METHOD = "grad-cam"
SHOWN = (RunState.COMPLETED, RunState.RUNNING, RunState.STOPPING, RunState.STOPPED)
ASK = "Press “Show where each looks” to see the same radiograph under each run."


def build(context: Context, tab: gr.Tab) -> None:
    """Lay out the choice of runs, the comparison, and the same radiograph under each run."""
    shelf = model_cache.model_cache(context.workspace, context.store)
    style = (STYLES / "compare.css").read_text(encoding="utf-8")
    with gr.Row(equal_height=False, elem_classes="cxr-group"):
        chosen = gr.Dropdown(
            [],
            label="Runs",
            info="Two to six. Their other seeds in this workspace count in the verdict too.",
            multiselect=True,
            max_choices=run_comparison.MOST,
            elem_id="compare-runs",
            scale=4,
        )
        against = gr.Dropdown(
            [],
            label="Against",
            info="What the others are held against.",
            elem_id="compare-against",
            scale=1,
            min_width=240,
            visible=False,
        )
    body = live(elem_id="compare-body", css_template=style)
    seen = gr.State("")
    pictured = gr.State(False)
    with gr.Column(visible=False, elem_id="compare-saliency") as pictures:
        gr.HTML(
            '<h3 class="cxr-head cxr-section">The same radiograph under each</h3>',
            apply_default_css=False,
        )
        with gr.Row(equal_height=False):
            finding = gr.Dropdown(
                [], label="Finding", min_width=160, scale=2, elem_id="compare-finding"
            )
            study = gr.Dropdown([], label="Study", min_width=200, scale=4, elem_id="compare-study")
            look = gr.Button(
                "Show where each looks",
                variant="primary",
                size="sm",
                min_width=160,
                elem_id="compare-look",
            )
            leave = gr.Button("Open in Saliency", size="sm", min_width=140, elem_id="compare-leave")
        panel = viewer.radiographs(
            elem_id="compare-viewer", label="The same radiograph under each of the compared runs"
        )
        below = live()
    choice, shown = [chosen, against], [chosen, against, body, pictures, seen]
    light, studies = [panel, below], [finding, study]

    def show(ids: list[str] | None, reference: str | None, before: str) -> list[Any]:
        return _show(context, ids or [], reference, before)

    def arrive(
        ids: list[str] | None, reference: str | None, before: str, asked: dict[str, Any] | None
    ) -> list[Any]:
        if not ids and asked is not None:
            # Another page sent the user here: ``receive`` shows what it asked for.
            return [gr.skip()] * len(shown)
        if not ids:
            ids = run_comparison.suggestion(_completed(context))
        return _show(context, ids, reference, before)

    def receive(asked: dict[str, Any] | None, ids: list[str] | None, before: str) -> list[Any]:
        if asked is None:
            return [gr.skip()] * len(shown)
        return _show(context, _wanted(context, asked["runs"], ids or []), None, before)

    def act(
        ids: list[str] | None, reference: str | None, before: str, event: gr.EventData
    ) -> list[Any]:
        _queue(context, str(event._data.get("act")), ids or [], reference)
        return _show(context, ids or [], reference, before)

    def offer(ids: list[str] | None, now: str | None, at: str | None) -> list[Any]:
        return _offer(context, shelf, ids or [], now, at)

    def explain(ids: list[str] | None, name: str | None, at: str | None, on: bool) -> list[Any]:
        if not on:
            return [viewer.viewer_value([], empty=ASK), ""]
        return _explain(context, shelf, ids or [], name, at)

    def step(ids: list[str] | None, name: str | None, at: str | None, by: int) -> Any:
        return study_list.step(_studies(context, shelf, ids or [], name), at, by)

    def redraw(event: Any) -> None:
        event.then(offer, [chosen, *studies], studies, **QUIET).then(
            explain, [chosen, *studies, pictured], light, **QUIET
        )

    context.pulses["compare"].click(show, [*choice, seen], shown, **QUIET)
    inbox = context.inboxes["compare"]
    redraw(tab.select(arrive, [*choice, seen, inbox], shown, **QUIET))
    redraw(inbox.change(receive, [inbox, chosen, seen], shown, **QUIET))
    redraw(chosen.input(show, [*choice, seen], shown, **QUIET))
    against.input(show, [*choice, seen], shown, **QUIET)
    body.click(act, [*choice, seen], shown, api_visibility="private", show_progress="hidden")
    look.click(lambda: True, None, pictured, **QUIET).then(
        explain, [chosen, *studies, pictured], light, api_visibility="private"
    )
    finding.input(offer, [chosen, *studies], studies, **QUIET).then(
        explain, [chosen, *studies, pictured], light, **QUIET
    )
    study.input(explain, [chosen, *studies, pictured], light, **QUIET)
    for event, by in ((panel.next_study, 1), (panel.previous_study, -1)):
        event(
            lambda ids, name, at, by=by: step(ids, name, at, by), [chosen, *studies], study, **QUIET
        ).then(explain, [chosen, *studies, pictured], light, **QUIET)
    if "saliency" in context.inboxes:
        leave.click(
            lambda ids, name, at: context.request(
                "saliency", run=ids[0], others=ids[1:], study=at, finding=name
            ),
            [chosen, *studies],
            context.outputs("saliency"),
            **QUIET,
        )


def _completed(context: Context) -> list[Run]:
    runs = context.store.list(states=[RunState.COMPLETED])
    return [run for run in runs if run_comparison.has_predictions(run, context.workspace)]


def _wanted(context: Context, asked: Sequence[str], now: list[str]) -> list[str]:
    """The runs that another page or the address asked for; one run joins those already chosen."""
    found = []
    for name in asked[: run_comparison.MOST]:
        try:
            found.append(context.store.get(name).id)
        except CoreError as error:
            gr.Warning(str(error), title="Not in this workspace", duration=8)
    found = list(dict.fromkeys(found))
    if len(asked) == 1 and found:
        if now and len(now) < run_comparison.MOST:
            return list(dict.fromkeys([*now, *found]))
        return run_comparison.suggestion(_completed(context), found[0]) or found
    return found


def _show(context: Context, ids: list[str], reference: str | None, before: str) -> list[Any]:
    """Choices, reference, comparison, whether there are pictures, and what was shown."""
    runs = context.store.list(states=list(SHOWN))
    known = {run.id for run in runs}
    ids = [one for one in ids if one in known]
    choices = [(run_title(run), run.id) for run in runs]
    groups: list[tuple[str, str]] = []
    if len(ids) < 2:
        html = view.empty(len(_completed(context)))
    else:
        found = run_comparison.gather(context.store, context.workspace, ids, reference)
        html = view.page(found)
        groups = _references(found)
        reference = _chosen_reference(found)
    scored = len(ids) > 1 and all(one in {run.id for run in _completed(context)} for one in ids)
    now = str(hash((tuple(choices), tuple(ids), html, reference, scored)))
    if now == before:
        return [gr.skip()] * 5
    return [
        gr.Dropdown(choices=choices, value=ids),
        gr.Dropdown(choices=groups, value=reference if groups else None, visible=len(groups) > 1),
        html,
        gr.Column(visible=scored),
        now,
    ]


def _references(found: Comparison) -> list[tuple[str, str]]:
    """Each group by its title, as the id of its first run."""
    return [(group.title, group.trials[0].id) for group in found.groups]


def _chosen_reference(found: Comparison) -> str | None:
    return found.reference.trials[0].id if found.reference else None


def _queue(context: Context, act: str, ids: list[str], reference: str | None) -> None:
    """Queue the runs that the comparison lacks."""
    specs: list[RunSpec] = []
    try:
        if act == "pair":
            specs = [RunSpec(), counterpart(RunSpec(), "full")]
        elif act == "partner":
            spec = _completed(context)[0].spec
            specs = [counterpart(spec, "lora" if spec.adapter.method == "full" else "full")]
        elif act == "seeds":
            found = run_comparison.gather(context.store, context.workspace, ids, reference)
            specs = run_comparison.missing_seeds(found.groups)
        for spec in specs:
            queue.submit(context.store, spec)
    except CoreError as error:
        gr.Warning(str(error), title="Not possible", duration=8)
        return
    if specs:
        words = "1 run" if len(specs) == 1 else f"{len(specs)} runs"
        gr.Info(f"{words} queued; the Runs page shows how they get on.", title="Queued", duration=6)


# --- the same radiograph under each --------------------------------------------------------------


def _studies(
    context: Context, shelf: model_cache.ModelCache, ids: list[str], finding: str | None
) -> list[str]:
    dataset = shelf.dataset(context.store.get(ids[0]).spec.data)
    if finding not in dataset.findings:
        return []
    return study_list.studies(
        dataset,
        "test" if dataset.ids("test") else "val",
        finding=finding or "",
        present=True,
        marked=False,
        order="listed",
        predictions=[],
    )


def _offer(
    context: Context,
    shelf: model_cache.ModelCache,
    ids: list[str],
    finding: str | None,
    study: str | None,
) -> list[Any]:
    """Findings of the first run's data set, and its studies that have the chosen one."""
    if len(ids) < 2:
        return [gr.skip(), gr.skip()]
    try:
        dataset = shelf.dataset(context.store.get(ids[0]).spec.data)
        finding = finding if finding in dataset.findings else dataset.findings[0]
        listed = _studies(context, shelf, ids, finding)
    except CoreError:
        # The pictures' place says why.
        return [gr.skip(), gr.Dropdown(choices=[], value=None)]
    names = [(one.replace("_", " "), one) for one in dataset.findings]
    return [
        gr.Dropdown(choices=names, value=finding),
        gr.Dropdown(
            choices=study_list.choices(dataset, listed),
            value=study if study in listed else next(iter(listed), None),
        ),
    ]


def _explain(
    context: Context,
    shelf: model_cache.ModelCache,
    ids: list[str],
    finding: str | None,
    study_id: str | None,
) -> list[Any]:
    if len(ids) < 2 or finding is None or study_id is None:
        return [viewer.viewer_value([], empty="No study of the test split has this finding."), ""]
    try:
        runs = [context.store.get(one) for one in ids]
        dataset = shelf.dataset(runs[0].spec.data)
        study = dataset.study(study_id)
        readings = study_views.read(shelf, runs, study_id, finding, METHOD)
        plate = dataset.radiograph(study_id)
        apart = (runs[0].id, runs[1].id) if len(runs) == 2 else None
        views = study_views.views(
            readings, plate, finding, dataset=dataset, study=study, apart=apart
        )
        value = viewer.viewer_value(
            views,
            study=study_id,
            heading=study_views.heading(study_id, finding, METHOD),
            steps=True,
        )
        return [value, study_views.caveat(METHOD)]
    except CoreError as error:
        return [viewer.viewer_value([], empty=str(error)), error_message(error)]
