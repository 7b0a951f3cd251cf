"""Runs: what is going on, and what came out?

Everything shown is read from the store. The browser keeps only which run is selected, and says so
in the address; what it does is asked of ``core.runs`` again, which checks it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from core.config.run import RunSpec
from core.errors import CoreError
from core.runs import queue
from core.runs.run import Run
from core.workspace import STYLES
from explorer.components import run_table
from explorer.components.live_region import QUIET, live
from explorer.context import Context
from explorer.pages.runs import detail as rundetail
from explorer.pages.runs import export as exporting
from explorer.pages.runs import scores
from explorer.templates import error_message

TITLE = "Runs"

MOST_ROWS = 300
Selection = dict[str, Any]


def build(context: Context, tab: gr.Tab) -> None:
    """Lay out the table of runs and the selected run below it."""
    selection = gr.State({"run": None, "follow": True})
    listing = live(elem_id="runs-list")
    exported = _exported()
    detail = live(elem_id="runs-detail")
    style = "".join(
        (STYLES / name).read_text(encoding="utf-8") for name in ("compare.css", "sheet.css")
    )
    sheet = live(elem_id="runs-sheet", css_template=style)
    scored = gr.State("")
    shown = [selection, listing, detail, scored]
    others = [
        context.tabs,
        *(context.inboxes[name] for name in ("launch", "compare", "saliency")
          if name in context.inboxes),
    ]  # fmt: skip
    quiet: dict[str, Any] = {
        "api_visibility": "private",
        "show_progress": "hidden",
        # One after the other: an answer that was on its way must not undo a later choice.
        "concurrency_id": "runs",
        "concurrency_limit": 1,
    }

    def refresh(chosen: Selection) -> list[Any]:
        return _show(context, chosen)

    def receive(asked: dict[str, Any] | None, chosen: Selection) -> list[Any]:
        return _show(context, {"run": asked["run"], "follow": False} if asked else chosen)

    def act(chosen: Selection, event: gr.EventData) -> list[Any]:
        return _act(context, chosen, dict(event._data), len(others))

    def score(chosen: Selection) -> str:
        return _sheet(context, chosen)

    _exporter(context, detail, exported)
    newest: dict[str, Any] = {**quiet, "trigger_mode": "always_last"}
    inbox = context.inboxes["runs"]
    for occasion in (context.pulses["runs"].click, tab.select):
        occasion(refresh, selection, shown, **newest)
    inbox.change(receive, [inbox, selection], shown, **quiet)
    for region in (listing, detail):
        region.click(act, selection, [*shown, *others], trigger_mode="multiple", **quiet)
    # Bootstraps take a second, which the run itself is not to wait for.
    scored.change(score, selection, sheet, **QUIET)


def _exported() -> list[Any]:
    """Where an export is answered: the row, its words, and the file to take away."""
    with gr.Row(elem_id="runs-export", visible=False) as row:
        words = live(elem_id="runs-export-answer")
        file = gr.DownloadButton(
            "Download as zip", size="sm", visible=False, elem_id="runs-export-file", scale=0
        )
    return [row, words, file]


def _exporter(context: Context, detail: gr.HTML, exported: list[Any]) -> None:
    """Let the selected run's menu export it, beside everything else that the page does."""

    def export(event: gr.EventData) -> Iterator[list[Any]]:
        yield from _export(context, dict(event._data), Path(exported[-1].GRADIO_CACHE))

    detail.click(
        export,
        outputs=exported,
        api_visibility="private",
        show_progress="hidden",
        trigger_mode="multiple",
        concurrency_id="export",
        concurrency_limit=2,
    )


def _show(context: Context, chosen: Selection) -> list[Any]:
    """The selection, made valid, the table, the selected run, and what its scores hang on."""
    runs = context.store.list(limit=MOST_ROWS)
    run, fault = None, ""
    if chosen["follow"] or chosen["run"] is None:
        run = run_table.latest(runs)
    else:
        try:
            run = context.store.get(chosen["run"])
        except CoreError as error:
            fault = error_message(error) if runs else ""
    chosen = {"run": run.id if run else chosen["run"], "follow": chosen["follow"]}
    table = run_table.table(context.store, runs, chosen["run"], chosen["follow"])
    below = fault
    if run:
        below = rundetail.detail(context.store, context.workspace, run, chosen["follow"])
    return [chosen, table, below, f"{run.id} {run.state} {run.scores}" if run else ""]


