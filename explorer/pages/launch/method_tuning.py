"""Tune, on the launch form: several methods, each at its own best settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from core.config.run import RunSpec
from core.data.datasets import registered
from core.errors import ConfigurationError, CoreError
from core.experiments.tune import background
from core.experiments.tune.plan import FINAL_SEEDS, TRIALS, Plan, check, expected_seconds, plan_of
from core.experiments.tune.space import ALL
from core.models.tuning.registry import TUNING_METHODS
from core.models.tuning.search import ALPHA_OVER_RANK, RATE
from core.runs.store import Store
from explorer.components.live_region import live
from explorer.pages.launch import form, preview
from explorer.templates import error_message, render_macro

TEMPLATE = "pages/launch/method_tuning.html.j2"
ALWAYS = ("full", "linear")
"""Methods that are tuned, with that of the form, unless others are chosen."""


@dataclass(frozen=True)
class TuneChoice:
    """Values of the fields; an empty one leaves the default.

    Attributes:
        methods: Names of methods.
        search: Names of the settings to tune.
        trials: Trials of each method as typed.
        budget: Training time of each method as typed.
        seeds: Tuning seeds as typed.
        final_seeds: Number of fresh seeds, or the seeds, as typed.
    """

    methods: Sequence[str] = ()
    search: Sequence[str] = (RATE,)
    trials: str = ""
    budget: str = ""
    seeds: str = ""
    final_seeds: str = ""

    @classmethod
    def read(cls, values: Sequence[Any]) -> TuneChoice:
        """Read the values of the fields that ``group`` made."""
        methods, search, *typed = values
        return cls(tuple(methods or ()), tuple(search or ()), *((text or "") for text in typed))


@dataclass(frozen=True)
class TuneGroup:
    """Components of the group.

    Attributes:
        fold: The group itself; it is previewed only while it is open.
        fields: The fields, as ``TuneChoice.read`` expects them.
        preview: What the tuning would try, and how long it takes.
        button: Starts the tuning.
    """

    fold: gr.Accordion
    fields: list[Any]
    preview: gr.HTML
    button: gr.Button


def group() -> TuneGroup:
    """Lay out the fields, folded."""
    with gr.Accordion(
        "Tune: several methods, each with its own best settings, compared with fresh seeds",
        open=False,
        elem_classes="cxr-group",
        elem_id="f-tune",
    ) as fold:
        methods = gr.CheckboxGroup(
            [(method.title, name) for name, method in TUNING_METHODS.items()],
            label="Methods",
            info="Without a choice: the method of the form, full fine-tuning and the linear probe.",
            elem_id="f-tune-methods",
        )
        with gr.Row():
            trials = gr.Textbox(
                label="Trials per method", placeholder=str(TRIALS), elem_id="f-tune-trials"
            )
            budget = gr.Textbox(
                label="Or time per method", placeholder="20m", elem_id="f-tune-budget"
            )
            seeds = gr.Textbox(
                label="Tuning seeds", placeholder="0", elem_id="f-tune-seeds", min_width=110
            )
            final_seeds = gr.Textbox(
                label="Number of final seeds",
                placeholder=str(FINAL_SEEDS),
                elem_id="f-tune-final-seeds",
            )
        search = gr.Dropdown(
            search_choices(),
            value=[RATE],
            multiselect=True,
            label="Settings that are tuned",
            info="Settings that you change in the form are kept.",
            elem_id="f-tune-search",
        )
        shown = live(elem_id="tune-preview")
        button = gr.Button("Tune", variant="primary", elem_id="tune-button", size="md")
    return TuneGroup(fold, [methods, search, trials, budget, seeds, final_seeds], shown, button)


def search_choices() -> list[tuple[str, str]]:
    """The settings of all search spaces as (text, name) pairs."""
    names = dict.fromkeys(name for method in TUNING_METHODS.values() for name in method.searches)
    return [*((_setting(name), name) for name in names), ("all settings of the method", ALL)]


def plan(
    store: Store, values: Mapping[str, Any], percent: float | None, choice: TuneChoice
) -> Plan:
    """The plan that the form describes.

    Args:
        store: The store, with the workspace's registered data sets.
        values: Values of the form's fields by path.
        percent: The label fraction typed in percent.
        choice: Values of the group's fields.

    Raises:
        ConfigurationError: A value cannot be read.
    """
    methods = choice.methods or tuple(dict.fromkeys((values["adapter.method"], *ALWAYS)))
    # The form leaves out settings that its own method does not support.
    widest = max(methods, key=lambda name: len(preview.supported_paths(name)))
    spec = preview.spec_of({**values, "adapter.method": widest}, percent)
    given = _changed(spec)
    resolved = registered.resolved_run(store.workspace, spec)
    return plan_of(
        resolved,
        given,
        methods,
        _trials(choice.trials),
        choice.budget.strip() or None,
        choice.search,
        choice.seeds.strip() or "0",
        choice.final_seeds.strip() or str(FINAL_SEEDS),
    )


def summary(
    store: Store, values: Mapping[str, Any], percent: float | None, choice: TuneChoice
) -> Markup:
    """Search spaces, number of runs and expected time as HTML, or what is wrong."""
    try:
        planned = plan(store, values, percent, choice)
        spaces = check(planned)
        seconds = expected_seconds(planned, store)
    except CoreError as error:
        return fault(error)
    counts = [
        None if planned.trials is None else len(planned.seeds) * (planned.trials if space else 1)
        for space in spaces.values()
    ]
    return render_macro(
        TEMPLATE,
        "summary",
        plan=planned,
        spaces=spaces,
        titles={name: TUNING_METHODS[name].title for name in spaces},
        named=_setting,
        trial_runs=None if None in counts else sum(filter(None, counts)),
        final_runs=len(planned.methods) * len(planned.final_seeds),
        seconds=seconds,
    )


def submit(
    store: Store, values: Mapping[str, Any], percent: float | None, choice: TuneChoice
) -> str:
    """Add the tuning that the form describes; the explorer runs it. For the arguments see ``plan``.

    Returns:
        Its name.

    Raises:
        CoreError: It cannot work; nothing is added.
    """
    return background.submit(plan(store, values, percent, choice), store, store.workspace)


def fault(error: CoreError) -> Markup:
    """An error as HTML, which the page shows under the field that caused it."""
    cause = error.cause.removeprefix("The settings are not valid. ")
    shown = CoreError(cause, error.remedy)
    return error_message(shown, form.element_id(error.field) if error.field else "")


def _setting(name: str) -> str:
    """A setting of a search space as text."""
    return {RATE: "learning rate", ALPHA_OVER_RANK: "alpha / r"}.get(name, name.replace("_", " "))


def _changed(spec: RunSpec) -> set[str]:
    """Paths of the settings that differ from the defaults."""
    defaults, _ = form.values_of(RunSpec())
    values, _ = form.values_of(spec)
    return {path for path, value in values.items() if value != defaults[path]}


def _trials(text: str) -> int | None:
    if not text.strip():
        return None
    try:
        return int(text)
    except ValueError as error:
        raise ConfigurationError(
            f"“{text}” is not a number of trials.", "Type a whole number.", field="tune.trials"
        ) from error
