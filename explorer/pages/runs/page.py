"""The Runs page: the runs in progress and their results.

Everything shown is read from the store. The browser keeps only which run is selected, and writes it
into the address; ``core.runs`` checks again every action that the page asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypedDict

import gradio as gr
from markupsafe import Markup

from core.config.run import RunSpec
from core.errors import CoreError
from core.runs import queue
from core.runs.run import Run
from explorer.components import run_table
from explorer.components.live_region import live
from explorer.components.page_actions import PageLinks, warn
from explorer.context import Context
from explorer.pages.runs.detail import detail
from explorer.pages.runs.export_panel import ExportPanel
from explorer.pages.runs.score_panel import ScorePanel
from explorer.pages.runs.tunings import Tunings
from explorer.templates import error_message

TITLE = "Runs"

MOST_ROWS = 300

_SEQUENTIAL: dict[str, Any] = {
    "api_visibility": "private",
    "show_progress": "hidden",
    # One after the other: a late answer must not undo a later choice.
    "concurrency_id": "runs",
    "concurrency_limit": 1,
}
"""Settings of the events that change the selection."""


class Selection(TypedDict, total=False):
    """The selected run, whether the page follows the latest run, and the selected tuning."""

    run: str | None
    follow: bool
    tuning: str | None


def build(context: Context, tab: gr.Tab) -> None:
    """Lay out the table of runs and the selected run below it."""
    page = RunsPage(context)
    selection = gr.State(Selection(run=None, follow=True, tuning=None))
    table = live(elem_id="runs-list")
    tunings = live(elem_id="runs-tunings")
    export_panel = ExportPanel(context)
    selected = live(elem_id="runs-detail")
    score_panel = ScorePanel(context)
    scored = gr.State("")
    shown = [selection, table, tunings, selected, scored]

    export_panel.listen(selected)
    inbox = context.inboxes["runs"]
    for event in (context.pulses["runs"].click, tab.select):
        event(page.show, selection, shown, trigger_mode="always_last", **_SEQUENTIAL)
    inbox.change(page.receive, [inbox, selection], shown, **_SEQUENTIAL)
    for region in (table, tunings, selected):
        outputs = [*shown, *page.links.outputs]
        region.click(page.act, selection, outputs, trigger_mode="multiple", **_SEQUENTIAL)
    # The scores take a moment; the rest of the page does not wait for them.
    score_panel.listen(scored, selection)


class RunsPage:
    """Handlers of the page."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._store = context.store
        self._tunings = Tunings(context.store, context.workspace)
        self.links = PageLinks(context, ("launch", "compare", "saliency"))

    def show(self, selection: Selection) -> list[Any]:
        """The valid selection, the tables, the selected run, and what its scores depend on."""
        runs = self._store.list(limit=MOST_ROWS)
        follow, name = selection["follow"], selection["run"]
        run, error = None, None
        if follow or name is None:
            run = run_table.latest(runs)
        else:
            try:
                run = self._store.get(name)
            except CoreError as missing:
                error = missing
        selected = run.id if run else name
        below = Markup()
        if run:
            below = detail(self._store, self._context.workspace, run, follow)
        elif error and runs:
            below = error_message(error)
        return [
            Selection(run=selected, follow=follow, tuning=selection["tuning"]),
            run_table.table(self._store, runs, selected, follow),
            self._tunings.panel(selection["tuning"]),
            below,
            f"{run.id} {run.state} {run.scores}" if run else "",
        ]

    def receive(self, request: dict[str, Any] | None, selection: Selection) -> list[Any]:
        """Show the run or tuning that another page or the address asks for."""
        if request and request.get("run"):
            selection = selection | Selection(run=request["run"], follow=False)
        if request and request.get("tuning"):
            selection = selection | Selection(tuning=request["tuning"])
        return self.show(selection)

    def act(self, selection: Selection, event: gr.EventData) -> list[Any]:
        """Do what a button or row asks for, and show the result."""
        request = dict(event._data)
        act, name = str(request.get("act")), str(request.get("run"))
        try:
            if act in _OPEN_PAGE:
                return [gr.skip()] * 5 + self._open_page(act, self._store.get(name))
            if act == "tuning-compare":
                runs = self._tunings.final_runs(str(request.get("tuning")))
                return [gr.skip()] * 5 + self.links.open("compare", runs=runs)
            selection = self._change(act, name, request, selection)
        except CoreError as error:
            warn(error)
        return [*self.show(selection), *self.links.stay()]

    def _change(
        self, act: str, name: str, request: Mapping[str, Any], selection: Selection
    ) -> Selection:
        """Change a run or the selection; returns the new selection."""
        if act == "example":
            example = queue.submit(self._store, RunSpec())
            gr.Info("The example takes about a minute.", title="Queued", duration=4)
            return selection | Selection(run=example.id, follow=True)
        if act == "follow":
            return selection | Selection(follow=not selection["follow"])
        if act == "open":
            return selection | Selection(run=self._store.get(name).id, follow=False)
        if act.startswith("tuning"):
            return self._change_tuning(act, str(request.get("tuning")), selection)
        if act == "move":
            self._store.move(self._store.get(name).id, str(request.get("where")))
        elif act in _CHANGE_RUN:
            _CHANGE_RUN[act](self._context, self._store.get(name))
            if act == "delete":
                return selection | Selection(run=None)
        return selection

    def _change_tuning(self, act: str, name: str, selection: Selection) -> Selection:
        """Stop, continue, select or deselect a tuning."""
        if act == "tuning-stop":
            self._tunings.stop(name)
        elif act == "tuning-continue":
            self._tunings.resume(name)
        elif selection["tuning"] == name:
            return selection | Selection(tuning=None)
        return selection | Selection(tuning=name)

    def _open_page(self, act: str, run: Run) -> list[Any]:
        page, request = _OPEN_PAGE[act]
        return self.links.open(page, **request(run))


def _stop(context: Context, run: Run) -> None:
    stopped = queue.stop(context.store, run.id)
    gr.Info(f"{run.name} is {stopped.state}.", title="Stop", duration=4)


def _resume(context: Context, run: Run) -> None:
    queue.resume(context.store, run.id)
    gr.Info(f"{run.name} continues from its last checkpoint.", title="Queued", duration=4)


def _release(context: Context, run: Run) -> None:
    context.store.wait_for(run.id, None)
    gr.Info(f"{run.name} starts as soon as a slot is free.", title="Queue", duration=4)


def _delete(context: Context, run: Run) -> None:
    context.store.delete(run.id)
    gr.Info(run.name, title="Deleted", duration=4)


_CHANGE_RUN = {"stop": _stop, "resume": _resume, "release": _release, "delete": _delete}
"""Actions that change a run."""
_OPEN_PAGE: dict[str, tuple[str, Callable[[Run], dict[str, Any]]]] = {
    "new": ("launch", lambda run: {"spec": run.spec.to_json()}),
    "compare": ("compare", lambda run: {"runs": [run.id]}),
    "saliency": ("saliency", lambda run: {"run": run.id}),
}
"""Actions that open another page: its name, and what it is asked for."""
