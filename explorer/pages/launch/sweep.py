"""The launch form's sweep: several methods, ranks and label fractions in place of one of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from core import formatting
from core.config.run import LABEL_FRACTIONS
from core.data.datasets import registered
from core.errors import ConfigurationError, CoreError
from core.experiments import sweep
from core.models.tuning.registry import TUNING_METHODS
from core.resources import memory
from core.runs.store import Run, Store
from core.training.joint import compatibility
from explorer.pages.launch import preview
from explorer.templates import error_message

NOTHING = '<p class="cxr-muted cxr-small">Nothing chosen: one run for each seed.</p>'


@dataclass(frozen=True)
class Chosen:
    """What the sweep's fields hold.

    Attributes:
        methods: Names of methods; empty for the form's own, as for the others.
        ranks: As typed: ``4, 8``.
        fractions: Label fractions.
        together: Whether they share one process and its forward passes.
    """

    methods: Sequence[str] = ()
    ranks: str = ""
    fractions: Sequence[float] = ()
    together: bool = False

    def __bool__(self) -> bool:
        return bool(self.methods or self.ranks.strip() or self.fractions or self.together)


def planned(
    store: Store,
    values: Mapping[str, Any],
    percent: float | None,
    repeats: float | None,
    chosen: Chosen,
) -> sweep.Plan:
    """What would be queued.

    Raises:
        CoreError: Whatever would stop one of the runs.
    """
    if chosen.methods:  # the form leaves out what its own method does not heed
        wide = max(chosen.methods, key=lambda name: len(preview.heeds(name)))
        values = {**values, "adapter.method": wide}
    spec = registered.resolved_run(store.workspace, preview.spec_of(values, percent))
    count = preview.repeated(repeats)
    specs = sweep.grid(
        spec,
        list(chosen.methods),
        _ranks(chosen.ranks),
        list(chosen.fractions),
        range(spec.train.seed, spec.train.seed + count),
    )
    found = sweep.plan(specs, store, store.workspace.cache)
    if chosen.together and found.new:
        compatibility.check_compatible(found.new)
    return found


def submit(
    store: Store,
    values: Mapping[str, Any],
    percent: float | None,
    repeats: float | None,
    chosen: Chosen,
) -> list[Run]:
    """Queue the sweep.

    Raises:
        CoreError: Whatever would stop one of the runs, or all of them are there already; nothing
            is queued then.
    """
    found = planned(store, values, percent, repeats, chosen)
    if not found.new:
        raise ConfigurationError(
            "All these runs are completed or waiting already.",
            "Choose other methods, ranks, fractions or seeds.",
            field="sweep",
        )
    return sweep.submit(store, found, together=chosen.together)


def sentence(
    store: Store,
    values: Mapping[str, Any],
    percent: float | None,
    repeats: float | None,
    chosen: Chosen,
) -> tuple[str, str]:
    """How many runs and how long, as HTML, and what the launch button says."""
    if not chosen:
        return NOTHING, "Launch run"
    try:
        found = planned(store, values, percent, repeats, chosen)
    except CoreError as error:
        return error_message(error), "Launch run"
    count = len(found.new)
    words = f"<b>{count} run{'s' * (count != 1)}</b>"
    if count:
        words += f", about <b>{formatting.duration(found.seconds)}</b> one after the other"
    if count and chosen.together:
        needed = memory.predict_together([spec.resolved() for spec in found.new])
        words += f"; together {_at_most(needed)}, each with the result that it has alone"
    if found.known:
        words += f"; {len(found.known)} more are completed or waiting and are left out"
    return f'<p class="cxr-sentence">{words}.</p>', f"Launch {count} run{'s' * (count != 1)}"


def _at_most(needed: int | None) -> str:
    return (
        "in one process" if needed is None else f"in about {formatting.gigabytes(needed)} of memory"
    )


def _ranks(text: str) -> list[int]:
    try:
        return [int(word) for word in text.replace(",", " ").split()]
    except ValueError as error:
        raise ConfigurationError(
            f"“{text}” is no list of ranks.", "Type whole numbers: 2, 4, 8.", field="sweep"
        ) from error


def lay_out() -> tuple[list[Any], gr.HTML]:
    """The sweep's fields, folded, and the place of its sentence."""
    with gr.Accordion(
        "Sweep: several methods, ranks or label fractions, in place of the one chosen above",
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
        fractions = gr.CheckboxGroup(
            [(f"{100 * one:g}%", one) for one in LABEL_FRACTIONS],
            label="Label fractions",
            elem_id="f-sweep-fractions",
        )
        together = gr.Checkbox(
            False,
            label="Train them together, in one process with one frozen backbone: for LoRA, rsLoRA "
            "and LoRA+",
            elem_id="f-sweep-together",
        )
        sentence = gr.HTML(NOTHING, apply_default_css=False, elem_id="f-sweep-sentence")
    return [methods, ranks, fractions, together], sentence


def chosen(fields: Sequence[Any]) -> Chosen:
    """Read the fields that ``lay_out`` made."""
    methods, ranks, fractions, together = fields
    return Chosen(tuple(methods or ()), ranks or "", tuple(fractions or ()), bool(together))
