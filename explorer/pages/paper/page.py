"""Paper: does the study's claim hold here?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from core.config.run import RunSpec
from core.errors import CoreError
from core.experiments.paper import tasks
from core.resources import preflight
from core.runs import queue
from core.workspace import STYLES
from explorer.components.live_region import QUIET, live
from explorer.context import Context
from explorer.pages.paper import report, results
from explorer.pages.paper import tasks as paperboard
from explorer.pages.paper.results import Board

TITLE = "Paper"

ERRANDS = ("launch", "runs", "compare")
"""Pages that this one sends the user to."""
MOST_SEEDS = results.WANTED_SEEDS


def build(context: Context, tab: gr.Tab) -> None:
    """Lay out the board; it is drawn when the page is first seen, and again after each change."""
    style = "".join(
        (STYLES / name).read_text(encoding="utf-8") for name in ("compare.css", "paper.css")
    )
    board = live(elem_id="paper-board", css_template=style)
    whole = live(elem_id="paper-report", css_template=style)
    seen = gr.State(False)
    shown = gr.State("")
    pages = [page for page in ERRANDS if page in context.inboxes]
    targets = [context.tabs, *(context.inboxes[page] for page in pages)]

    def draw(opened: bool) -> Any:
        return _board(context, _gather(context)) if opened else gr.skip()

    def judge(opened: bool) -> Iterator[Any]:
        """The board again after each verdict that was not known yet."""
        while opened and _gather(context).weighing:
            yield _board(context, _gather(context, most=1))
        yield gr.skip()

    def conclude(opened: bool, before: str) -> list[Any]:
        """The grid as a whole, once every verdict is known."""
        found = _gather(context)
        if not opened or found.weighing:
            return [gr.skip(), gr.skip()]
        html = report.page(found, context.workspace)
        now = str(hash(html))
        return [gr.skip(), gr.skip()] if now == before else [html, now]

    def act(event: gr.EventData) -> list[Any]:
        return _act(context, event._data, pages)

    for event in (
        tab.select(lambda: True, None, seen, **QUIET).then(draw, seen, board, **QUIET),
        context.pulses["paper"].click(draw, seen, board, **QUIET),
    ):
        event.then(judge, seen, board, **QUIET).then(
            conclude, [seen, shown], [whole, shown], **QUIET
        )
    board.click(
        act, None, [board, *targets], api_visibility="private", show_progress="hidden"
    )  # fmt: skip


def _gather(context: Context, most: int = 0) -> Board:
    return results.gather(context.store.list(), context.workspace, most=most)


def _board(context: Context, found: Board) -> str:
    return paperboard.page(found, report.judgements(found, context.workspace))


def _act(context: Context, asked: dict[str, Any], pages: list[str]) -> list[Any]:
    """Do what was asked for: the board, the tabs, and the inbox of each of the pages."""
    stay = [gr.skip()] * (1 + len(pages))
    try:
        act = str(asked.get("act"))
        if act == "launch":
            spec = _spec(context, str(asked.get("task")), str(asked.get("method")))
            return [gr.skip(), *_errand(context, pages, "launch", spec=spec.to_json())]
        if act == "run":
            run = context.store.get(str(asked.get("run")))
            return [gr.skip(), *_errand(context, pages, "runs", run=run.id)]
        if act == "compare":
            runs = [context.store.get(one).id for one in str(asked.get("runs")).split(",")]
            return [gr.skip(), *_errand(context, pages, "compare", runs=runs)]
        if act in ("first", "all"):
            _queue(context, act, asked)
            return [_board(context, _gather(context)), *stay]
    except CoreError as error:
        gr.Warning(str(error), title="Not possible", duration=8)
    return [gr.skip(), *stay]


def _spec(context: Context, name: str, method: str) -> RunSpec:
    runs = context.store.list()
    task = tasks.find_task(name)
    board = results.gather(runs, context.workspace, most=0)
    cell = next(one for one in (*board.miniature, *board.tasks) if one.task is task)
    return results.next_spec(cell, method, runs)


def _queue(context: Context, act: str, asked: dict[str, Any]) -> None:
    """Queue the first comparison, or what all scaled-down tasks lack."""
    cells = _gather(context).miniature
    seeds = 1
    if act == "first":
        cells = tuple(cell for cell in cells if cell.task is results.FIRST)
    elif str(asked.get("seeds")).isdigit():
        seeds = min(max(int(asked["seeds"]), 1), MOST_SEEDS)
    wanted = results.missing(cells, seeds)
    for spec in {(one.data.name, one.adapter.method): one for one in wanted}.values():
        preflight.check(spec)
    for spec in wanted:
        queue.submit(context.store, spec)
    words = "1 run" if len(wanted) == 1 else f"{len(wanted)} runs"
    gr.Info(f"{words} queued; the Runs page shows how they get on.", title="Queued", duration=6)


def _errand(context: Context, pages: list[str], page: str, **wanted: Any) -> list[Any]:
    """Updates of the tabs and of all pages' inboxes that send the user to one of them."""
    if page not in pages:
        return [gr.skip()] * (1 + len(pages))
    tabs, request = context.request(page, **wanted)
    return [tabs, *(request if name == page else gr.skip() for name in pages)]
