"""The Paper page: whether the study's claim holds in this workspace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import gradio as gr
from markupsafe import Markup

from core.config.run import RunSpec
from core.errors import CoreError
from core.experiments.paper.tasks import find_task
from core.resources import preflight
from core.workspace import STYLES
from explorer.components.live_region import QUIET, live
from explorer.components.page_actions import PageLinks, queue_runs, warn
from explorer.components.run_comparison import WANTED_SEEDS
from explorer.context import Context
from explorer.pages.paper import report, results, tasks
from explorer.pages.paper.results import PaperResults

TITLE = "Paper"


def build(context: Context, tab: gr.Tab) -> None:
    """Lay out the page; it is drawn when it is first opened, and again after each change."""
    style = "".join(
        (STYLES / name).read_text(encoding="utf-8") for name in ("compare.css", "paper.css")
    )
    tasks_region = live(elem_id="paper-board", css_template=style)
    report_region = live(elem_id="paper-report", css_template=style)
    opened = gr.State(False)
    drawn = gr.State("")
    page = PaperPage(context)
    for event in (
        tab.select(lambda: True, None, opened, **QUIET).then(
            page.draw, opened, tasks_region, **QUIET
        ),
        context.pulses["paper"].click(page.draw, opened, tasks_region, **QUIET),
    ):
        event.then(page.add_verdicts, opened, tasks_region, **QUIET).then(
            page.draw_report, [opened, drawn], [report_region, drawn], **QUIET
        )
    outputs = [tasks_region, *page.links.outputs]
    tasks_region.click(page.act, None, outputs, api_visibility="private", show_progress="hidden")


class PaperPage:
    """Handlers of the page.

    Args:
        context: The explorer.
    """

    def __init__(self, context: Context) -> None:
        self._workspace = context.workspace
        self._store = context.store
        self.links = PageLinks(context, ("launch", "runs", "compare"))

    def draw(self, opened: bool) -> Any:
        """The tasks with the verdicts that are known; nothing until the page is opened."""
        return self._html(self._gather()) if opened else gr.skip()

    def add_verdicts(self, opened: bool) -> Iterator[Any]:
        """Compute the missing verdicts; yields the tasks after each."""
        while opened and self._gather().verdict_pending:
            yield self._html(self._gather(most=1))
        yield gr.skip()

    def draw_report(self, opened: bool, drawn: str) -> list[Any]:
        """The report on all tasks, once every verdict is known, and a key of what is drawn."""
        paper = self._gather()
        if not opened or paper.verdict_pending:
            return [gr.skip(), gr.skip()]
        html = report.page(paper, self._workspace)
        key = str(hash(html))
        return [gr.skip(), gr.skip()] if key == drawn else [html, key]

    def act(self, event: gr.EventData) -> list[Any]:
        """Do what a button asks for; see ``answer``."""
        return self.answer(event._data)

    def answer(self, request: Mapping[str, Any]) -> list[Any]:
        """Queue runs or open another page.

        Args:
            request: ``act`` and what it needs: ``launch`` with ``task`` and ``method``, ``run``
                with ``run``, ``compare`` with ``runs``, ``first``, or ``all`` with ``seeds``.

        Returns:
            Updates of the tasks, and of ``links.outputs``.
        """
        act = str(request.get("act"))
        try:
            if act == "launch":
                spec = self.next_spec(str(request.get("task")), str(request.get("method")))
                return [gr.skip(), *self.links.open("launch", spec=spec.to_json())]
            if act == "run":
                run = self._store.get(str(request.get("run")))
                return [gr.skip(), *self.links.open("runs", run=run.id)]
            if act == "compare":
                ids = [self._store.get(name).id for name in str(request.get("runs")).split(",")]
                return [gr.skip(), *self.links.open("compare", runs=ids)]
            if act in ("first", "all"):
                self._queue(act, str(request.get("seeds")))
                return [self._html(self._gather()), *self.links.stay()]
        except CoreError as error:
            warn(error)
        return [gr.skip(), *self.links.stay()]

    def next_spec(self, task: str, method: str) -> RunSpec:
        """The next run of a task by one method.

        Raises:
            ConfigurationError: There is no such task.
        """
        runs = self._store.list()
        paper = results.gather(runs, self._workspace, most=0)
        return results.next_spec(paper.result(find_task(task)), method, runs)

    def _queue(self, act: str, seeds: str) -> None:
        """Queue the first comparison, or the missing runs of all scaled-down tasks."""
        paper = self._gather()
        if act == "first":
            wanted = results.missing([paper.result(results.FIRST)], 1)
        else:
            count = min(max(int(seeds), 1), WANTED_SEEDS) if seeds.isdigit() else 1
            wanted = results.missing(paper.miniature, count)
        for spec in {(spec.data.name, spec.adapter.method): spec for spec in wanted}.values():
            preflight.check(spec)
        queue_runs(self._store, wanted)

    def _gather(self, most: int = 0) -> PaperResults:
        return results.gather(self._store.list(), self._workspace, most=most)

    def _html(self, paper: PaperResults) -> Markup:
        return tasks.page(paper, report.judgements(paper, self._workspace))
