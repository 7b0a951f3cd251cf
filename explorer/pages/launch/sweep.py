"""The sweep of the launch form: several values of its main settings in one go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from core.config.run import LABEL_FRACTIONS
from core.config.tuned import with_tuned_defaults
from core.data.datasets import registered
from core.errors import ConfigurationError, CoreError
from core.experiments import sweep
from core.formatting import gigabytes
from core.models.tuning.registry import TUNING_METHODS
from core.resources import memory
from core.runs.run import Run
from core.runs.store import Store
from core.training.joint import compatibility
from explorer.components.live_region import live
from explorer.pages.launch import form, preview
from explorer.templates import error_message, render_macro

TEMPLATE = "pages/launch/sweep.html.j2"


@dataclass(frozen=True)
class SweepChoice:
    """Values of the sweep's fields; an empty one leaves the form's own value.

    Attributes:
        methods: Names of methods.
        ranks: Ranks as typed: ``4, 8``.
        fractions: Label fractions.
        joint: Whether the runs share one process and its forward passes.
        lrs: Learning rates as typed.
        alphas: Values of alpha as typed.
        alphas_over_rank: Values of alpha / rank as typed.
        folds: Number of folds of a cross-validation as typed; each is a run.
    """

    methods: Sequence[str] = ()
    ranks: str = ""
    fractions: Sequence[float] = ()
    joint: bool = False
    lrs: str = ""
    alphas: str = ""
    alphas_over_rank: str = ""
    folds: str = ""

    def __bool__(self) -> bool:
        typed = "".join((self.ranks, self.lrs, self.alphas, self.alphas_over_rank, self.folds))
        return bool(self.methods or typed.strip() or self.fractions or self.joint)

    @classmethod
    def read(cls, values: Sequence[Any]) -> SweepChoice:
        """Read the values of the fields that ``group`` made, and of the number of folds."""
        methods, ranks, fractions, joint, *typed = values
        texts = (text or "" for text in typed)
        return cls(tuple(methods or ()), ranks or "", tuple(fractions or ()), bool(joint), *texts)


def group() -> list[Any]:
    """Lay out the sweep's fields, folded, and return them."""
    with gr.Accordion(
        "Sweep: several methods, label fractions, ranks or learning rates, instead of the single "
        "values above",
        open=False,
        elem_classes="cxr-group",
        elem_id="f-sweep",
    ):
        methods = gr.CheckboxGroup(
            [(method.title, name) for name, method in TUNING_METHODS.items()],
            label="Methods",
            elem_id="f-sweep-methods",
        )
        ranks = gr.Textbox(
            label="Ranks r, for methods that have one",
            placeholder="2, 4, 8",
            elem_id="f-sweep-ranks",
        )
        with gr.Row():
            lrs = gr.Textbox(
                label="Learning rates", placeholder="0.0005, 0.002", elem_id="f-sweep-lrs"
            )
            alphas = gr.Textbox(
                label="Alphas",
                info="Without them, alpha / r stays that of the form.",
                placeholder="16, 32",
                elem_id="f-sweep-alphas",
            )
            quotients = gr.Textbox(
                label="Alpha / r, instead of alphas",
                placeholder="1, 2, 8",
                elem_id="f-sweep-alpha-over-rank",
            )
        fractions = gr.CheckboxGroup(
            [(f"{100 * fraction:g}%", fraction) for fraction in LABEL_FRACTIONS],
            label="Label fractions",
            elem_id="f-sweep-fractions",
        )
        joint = gr.Checkbox(
            False,
            label="Joint training: all runs in one process on one frozen backbone (LoRA, rsLoRA "
            "and LoRA+)",
            elem_id="f-sweep-together",
        )
    return [methods, ranks, fractions, joint, lrs, alphas, quotients]


def summary_region() -> gr.HTML:
    """The region of the summary; not in a fold, since Gradio draws nothing in closed ones."""
    return live(render_macro(TEMPLATE, "nothing"), elem_id="f-sweep-sentence")


