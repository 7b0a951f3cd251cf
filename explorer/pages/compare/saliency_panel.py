"""The same radiograph under each of the compared runs."""

from __future__ import annotations

from typing import Any

import gradio as gr

from core.data.base import ChestDataset
from core.errors import CoreError
from explorer.components import model_cache, study_list, study_views, viewer
from explorer.components.live_region import QUIET, live
from explorer.context import Context
from explorer.templates import error_message, render

METHOD = "grad-cam"
"""The saliency method of the maps."""
INVITATION = "Press “Show where each looks” to see the same radiograph under each run."


class SaliencyPanel:
    """Saliency maps of one study, one per compared run; laid out where this is called."""

    def __init__(self, context: Context, runs: gr.Dropdown) -> None:
        self._context = context
        self._runs = runs
        self._models = model_cache.model_cache(context.workspace, context.store)
        self._requested = gr.State(False)
        with gr.Column(visible=False, elem_id="compare-saliency") as self.column:
            gr.HTML(render("pages/compare/saliency_panel.html.j2"), apply_default_css=False)
            with gr.Row(equal_height=False):
                self._finding = gr.Dropdown(
                    [], label="Finding", min_width=160, scale=2, elem_id="compare-finding"
                )
                self._study = gr.Dropdown(
                    [], label="Study", min_width=200, scale=4, elem_id="compare-study"
                )
                self._show = gr.Button(
                    "Show where each looks",
                    variant="primary",
                    size="sm",
                    min_width=160,
                    elem_id="compare-look",
                )
                self._open = gr.Button(
                    "Open in Saliency", size="sm", min_width=140, elem_id="compare-leave"
                )
            self._viewer = viewer.radiographs(
                elem_id="compare-viewer",
                label="The same radiograph under each of the compared runs",
            )
            self._below = live()
        self._maps = [self._viewer, self._below]
        self._choices = [self._finding, self._study]
        self._listen()

    def _listen(self) -> None:
        """Attach the handlers to the panel's own controls."""
        chosen = [self._runs, *self._choices]
        self._show.click(lambda: True, None, self._requested, **QUIET).then(
            self.explain, [*chosen, self._requested], self._maps, api_visibility="private"
        )
        self._finding.input(self.offer, chosen, self._choices, **QUIET).then(
            self.explain, [*chosen, self._requested], self._maps, **QUIET
        )
        self._study.input(self.explain, [*chosen, self._requested], self._maps, **QUIET)
        for event, step in (
            (self._viewer.next_study, self.next_study),
            (self._viewer.previous_study, self.previous_study),
        ):
            event(step, chosen, self._study, **QUIET).then(
                self.explain, [*chosen, self._requested], self._maps, **QUIET
            )
        self._open.click(self.open_saliency, chosen, self._context.outputs("saliency"), **QUIET)

    def update_after(self, event: Any) -> None:
        """Offer the studies of other runs, and draw their maps, after the compared runs changed."""
        chosen = [self._runs, *self._choices]
        event.then(self.offer, chosen, self._choices, **QUIET).then(
            self.explain, [*chosen, self._requested], self._maps, **QUIET
        )

    def offer(self, runs: list[str] | None, finding: str | None, study: str | None) -> list[Any]:
        """The findings of the first run's data set, and its studies that have the chosen one."""
        if not runs or len(runs) < 2:
            return [gr.skip(), gr.skip()]
        try:
            dataset = self._dataset(runs[0])
        except CoreError:
            # ``explain`` shows the error in place of the maps.
            return [gr.skip(), gr.Dropdown(choices=[], value=None)]
        if finding not in dataset.findings:
            finding = dataset.findings[0]
        studies = _studies(dataset, finding)
        return [
            gr.Dropdown(
                choices=[(name.replace("_", " "), name) for name in dataset.findings], value=finding
            ),
            gr.Dropdown(
                choices=study_list.choices(dataset, studies),
                value=study if study in studies else next(iter(studies), None),
            ),
        ]

    def explain(
        self, runs: list[str] | None, finding: str | None, study: str | None, requested: bool
    ) -> list[Any]:
        """The study's map by each run, and the text below; an invitation until requested."""
        if not requested:
            return [viewer.viewer_value([], empty=INVITATION), ""]
        if not runs or len(runs) < 2 or finding is None or study is None:
            empty = "No study of the test split has this finding."
            return [viewer.viewer_value([], empty=empty), ""]
        try:
            return self._draw(runs, finding, study)
        except CoreError as error:
            return [viewer.viewer_value([], empty=str(error)), error_message(error)]

    def next_study(
        self, runs: list[str] | None, finding: str | None, study: str | None
    ) -> str | None:
        """The study after the shown one."""
        return self._step(runs, finding, study, 1)

    def previous_study(
        self, runs: list[str] | None, finding: str | None, study: str | None
    ) -> str | None:
        """The study before the shown one."""
        return self._step(runs, finding, study, -1)

    def open_saliency(
        self, runs: list[str] | None, finding: str | None, study: str | None
    ) -> list[Any]:
        """Open the Saliency page with the same runs, finding and study."""
        first, *others = runs or []
        return self._context.request(
            "saliency", run=first, others=others, study=study, finding=finding
        )

    def _step(
        self, runs: list[str] | None, finding: str | None, study: str | None, by: int
    ) -> str | None:
        if not runs:
            return study
        return study_list.step(_studies(self._dataset(runs[0]), finding), study, by)

    def _dataset(self, run: str) -> ChestDataset:
        return self._models.dataset(self._context.store.get(run).spec.data)

    def _draw(self, names: list[str], finding: str, study: str) -> list[Any]:
        runs = [self._context.store.get(name) for name in names]
        dataset = self._models.dataset(runs[0].spec.data)
        views = study_views.views(
            study_views.read(self._models, runs, study, finding, METHOD),
            self._models.radiograph(runs[0].spec.data, study),
            finding,
            dataset=dataset,
            study=dataset.study(study),
            difference=(runs[0].id, runs[1].id) if len(runs) == 2 else None,
        )
        value = viewer.viewer_value(
            views, study=study, heading=study_views.heading(study, finding, METHOD), steps=True
        )
        return [value, study_views.caveat(METHOD)]


def _studies(dataset: ChestDataset, finding: str | None) -> list[str]:
    """Studies of the test split, or else of the validation split, that have a finding."""
    if finding is None or finding not in dataset.findings:
        return []
    return study_list.studies(
        dataset,
        "test" if dataset.ids("test") else "val",
        finding=finding,
        present=True,
        marked=False,
        order="listed",
        predictions=[],
    )
