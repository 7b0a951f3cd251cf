"""The tuning group of the launch form: recipe, method, and the method's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from core.config.run import TARGETS, RunSpec
from core.errors import CoreError
from core.experiments.paper import recipes
from core.experiments.paper.tasks import Task
from core.models.tuning.applicability import Offer, defaults
from core.models.tuning.options import OPTIONS
from core.models.tuning.registry import TUNING_METHODS
from explorer.components.live_region import live
from explorer.pages.launch import form, method_table
from explorer.pages.launch.layout import titled_group
from explorer.templates import render_macro

TEMPLATE = "pages/launch/tuning.html.j2"
OWN_ROW = tuple(name for name in OPTIONS if name not in ("rank", "alpha", "dropout"))
"""Settings of methods in a row of their own."""
PATHS = tuple(f"adapter.{name}" for name in OWN_ROW)
RECIPE_KEYS = ("model.backbone", "data.name", "data.label_fraction", "adapter.method")
"""Settings that select the paper's recipe."""


@dataclass(frozen=True)
class TuningGroup:
    """Components of the group that are not settings of a run.

    Attributes:
        recipe: The choice of a recipe.
        recipe_note: The values that it set, or why there is none.
        method_note: Description of the method.
        methods: The table of all methods.
        seeds: Number of seeds.
    """

    recipe: gr.Radio
    recipe_note: gr.HTML
    method_note: gr.HTML
    methods: gr.HTML
    seeds: gr.Number


def group(fields: dict[str, Any], start: Mapping[str, Any]) -> TuningGroup:
    """Lay out the group.

    Args:
        fields: The group's fields are added to it by the paths of their settings.
        start: First values by path.
    """
    with titled_group("Tuning"):
        recipe = gr.Radio(
            [("default values", "default"), ("the paper's recipe", "paper")],
            value="default",
            label="Recipe: sets several fields at once",
            elem_id="f-recipe",
            elem_classes="cxr-choices",
        )
        recipe_note = gr.HTML("", apply_default_css=False, elem_id="recipe-note")
        fields["adapter.method"] = gr.Radio(
            [(method.title, name) for name, method in TUNING_METHODS.items()],
            value=start["adapter.method"],
            label="Method",
            elem_id=form.element_id("adapter.method"),
            elem_classes="cxr-choices",
        )
        method_note = gr.HTML(method_table.note(start["adapter.method"]), apply_default_css=False)
        methods = live(method_table.waiting(), elem_id="launch-methods")
        with gr.Row():
            for name in ("rank", "alpha"):
                fields[f"adapter.{name}"] = _number(f"adapter.{name}", OPTIONS[name].label, start)
        with gr.Row():
            for path in PATHS:
                fields[path] = _option_field(path, start)
        with gr.Row():
            for path, label in (("train.epochs", "Epochs"), ("train.seed", "Seed")):
                fields[path] = _number(path, label, start)
            seeds = gr.Number(
                1, label="Number of seeds", precision=0, min_width=90, elem_id="f-repeats"
            )
    return TuningGroup(recipe, recipe_note, method_note, methods, seeds)


def option_properties(method: str) -> dict[str, dict[str, Any]]:
    """Visibility of the settings in a row of their own, by path, and their defaults in grey."""
    supported, known = TUNING_METHODS[method].options, defaults(TUNING_METHODS[method])
    properties: dict[str, dict[str, Any]] = {}
    for name, path in zip(OWN_ROW, PATHS, strict=True):
        properties[path] = {"visible": name in supported}
        if name in supported and not OPTIONS[name].choices:
            properties[path]["placeholder"] = str(known[name])
    return properties


def applicable(values: Mapping[str, Any]) -> list[Any]:
    """Methods and targets that are applicable to the backbone, and the table of all methods."""
    offers = method_table.offers_for(values)
    if not offers:
        return [gr.skip(), gr.skip(), ""]
    method = values["adapter.method"]
    table = method_table.table(offers, method, values["data.name"])
    return [_methods(offers, method), _targets(offers, method, values["adapter.targets"]), table]


