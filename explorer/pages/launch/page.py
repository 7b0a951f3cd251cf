"""Launch page: what will this run cost, and what will it tell me?

The form is on the left in three groups, its cost on the right. Every change has two effects: the
form at once offers what fits the new values, and the cost follows as soon as it is known.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from core.config.run import RunSpec
from core.data.datasets.registry import DATASETS
from core.errors import CoreError
from core.experiments.paper import recipes
from explorer.components import dataset_choice
from explorer.components.live_region import QUIET, after, live
from explorer.context import Context
from explorer.pages.launch import (
    advanced,
    backbones,
    datasets,
    dependent_fields,
    form,
    method_table,
    method_tuning,
    preview,
    sweep,
    tuning,
)
from explorer.pages.launch.method_tuning import TuneChoice
from explorer.pages.launch.sweep import SweepChoice

TITLE = "Launch"
IMMEDIATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


def build(context: Context, tab: gr.Tab) -> None:
    """Lay out the form and its cost, and connect their events."""
    page = LaunchPage(context)
    page.connect_fields()
    page.connect_recipe()
    page.connect_cost(tab)
    page.connect_tune()
    page.connect_navigation(tab)


class LaunchPage:
    """Components and handlers of the page.

    Handlers get the values of ``form.PATHS`` and the label fraction in percent, and after these
    what their event adds.

    Args:
        context: The explorer.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.fields: dict[str, Any] = {}
        start, _ = form.values_of(RunSpec())
        with gr.Row(elem_classes="cxr-launch"):
            with gr.Column(scale=3, min_width=380, elem_classes="cxr-form"):
                self.data_note, self.percent = datasets.group(context.workspace, self.fields, start)
                self.backbone_card = backbones.group(self.fields, start)
                self.tuning = tuning.group(self.fields, start)
                sweep_fields = sweep.group()
                self.tune = method_tuning.group()
                self.tune_opened = gr.State(False)
                with gr.Accordion(
                    "Advanced: empty fields use the value shown in grey, the paper's if it has one",
                    open=False,
                    elem_classes="cxr-group",
                ):
                    folds = advanced.group(self.fields, start)
            with gr.Column(scale=2, min_width=340, elem_classes="cxr-side"):
                self.button = gr.Button(
                    "Launch run", variant="primary", size="lg", elem_id="launch-button"
                )
                self.sweep_summary = sweep.summary_region()
                self.cost = live(preview.waiting(), elem_id="launch-cost")
        self.inputs = [*(self.fields[path] for path in form.PATHS), self.percent]
        self.with_recipe = [*self.inputs, self.tuning.recipe]
        self.with_sweep = [*self.inputs, self.tuning.seeds, *sweep_fields, folds]
        self.with_tune = [*self.inputs, *self.tune.fields]
        self.dependent = [
            *(self.fields[path] for path in dependent_fields.PATHS),
            self.data_note,
            self.backbone_card,
            self.tuning.method_note,
            self.percent,
            self.tuning.recipe_note,
        ]

    def connect_fields(self) -> None:
        """Update dependent fields and the table of methods after a change."""
        changes = [field.change for field in self.with_recipe]
        after(changes).then(
            self.update_fields, self.with_recipe, self.dependent, **_one_by_one("launch-fields")
        )
        counted = ("model.backbone", "model.input_size", "data.name", "adapter.method")
        self._show_methods(after([self.fields[path].change for path in counted]))
        self.tuning.methods.click(_clicked_method, None, self.fields["adapter.method"], **IMMEDIATE)

    def connect_recipe(self) -> None:
        """Set the fields that a recipe decides when the user chooses it or changes its keys."""
        outputs = [self.fields[path] for path in recipes.SETS]
        self.tuning.recipe.input(
            self.choose_recipe, self.with_recipe, outputs, **_one_by_one("launch-recipe")
        )
        keys = [*(self.fields[path].input for path in tuning.RECIPE_KEYS), self.percent.input]
        gr.on(keys, self.follow_recipe, self.with_recipe, outputs, **_one_by_one("launch-recipe"))

    def connect_cost(self, tab: gr.Tab) -> None:
        """Show cost and sweep after a change, and when the page is opened."""
        self._show_cost(after([field.change for field in self.inputs]).then)
        self._show_cost(tab.select)
        self._show_methods(self._show_cost(self.context.blocks.load))
        self.cost.click(_nothing, None, None, **IMMEDIATE)
        after([field.change for field in self.with_sweep]).then(
            self.show_sweep,
            self.with_sweep,
            [self.sweep_summary, self.button],
            **_one_by_one("launch-sweep"),
        )

    def connect_tune(self) -> None:
        """Preview the tuning after a change while its group is open, and start it."""
        opened, inputs = self.tune_opened, [self.tune_opened, *self.with_tune]
        self.tune.fold.expand(lambda: True, None, opened, queue=False, **IMMEDIATE)
        self.tune.fold.collapse(lambda: False, None, opened, queue=False, **IMMEDIATE)
        after([opened.change, *(field.change for field in self.with_tune)]).then(
            self.show_tune, inputs, self.tune.preview, **_one_by_one("launch-tune")
        )
        self.tune.button.click(
            self.start_tuning,
            self.with_tune,
            [*self.context.outputs("runs"), self.tune.preview],
            api_visibility="private",
            show_progress="minimal",
        )

    def connect_navigation(self, tab: gr.Tab) -> None:
        """Offer new data sets, go to a launched run, and take requests of other pages."""
        for event in (tab.select, self.context.blocks.load):
            event(
                lambda: gr.update(choices=dataset_choice.choices(self.context.workspace)),
                None,
                self.fields["data.name"],
                queue=False,
                **IMMEDIATE,
            )
        self.button.click(
            self.submit,
            self.with_sweep,
            [*self.context.outputs("runs"), self.cost],
            api_visibility="private",
            show_progress="minimal",
        )
        inbox = self.context.inboxes["launch"]
        filled = inbox.change(self.fill, inbox, [*self.inputs, self.cost], **IMMEDIATE)
        filled.success(
            self.update_fields, self.with_recipe, self.dependent, queue=False, **IMMEDIATE
        )
        self._show_cost(filled.success)

    def update_fields(self, *values: Any) -> list[Any]:
        """Fields that depend on the others, and the notes."""
        settings, percent, (recipe,) = _read(values)
        entry = dataset_choice.dataset_entry(self.context.workspace, settings["data.name"])
        return [
            *dependent_fields.updates(self.context.workspace, settings),
            datasets.note(entry),
            backbones.card(settings["model.backbone"] or ""),
            method_table.note(settings["adapter.method"]),
            gr.update(visible=settings["data.label_fraction"] == form.OTHER),
            tuning.recipe_note(recipe, self._with_base_dataset(settings), percent),
        ]

    def update_methods(self, *values: Any) -> list[Any]:
        """Methods and targets that are applicable to the backbone, and the table of methods."""
        settings, _, _ = _read(values)
        return tuning.applicable(self._with_base_dataset(settings))

    def follow_recipe(self, *values: Any) -> list[Any]:
        """Values of the recipe for the form's backbone, data set, label fraction and method."""
        settings, percent, (recipe,) = _read(values)
        return tuning.recipe_values(recipe, self._with_base_dataset(settings), percent)

    def choose_recipe(self, *values: Any) -> list[Any]:
        """Values of a recipe that was chosen, or the defaults."""
        *_, recipe = values
        return tuning.default_values() if recipe == "default" else self.follow_recipe(*values)

    def show_cost(self, *values: Any) -> str:
        """The cost of the run, or what is wrong with the form."""
        settings, percent, _ = _read(values)
        context = self.context
        return preview.cost_panel(context.store, context.workspace.cache, settings, percent)

    def show_sweep(self, *values: Any) -> list[Any]:
        """The summary of the sweep, and the text of the button."""
        settings, percent, (seeds, *sweep_values) = _read(values)
        choice = SweepChoice.read(sweep_values)
        text, label = sweep.summary(self.context.store, settings, percent, seeds, choice)
        return [text, gr.update(value=label)]

    def show_tune(self, opened: bool, *values: Any) -> Any:
        """Search spaces and cost of the tuning, or what is wrong; nothing while it is folded."""
        if not opened:
            return gr.skip()
        settings, percent, chosen = _read(values)
        choice = TuneChoice.read(chosen)
        return method_tuning.summary(self.context.store, settings, percent, choice)

    def start_tuning(self, *values: Any) -> list[Any]:
        """Add the tuning and show it, or say what is wrong."""
        settings, percent, chosen = _read(values)
        try:
            name = method_tuning.submit(
                self.context.store, settings, percent, TuneChoice.read(chosen)
            )
        except CoreError as error:
            return [gr.skip(), gr.skip(), method_tuning.fault(error)]
        gr.Info("It continues when this page is closed.", title="Tuning", duration=6)
        return [*self.context.request("runs", tuning=name), gr.skip()]

    def submit(self, *values: Any) -> list[Any]:
        """Queue the run or the sweep and show its first run, or say what is wrong."""
        settings, percent, (seeds, *sweep_values) = _read(values)
        choice, store = SweepChoice.read(sweep_values), self.context.store
        try:
            if choice:
                queued = sweep.submit(store, settings, percent, seeds, choice)
            else:
                queued = preview.submit(store, settings, percent, seeds)
        except CoreError as error:
            return [gr.skip(), gr.skip(), preview.error_panel(error)]
        name = queued[0].name if len(queued) == 1 else f"{len(queued)} runs"
        gr.Info(name, title="Queued", duration=4)
        return [*self.context.request("runs", run=queued[0].id), gr.skip()]

    def fill(self, request: dict[str, Any] | None) -> list[Any]:
        """Put the specification of another page's request, or of the address, into the form."""
        unchanged = [gr.skip()] * len(self.inputs)
        if not request:
            return [*unchanged, gr.skip()]
        try:
            if "settings" in request:
                spec = form.decode(request["settings"])
            else:
                spec = RunSpec.from_json(request["spec"])
        except CoreError as error:
            return [*unchanged, preview.error_panel(error)]
        workspace = self.context.workspace
        values, percent = form.values_of(preview.with_registered_name(workspace, spec))
        values["train.augmentation"] = values["train.augmentation"] or form.DEFAULTED
        values["data.name"] = gr.update(
            choices=dataset_choice.choices(workspace), value=values["data.name"]
        )
        return [*(values[path] for path in form.PATHS), percent, gr.skip()]

    def _show_cost(self, event: Any) -> Any:
        return event(self.show_cost, self.inputs, self.cost, **_one_by_one("launch-cost"))

    def _show_methods(self, event: Any) -> None:
        outputs = [
            self.fields["adapter.method"],
            self.fields["adapter.targets"],
            self.tuning.methods,
        ]
        event.then(self.update_methods, self.inputs, outputs, **_one_by_one("launch-methods"))

    def _with_base_dataset(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The settings with the data set behind a registered name, which also sets the split."""
        name = settings["data.name"]
        if name in DATASETS:
            return settings
        base = dataset_choice.base_dataset(self.context.workspace, name)
        rest = {path: value for path, value in settings.items() if path != "data.split"}
        return {**rest, "data.name": base}


def _read(values: tuple[Any, ...]) -> tuple[dict[str, Any], Any, list[Any]]:
    """The settings by path, the label fraction in percent, and the values after these."""
    count = len(form.PATHS)
    settings = dict(zip(form.PATHS, values[:count], strict=True))
    return settings, values[count], list(values[count + 1 :])


def _one_by_one(queue: str) -> dict[str, Any]:
    """Options of handlers that run one after the other, so that the newest answer comes last."""
    return {**QUIET, "concurrency_id": queue, "concurrency_limit": 1}


def _clicked_method(event: gr.EventData) -> str:
    return str(event._data["method"])


def _nothing() -> None:
    """For buttons that act in the browser alone."""
