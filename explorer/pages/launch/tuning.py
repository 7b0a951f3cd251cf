"""The tuning part of the launch form: recipe, method, and the settings that the method heeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from core.config.run import TARGETS, RunSpec
from core.errors import CoreError
from core.experiments.paper import recipes
from core.models.tuning.applicability import Offer, defaults
from core.models.tuning.options import OPTIONS
from core.models.tuning.registry import TUNING_METHODS
from explorer.components.live_region import live
from explorer.pages.launch import form, method_table

SHOWN = tuple(name for name in OPTIONS if name not in ("rank", "alpha", "dropout"))
"""Settings of methods that stand in a row of their own."""
PATHS = tuple(f"adapter.{name}" for name in SHOWN)
NAMED_BY = ("model.backbone", "data.name", "data.label_fraction", "adapter.method")
"""Settings that choose the paper's recipe."""


@dataclass(frozen=True)
class Tuning:
    """Parts of the group that are no setting of a run.

    Attributes:
        recipe: The choice of a recipe.
        recipe_note: What it set, or why there is none.
        method_note: What the method does.
        methods: The table of all methods.
        repeats: Number of seeds.
    """

    recipe: gr.Radio
    recipe_note: gr.HTML
    method_note: gr.HTML
    methods: gr.HTML
    repeats: gr.Number


def group(fields: dict[str, Any], start: Mapping[str, Any]) -> Tuning:
    """Lay out the group; its fields are added to ``fields`` by their settings' paths."""
    with gr.Column(elem_classes="cxr-group"):
        gr.HTML('<h2 class="cxr-head">Tuning</h2>', apply_default_css=False)
        recipe = gr.Radio(
            [("default values", "default"), ("the paper's recipe", "paper")],
            value="default",
            label="Recipe: settings that belong together",
            elem_id="f-recipe",
            elem_classes="cxr-choices",
        )
        recipe_note = gr.HTML("", apply_default_css=False, elem_id="recipe-note")
        fields["adapter.method"] = gr.Radio(
            [(method.title, name) for name, method in TUNING_METHODS.items()],
            value=start["adapter.method"],
            label="Method",
            elem_id=form.element("adapter.method"),
            elem_classes="cxr-choices",
        )
        method_note = gr.HTML(method_table.card(start["adapter.method"]), apply_default_css=False)
        methods = live(method_table.WAITING, elem_id="launch-methods")
        with gr.Row():
            for name in ("rank", "alpha"):
                fields[f"adapter.{name}"] = _number(f"adapter.{name}", start)
        with gr.Row():
            for path in PATHS:
                fields[path] = _field(path, start)
        with gr.Row():
            for path, label in (("train.epochs", "Epochs"), ("train.seed", "Seed")):
                fields[path] = gr.Number(
                    start[path], label=label, elem_id=form.element(path), min_width=120
                )
            repeats = gr.Number(
                1, label="Number of seeds", precision=0, min_width=90, elem_id="f-repeats"
            )
    return Tuning(recipe, recipe_note, method_note, methods, repeats)


def looks(method: str) -> dict[str, dict[str, Any]]:
    """How the rows' fields look for a method, by path: hidden, or with its default in grey."""
    heeded, known = TUNING_METHODS[method].options, defaults(TUNING_METHODS[method])
    found: dict[str, dict[str, Any]] = {}
    for name, path in zip(SHOWN, PATHS, strict=True):
        found[path] = {"visible": name in heeded}
        if name in heeded and name not in ("targets", "prompt_depth"):
            found[path]["placeholder"] = str(known[name])
    return found


def survey(values: Mapping[str, Any]) -> list[Any]:
    """The methods and the targets that fit the backbone, and the table of all methods."""
    offered = method_table.found(values)
    if not offered:
        return [gr.skip(), gr.skip(), ""]
    method = values["adapter.method"]
    table = method_table.table(offered, method, values["data.name"])
    return [_methods(offered, method), _targets(offered, method, values["adapter.targets"]), table]