def recipe_values(recipe: str, values: Mapping[str, Any], percent: float | None) -> list[Any]:
    """Values that a recipe sets, for the fields of ``recipes.SETS``."""
    try:
        settings = _recipe_settings(recipe, values, percent)
    except CoreError:
        settings = {}
    shown = {
        path: form.number_text(value) if path in form.NUMBERS else "" if value is None else value
        for path, value in settings.items()
    }
    return [shown.get(path, gr.skip()) for path in recipes.SETS]


def default_values() -> list[Any]:
    """Defaults of the fields of ``recipes.SETS``."""
    start, _ = form.values_of(RunSpec())
    start["train.augmentation"] = form.DEFAULTED
    return [start[path] for path in recipes.SETS]


def recipe_note(recipe: str, values: Mapping[str, Any], percent: float | None) -> Markup:
    """The values that a recipe set and those changed since as HTML, or which recipes there are."""
    if recipe == "default":
        return Markup()
    try:
        settings = _recipe_settings(recipe, values, percent)
        task, _ = _paper_recipe(values, percent)
    except CoreError as error:
        return render_macro(TEMPLATE, "no_recipe", error=error)
    followed: list[str] = []
    changed: list[str] = []
    for path, value in settings.items():
        current = form.parse_number(values[path]) if path in form.NUMBERS else values[path]
        same = current == value or (current in ("", None) and value is None)
        text = f"{recipes.name(path)} {recipes.written(value)}"
        (followed if same else changed).append(text)
    return render_macro(
        TEMPLATE,
        "recipe_note",
        task=task.name,
        source=task.recipes[values["adapter.method"]].source,
        followed=followed,
        changed=changed,
    )


def _recipe_settings(
    recipe: str, values: Mapping[str, Any], percent: float | None
) -> dict[str, Any]:
    settings = {} if recipe == "default" else _paper_recipe(values, percent)[1]
    return {path: value for path, value in settings.items() if path in values}


def _paper_recipe(values: Mapping[str, Any], percent: float | None) -> tuple[Task, dict[str, Any]]:
    spec = form.spec_of({path: values[path] for path in RECIPE_KEYS}, percent)
    return recipes.paper_values(
        spec.model.backbone, spec.data.name, spec.data.label_fraction, spec.adapter.method
    )


def _methods(offers: tuple[Offer, ...], chosen: str) -> Any:
    """The choices of the method. The chosen one stays, and the cost panel says what is wrong."""
    methods = [offer.method for offer in offers if offer.count or offer.method.name == chosen]
    return gr.update(choices=[(method.title, method.name) for method in methods])


def _targets(offers: tuple[Offer, ...], method: str, chosen: str | None) -> Any:
    targets = next((offer.targets for offer in offers if offer.method.name == method), ())
    if not targets:
        return gr.skip()
    choices = [(OPTIONS["targets"].choices[name], name) for name in targets]
    if chosen in TARGETS and chosen not in targets:
        return gr.update(choices=choices, value=targets[0])
    return gr.update(choices=choices)


def _option_field(path: str, start: Mapping[str, Any]) -> gr.Textbox | gr.Dropdown:
    option = OPTIONS[path.partition(".")[2]]
    properties = {"label": option.label, "elem_id": form.element_id(path), "min_width": 200}
    properties |= option_properties(start["adapter.method"])[path]
    if not option.choices:
        # Text for numbers too: a number field that is hidden at first shows 0 instead of nothing.
        return gr.Textbox(start[path], **properties)
    choices = [(meaning, value) for value, meaning in option.choices.items()]
    if not option.free:  # the first is the default, which needs no name
        choices = [(f"{choices[0][0]} (default)", ""), *choices[1:]]
    return gr.Dropdown(choices, value=start[path], allow_custom_value=option.free, **properties)


def _number(path: str, label: str, start: Mapping[str, Any]) -> gr.Number:
    return gr.Number(start[path], label=label, elem_id=form.element_id(path), min_width=120)