def plan(
    store: Store,
    values: Mapping[str, Any],
    percent: float | None,
    seeds: float | None,
    choice: SweepChoice,
) -> sweep.Plan:
    """The runs that a sweep would queue.

    Args:
        store: Runs that are already there are left out.
        values: Values of the form's fields by path.
        percent: The label fraction typed in percent.
        seeds: Number of seeds.
        choice: Values of the sweep's fields.

    Raises:
        CoreError: One of the runs could not start.
    """
    if choice.methods:  # the form leaves out settings that its own method does not support
        widest = max(choice.methods, key=lambda name: len(preview.supported_paths(name)))
        values = {**values, "adapter.method": widest}
    spec = registered.resolved_run(store.workspace, preview.spec_of(values, percent))
    specs = sweep.grid(
        spec,
        list(choice.methods),
        _numbers(choice.ranks, int, "ranks", "Type whole numbers: 2, 4, 8."),
        list(choice.fractions),
        range(spec.train.seed, spec.train.seed + preview.seed_count(seeds)),
        _folds(choice.folds),
        lrs=_numbers(choice.lrs, float, "learning rates", "Type numbers: 0.0005, 0.002."),
        alphas=_numbers(choice.alphas, float, "alphas", "Type numbers: 16, 32."),
        alphas_over_rank=_numbers(
            choice.alphas_over_rank, float, "values of alpha / r", "Type numbers: 1, 2, 8."
        ),
    )
    planned = sweep.plan(map(with_tuned_defaults, specs), store, store.workspace.cache)
    if choice.joint and planned.new:
        compatibility.check_compatible(planned.new)
    return planned


def submit(
    store: Store,
    values: Mapping[str, Any],
    percent: float | None,
    seeds: float | None,
    choice: SweepChoice,
) -> list[Run]:
    """Queue a sweep; for the arguments see ``plan``.

    Raises:
        CoreError: One of the runs could not start, or all of them exist already; nothing is
            queued then.
    """
    planned = plan(store, values, percent, seeds, choice)
    if not planned.new:
        raise ConfigurationError(
            "All these runs are already completed or queued.",
            "Choose other values of the sweep, or other seeds.",
            field="sweep",
        )
    return sweep.submit(store, planned, together=choice.joint)


def summary(
    store: Store,
    values: Mapping[str, Any],
    percent: float | None,
    seeds: float | None,
    choice: SweepChoice,
) -> tuple[Markup, str]:
    """Number and duration of a sweep's runs as HTML, and the text of the launch button."""
    if not choice:
        return render_macro(TEMPLATE, "nothing"), "Launch run"
    try:
        planned = plan(store, values, percent, seeds, choice)
    except CoreError as error:
        field = "" if error.field in (None, "sweep") else form.element_id(error.field)
        return error_message(error, field), "Launch run"
    needed = (
        memory.predict_together([spec.resolved() for spec in planned.new])
        if choice.joint and planned.new
        else None
    )
    text = render_macro(
        TEMPLATE,
        "summary",
        plan=planned,
        joint=choice.joint,
        memory=None if needed is None else gigabytes(needed),
    )
    count = len(planned.new)
    return text, f"Launch {count} run{'s' * (count != 1)}"


def _folds(text: str) -> int | None:
    if not text.strip():
        return None
    try:
        return int(text)
    except ValueError as error:
        raise ConfigurationError(
            f"“{text}” is not a number of folds.", "Type a whole number: 5.", field="folds"
        ) from error


def _numbers(text: str, kind: Callable[[str], Any], named: str, remedy: str) -> list[Any]:
    try:
        return [kind(word) for word in text.replace(",", " ").split()]
    except ValueError as error:
        raise ConfigurationError(
            f"“{text}” is not a list of {named}.", remedy, field="sweep"
        ) from error