def follow(recipe: str, values: Mapping[str, Any], percent: float | None) -> list[Any]:
    """What the fields of ``recipes.SETS`` are set to."""
    try:
        asked = _asked(recipe, values, percent)
    except CoreError:
        asked = {}
    shown = {
        path: form.text(value) if path in form.TYPED else "" if value is None else value
        for path, value in asked.items()
    }
    return [shown.get(path, gr.skip()) for path in recipes.SETS]


def reset() -> list[Any]:
    """The defaults of these fields, for who leaves a recipe."""
    start, _ = form.values_of(RunSpec())
    start["train.augmentation"] = form.DEFAULTED
    return [start[path] for path in recipes.SETS]


def recipe_note(recipe: str, values: Mapping[str, Any], percent: float | None) -> str:
    """What a recipe set, what was changed since, or which recipes there are."""
    if recipe == "default":
        return ""
    try:
        asked = _asked(recipe, values, percent)
        task, _ = _paper(values, percent)
    except CoreError as error:
        return f'<p class="cxr-sentence"><b>{escape(error.cause)}</b> {escape(error.remedy)}</p>'
    told: list[str] = []
    changed: list[str] = []
    for path, value in asked.items():
        shown = form.number(values[path]) if path in form.TYPED else values[path]
        words = f"{recipes.name(path)} {recipes.written(value)}"
        same = shown == value or (shown in ("", None) and value is None)
        (told if same else changed).append(words)
    source = task.recipes[values["adapter.method"]].source
    text = f"Set for {escape(task.name)}: {escape(', '.join(told))}. {escape(source)}"
    if changed:
        text += f" <b>Yours instead of: {escape(', '.join(changed))}.</b>"
    return f'<p class="cxr-sentence">{text}</p>'


def _asked(recipe: str, values: Mapping[str, Any], percent: float | None) -> dict[str, Any]:
    asked = {} if recipe == "default" else _paper(values, percent)[1]
    return {path: value for path, value in asked.items() if path in values}


def _paper(values: Mapping[str, Any], percent: float | None) -> Any:
    spec = form.spec_of({path: values[path] for path in NAMED_BY}, percent)
    return recipes.paper_values(
        spec.model.backbone, spec.data.name, spec.data.label_fraction, spec.adapter.method
    )


def _methods(offered: tuple[Offer, ...], chosen: str) -> Any:
    """The choices of the method; one that was chosen stays, and the panel says what is wrong."""
    fitting = [one.method for one in offered if one.count or one.method.name == chosen]
    return gr.update(choices=[(one.title, one.name) for one in fitting])


def _targets(offered: tuple[Offer, ...], method: str, chosen: str | None) -> Any:
    fitting = next((one.targets for one in offered if one.method.name == method), ())
    if not fitting:
        return gr.skip()
    words = OPTIONS["targets"].choices
    choices = [(words[name], name) for name in fitting]
    if chosen in TARGETS and chosen not in fitting:
        return gr.update(choices=choices, value=fitting[0])
    return gr.update(choices=choices)


def _field(path: str, start: Mapping[str, Any]) -> Any:
    name = path.partition(".")[2]
    option = OPTIONS[name]
    about = {"label": option.label, "elem_id": form.element(path), "min_width": 200}
    about |= looks(start["adapter.method"])[path]
    if not option.choices:
        # Text for numbers too: a number field that is first hidden comes up as 0 instead of empty.
        return gr.Textbox(start[path], **about)
    words = [(meaning, value) for value, meaning in option.choices.items()]
    if not option.free:  # the first is the default, which needs no name
        words = [(f"{words[0][0]} (default)", ""), *words[1:]]
    return gr.Dropdown(words, value=start[path], allow_custom_value=option.free, **about)


def _number(path: str, start: Mapping[str, Any]) -> gr.Number:
    label = OPTIONS[path.partition(".")[2]].label
    return gr.Number(start[path], label=label, elem_id=form.element(path), min_width=120)
