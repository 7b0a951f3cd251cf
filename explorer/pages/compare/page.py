"""The Compare page: which run is better, and whether the difference is more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from core.config.run import RunSpec
from core.errors import CoreError
from core.evaluation.groups import counterpart
from core.experiments.cells import is_scored
from core.runs.run import Run, RunState
from core.workspace import STYLES
from explorer.components import run_comparison
from explorer.components.live_region import QUIET, live
from explorer.components.page_actions import queue_runs, warn
from explorer.components.run_comparison import Comparison
from explorer.context import Context
from explorer.formatting import run_title
from explorer.pages.compare import view
from explorer.pages.compare.rates import rate_charts
from explorer.pages.compare.saliency_panel import SaliencyPanel

TITLE = "Compare"

SHOWN = (RunState.COMPLETED, RunState.RUNNING, RunState.STOPPING, RunState.STOPPED)
"""States of the runs that can be chosen."""


def build(context: Context, tab: gr.Tab) -> None:
    """Lay out the choice of runs, their comparison, and the same radiograph under each run."""
    runs, baseline = _choices()
    style = (STYLES / "compare.css").read_text(encoding="utf-8")
    body = live(elem_id="compare-body", css_template=style)
    drawn = gr.State("")
    saliency = SaliencyPanel(context, runs)

    page = ComparePage(context)
    choice = [runs, baseline, drawn]
    shown = [runs, baseline, body, saliency.column, drawn]
    inbox = context.inboxes["compare"]
    context.pulses["compare"].click(page.refresh, choice, shown, **QUIET)
    saliency.update_after(tab.select(page.open, [*choice, inbox], shown, **QUIET))
    saliency.update_after(inbox.change(page.receive, [inbox, runs, drawn], shown, **QUIET))
    saliency.update_after(runs.input(page.show, choice, shown, **QUIET))
    baseline.input(page.show, choice, shown, **QUIET)
    body.click(page.act, choice, shown, api_visibility="private", show_progress="hidden")


def _choices() -> tuple[gr.Dropdown, gr.Dropdown]:
    """The choice of runs and of the baseline."""
    with gr.Row(equal_height=False, elem_classes="cxr-group"):
        runs = gr.Dropdown(
            [],
            label="Runs",
            info="Two to six. The verdict also uses their other seeds in this workspace.",
            multiselect=True,
            max_choices=run_comparison.MOST,
            elem_id="compare-runs",
            scale=4,
        )
        baseline = gr.Dropdown(
            [],
            label="Baseline",
            info="The others are compared with it.",
            elem_id="compare-against",
            scale=1,
            min_width=240,
            visible=False,
        )
    return runs, baseline


class ComparePage:
    """Handlers of the page.

    Each returns updates of the choice of runs, of the baseline, of the comparison, of the panel of
    radiographs, and a key of what is drawn.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._store = context.store

    def show(self, ids: list[str] | None, baseline: str | None, drawn: str) -> list[Any]:
        """Show the comparison of runs; nothing changes if it is drawn already.

        Args:
            ids: Ids of the runs.
            baseline: Id of a run of the group that the others are compared with.
            drawn: Key of what is drawn.
        """
        runs = self._store.list(states=list(SHOWN))
        known = {run.id for run in runs}
        ids = [name for name in ids or [] if name in known]
        completed = {run.id for run in self._completed()}
        choices = [(run_title(run), run.id) for run in runs]
        groups: list[tuple[str, str]] = []
        if len(ids) < 2:
            html = view.empty(len(completed))
        else:
            comparison = self._compare(ids, baseline)
            specs = [each.run.spec for each in comparison.runs]
            html = view.page(comparison, rate_charts(self._context.workspace, specs))
            groups = [(group.title, group.trials[0].id) for group in comparison.groups]
            reference = comparison.baseline
            baseline = reference.trials[0].id if reference else None
        with_maps = len(ids) > 1 and completed.issuperset(ids)
        key = f"{','.join(ids)} {hash((tuple(choices), html, baseline, with_maps))}"
        if key == drawn:
            return [gr.skip()] * 5
        return [
            gr.Dropdown(choices=choices, value=ids),
            gr.Dropdown(
                choices=groups, value=baseline if groups else None, visible=len(groups) > 1
            ),
            html,
            gr.Column(visible=with_maps),
            key,
        ]

    def refresh(self, ids: list[str] | None, baseline: str | None, drawn: str) -> list[Any]:
        """Show the comparison after a change in the store.

        Nothing changes if the page shows other runs by now: then the browser sent this request
        before it received the answer to an earlier one.
        """
        if drawn and drawn.split(" ")[0] != ",".join(ids or []):
            return [gr.skip()] * 5
        return self.show(ids, baseline, drawn)

    def open(
        self,
        ids: list[str] | None,
        baseline: str | None,
        drawn: str,
        request: dict[str, Any] | None,
    ) -> list[Any]:
        """Show the page when it is opened; two runs are suggested while none is chosen."""
        if not ids and request is not None:
            # Another page sent the user here: ``receive`` shows what it asked for.
            return [gr.skip()] * 5
        return self.show(ids or run_comparison.suggestion(self._completed()), baseline, drawn)

    def receive(
        self, request: dict[str, Any] | None, ids: list[str] | None, drawn: str
    ) -> list[Any]:
        """Show the runs that another page or the address asks for."""
        if request is None:
            return [gr.skip()] * 5
        return self.show(self._requested(request["runs"], ids or []), None, drawn)

    def act(
        self, ids: list[str] | None, baseline: str | None, drawn: str, event: gr.EventData
    ) -> list[Any]:
        """Queue the runs that a button of the comparison offers."""
        try:
            queue_runs(self._store, self._specs(str(event._data.get("act")), ids or [], baseline))
        except CoreError as error:
            warn(error)
        return self.show(ids, baseline, drawn)

    def _completed(self) -> list[Run]:
        runs = self._store.list(states=[RunState.COMPLETED])
        return [run for run in runs if is_scored(run, self._context.workspace)]

    def _compare(self, ids: Sequence[str], baseline: str | None) -> Comparison:
        return run_comparison.compare(self._store, self._context.workspace, ids, baseline)

    def _requested(self, names: Sequence[str], chosen: list[str]) -> list[str]:
        """Ids of the requested runs; a single run joins those already chosen."""
        ids = []
        for name in names[: run_comparison.MOST]:
            try:
                ids.append(self._store.get(name).id)
            except CoreError as error:
                gr.Warning(str(error), title="Not in this workspace", duration=8)
        ids = list(dict.fromkeys(ids))
        if len(names) != 1 or not ids:
            return ids
        if chosen and len(chosen) < run_comparison.MOST:
            return list(dict.fromkeys([*chosen, *ids]))
        return run_comparison.suggestion(self._completed(), ids[0]) or ids

    def _specs(self, act: str, ids: Sequence[str], baseline: str | None) -> list[RunSpec]:
        """The runs that a button queues."""
        if act == "pair":
            return [RunSpec(), counterpart(RunSpec(), "full")]
        if act == "partner":
            spec = self._completed()[0].spec
            return [counterpart(spec, "lora" if spec.adapter.method == "full" else "full")]
        if act == "seeds":
            return run_comparison.missing_seeds(self._compare(ids, baseline).groups)
        return []
