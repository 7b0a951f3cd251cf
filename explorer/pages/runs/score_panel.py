"""The selected run's scores in detail, and the choice of a prevalence and of a finding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from core.errors import ConfigurationError, CoreError
from core.evaluation.groups import Trial
from core.experiments.folds import joined_trial
from core.runs.run import Run
from core.workspace import STYLES
from explorer.components.live_region import QUIET, live
from explorer.context import Context
from explorer.pages.runs.scores import curve_findings, scores
from explorer.templates import error_message

PREVALENCE_ID = "runs-prevalence"

_ONE_BY_ONE: dict[str, Any] = {"concurrency_id": "runs-scores", "concurrency_limit": 1}
"""One answer after the other: a late one must not undo a later choice."""


class ScorePanel:
    """The scores below the selected run; laid out where this is called."""

    def __init__(self, context: Context) -> None:
        self._context = context
        with gr.Row(
            visible=False,
            equal_height=False,
            elem_classes="cxr-group",
            elem_id="runs-score-choices",
        ) as self._row:
            # Text: a number field that is hidden at first shows 0 instead of nothing.
            self._prevalence = gr.Textbox(
                "",
                label="Prevalence, in percent",
                info="For PPV, NPV and net benefit; if empty, that of the test split.",
                placeholder="that of the test split",
                max_lines=1,
                elem_id=PREVALENCE_ID,
            )
            self._finding = gr.Dropdown(
                [],
                label="Finding",
                info="The finding of the decision curve.",
                elem_id="runs-curve-finding",
            )
        style = "".join(
            (STYLES / name).read_text(encoding="utf-8") for name in ("compare.css", "sheet.css")
        )
        self._sheet = live(elem_id="runs-sheet", css_template=style)

    def listen(self, scored: gr.State, selection: gr.State) -> None:
        """Show the scores when they change, and when another prevalence or finding is chosen.

        Args:
            scored: Changes with the selected run and its scores.
            selection: The selected run.
        """
        choices = [selection, self._finding, self._prevalence]
        gr.on(
            [scored.change, self._finding.input, self._prevalence.submit, self._prevalence.blur],
            self.show,
            choices,
            [self._row, self._finding, self._sheet],
            **QUIET,
            **_ONE_BY_ONE,
        )

    def show(self, selection: Mapping[str, Any], finding: str | None, prevalence: str) -> list[Any]:
        """The scores with their controls, which are hidden for a run without scores.

        Args:
            selection: ``run`` is the id of the selected run.
            finding: Finding of the decision curve; the one with most positives if the run lacks it.
            prevalence: In percent; empty for that of the test split.
        """
        run, workspace = self._run(selection), self._context.workspace
        joined = self._joined(run) if run else None
        findings = curve_findings(run, workspace, joined) if run else []
        if run is None or not findings:
            html = scores(run, workspace, joined=joined) if run else ""
            return [gr.Row(visible=False), gr.skip(), html]
        names = [each.finding for each in findings]
        if finding not in names:
            finding = max(findings, key=lambda each: each.positives).finding
        problem, share = "", None
        try:
            share = share_of(prevalence)
        except CoreError as error:
            problem = error_message(error, PREVALENCE_ID)
        return [
            gr.Row(visible=True),
            gr.Dropdown(choices=[(name.replace("_", " "), name) for name in names], value=finding),
            scores(run, workspace, finding, share, problem, joined),
        ]

    def _run(self, selection: Mapping[str, Any]) -> Run | None:
        try:
            return self._context.store.get(selection["run"]) if selection["run"] else None
        except CoreError:
            return None

    def _joined(self, run: Run) -> Trial | None:
        """All folds of a run's cross-validation; None without one, or if folds are missing."""
        if run.spec.data.fold is None:
            return None
        try:
            return joined_trial(run.spec, self._context.store, self._context.workspace)
        except CoreError:
            return None


def share_of(percent: str) -> float | None:
    """The share that a percentage names: 0.02 for ``2`` or ``2 %``; None if it is empty.

    Raises:
        ConfigurationError: It is not a percentage above 0 and below 100.
    """
    text = percent.strip().removesuffix("%").strip().replace(",", ".")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if 0 < value < 100:
        return value / 100
    raise ConfigurationError(
        f"“{percent.strip()}” is not a possible prevalence.",
        "Give a percentage above 0 and below 100, such as 2, or leave the field empty.",
    )