def _sheet(context: Context, chosen: Selection) -> str:
    """The selected run's scores in detail; empty while it has none."""
    try:
        run = context.store.get(chosen["run"]) if chosen["run"] else None
    except CoreError:
        run = None
    return scores.sheet(run, context.workspace) if run else ""


def _act(context: Context, chosen: Selection, asked: dict[str, Any], others: int) -> list[Any]:
    """Do what was asked for, and show what came of it."""
    stay = [gr.skip()] * others
    try:
        act, name = str(asked.get("act")), asked.get("run")
        if act == "example":
            chosen = {"run": queue.submit(context.store, RunSpec()).id, "follow": True}
            gr.Info("It runs in about a minute.", title="Queued", duration=4)
        elif act == "follow":
            chosen = {"run": chosen["run"], "follow": not chosen["follow"]}
        elif act == "open":
            chosen = {"run": context.store.get(str(name)).id, "follow": False}
        elif act == "move":
            context.store.move(context.store.get(str(name)).id, str(asked.get("where")))
        elif act in _ACTIONS:
            _ACTIONS[act](context, context.store.get(str(name)))
            if act == "delete":
                chosen = {"run": None, "follow": chosen["follow"]}
        elif act in _ERRANDS:
            run = context.store.get(str(name))
            return [gr.skip()] * 4 + _errand(context, act, run, others)
    except CoreError as error:
        gr.Warning(str(error), title="Not possible", duration=8)
    return [*_show(context, chosen), *stay]


def _export(context: Context, asked: dict[str, Any], cache: Path) -> Iterator[list[Any]]:
    """Say that it is being made, make it, then say what came of it and offer the file."""
    if asked.get("act") != "export":
        yield [gr.skip()] * 3
        return
    format = str(asked.get("format"))
    try:
        run = context.store.get(str(asked.get("run")))
    except CoreError as error:
        gr.Warning(str(error), title="Not possible", duration=8)
        yield [gr.skip()] * 3
        return
    try:
        exporting.check_export(run, format)
        yield [gr.Row(visible=True), exporting.busy(run, format), gr.DownloadButton(visible=False)]
        made = exporting.export_in_process(context.workspace, run, format)
        file = exporting.pack(made, run, format, cache)
    except CoreError as error:
        failed = exporting.failure(run, format, error)
        yield [gr.Row(visible=True), failed, gr.DownloadButton(visible=False)]
        return
    yield [
        gr.Row(visible=True),
        exporting.outcome(run, format, made),
        gr.DownloadButton(value=file, visible=True),
    ]


def _stop(context: Context, run: Run) -> None:
    stopped = queue.stop(context.store, run.id)
    gr.Info(f"{run.name} is {stopped.state}.", title="Stop", duration=4)


def _resume(context: Context, run: Run) -> None:
    queue.resume(context.store, run.id)
    gr.Info(f"{run.name} goes on from its last checkpoint.", title="Queued", duration=4)


def _release(context: Context, run: Run) -> None:
    context.store.wait_for(run.id, None)
    gr.Info(f"{run.name} waits for a free slot only.", title="Queue", duration=4)


def _delete(context: Context, run: Run) -> None:
    context.store.delete(run.id)
    gr.Info(run.name, title="Deleted", duration=4)


_ACTIONS = {"stop": _stop, "resume": _resume, "release": _release, "delete": _delete}
_ERRANDS: dict[str, tuple[str, Callable[[Run], dict[str, Any]]]] = {
    "new": ("launch", lambda run: {"spec": run.spec.to_json()}),
    "compare": ("compare", lambda run: {"runs": [run.id]}),
    "saliency": ("saliency", lambda run: {"run": run.id}),
}


def _errand(context: Context, act: str, run: Run, others: int) -> list[Any]:
    """Updates of ``[tabs, inboxes of launch, compare, saliency]`` that send the user there."""
    page, wanted = _ERRANDS[act]
    names = [n for n in ("launch", "compare", "saliency") if n in context.inboxes]
    if page not in names:
        return [gr.skip()] * others
    tabs, request = context.request(page, **wanted(run))
    return [tabs, *(request if name == page else gr.skip() for name in names)]
