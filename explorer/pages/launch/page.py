"""Launch: what will this run cost, and what will it tell me?

The form stands left in three groups, its consequence right. Every change is answered twice: at once
by what the form offers (``_offer``), and as soon as it is known by what the run would cost.
"""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from core.config.run import LABEL_FRACTIONS, RunSpec
from core.data.datasets.registry import DATASETS, DatasetEntry
from core.errors import CoreError
from core.experiments.paper import recipes
from core.models.backbones.registry import backbone_card
from core.workspace import Workspace
from explorer.components import dataset_choice
from explorer.components.live_region import QUIET, after, live
from explorer.context import Context
from explorer.pages.launch import advanced, backbones, form, method_table, preview, tuning
from explorer.pages.launch import sweep as sweeping

TITLE = "Launch"


def build(context: Context, tab: gr.Tab) -> None:
    """Lay out the form and its consequence."""
    start, _ = form.values_of(RunSpec())
    fields: dict[str, Any] = {}
    with gr.Row(elem_classes="cxr-launch"):
        with gr.Column(scale=3, min_width=380, elem_classes="cxr-form"):
            data_note, percent = _data_group(context.workspace, fields, start)
            model_note = _model_group(fields, start)
            tuned = tuning.group(fields, start)
            sweep, sentence = sweeping.lay_out()
            with gr.Accordion(
                "Advanced: empty fields take the value shown in grey, the paper's where it has one",
                open=False,
                elem_classes="cxr-group",
            ):
                advanced.group(fields, start)
        with gr.Column(scale=2, min_width=340, elem_classes="cxr-side"):
            button = gr.Button("Launch run", variant="primary", size="lg", elem_id="launch-button")
            cost = live(preview.WAITING, elem_id="launch-cost")
    inputs = [fields[path] for path in form.PATHS] + [percent]
    offered = [fields[path] for path in _OFFERED]
    notes = [data_note, model_note, tuned.method_note, percent, tuned.recipe_note]

    def offer(*values: Any) -> list[Any]:
        *settings, percent, recipe = values
        chosen, plain = _settings(settings), _plain(context.workspace, settings)
        note = tuning.recipe_note(recipe, plain, percent)
        return [*_offer(context.workspace, chosen), note]

    def survey(*values: Any) -> list[Any]:
        return tuning.survey(_plain(context.workspace, values))

    def follow(*values: Any) -> list[Any]:
        *settings, percent, recipe = values
        return tuning.follow(recipe, _plain(context.workspace, settings), percent)

    def choose(*values: Any) -> list[Any]:
        return tuning.reset() if values[-1] == "default" else follow(*values)

    def reckon(*values: Any) -> str:
        *settings, percent = values
        return preview.consequence(
            context.store, context.workspace.cache, _settings(settings), percent
        )

    several = [tuned.repeats, *sweep]

    def foresee(*values: Any) -> list[Any]:
        settings, (repeated, *chosen) = values[: -len(several)], values[-len(several) :]
        words, label = sweeping.sentence(
            context.store, _settings(settings), settings[-1], repeated, sweeping.chosen(chosen)
        )
        return [words, gr.update(value=label)]

    def submit(*values: Any) -> list[Any]:
        settings, (repeated, *chosen) = values[: -len(several)], values[-len(several) :]
        return _submit(context, list(settings), repeated, sweeping.chosen(chosen))

    def receive(asked: dict[str, Any] | None) -> list[Any]:
        return _fill(context.workspace, asked, len(inputs))

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    changes = [field.change for field in inputs]
    asked = [*inputs, tuned.recipe]
    # One answer after the other: an older one must not replace a newer one.
    after([*changes, tuned.recipe.change]).then(
        offer, asked, offered + notes, **_one_by_one("offer")
    )
    set_by_recipe = [fields[path] for path in recipes.SETS]
    named = [fields[path].input for path in tuning.NAMED_BY] + [percent.input]
    tuned.recipe.input(choose, asked, set_by_recipe, **_one_by_one("recipe"))
    gr.on(named, follow, asked, set_by_recipe, **_one_by_one("recipe"))
    surveyed = [fields["adapter.method"], fields["adapter.targets"], tuned.methods]
    counted = ("model.backbone", "model.input_size", "data.name", "adapter.method")
    after([fields[path].change for path in counted]).then(
        survey, inputs, surveyed, **_one_by_one("survey")
    )
    tuned.methods.click(_picked, None, fields["adapter.method"], **quiet)
    after(changes).then(reckon, inputs, cost, **_one_by_one("launch"))
    for opened in (tab.select, context.blocks.load):
        opened(
            lambda: gr.update(choices=dataset_choice.choices(context.workspace)),
            None, fields["data.name"], queue=False, **quiet,
        )  # fmt: skip
    tab.select(reckon, inputs, cost, **_one_by_one("launch"))
    cost.click(_nothing, None, None, **quiet)
    after([field.change for field in [*inputs, *several]]).then(
        foresee, [*inputs, *several], [sentence, button], **_one_by_one("launch-sweep")
    )
    button.click(
        submit, [*inputs, *several], [*context.outputs("runs"), cost],
        api_visibility="private", show_progress="minimal",
    )  # fmt: skip
    inbox = context.inboxes["launch"]
    filled = inbox.change(receive, inbox, [*inputs, cost], **quiet)
    filled.success(offer, asked, offered + notes, queue=False, **quiet)
    filled.success(reckon, inputs, cost, **_one_by_one("launch"))
    context.blocks.load(reckon, inputs, cost, **_one_by_one("launch")).then(
        survey, inputs, surveyed, **_one_by_one("survey")
    )


def _one_by_one(queue: str) -> dict[str, Any]:
    """Settings of handlers that wait for one another, so that the newest answer comes last."""
    return {**QUIET, "concurrency_id": queue, "concurrency_limit": 1}


def _data_group(
    workspace: Workspace, fields: dict[str, Any], start: dict[str, Any]
) -> tuple[gr.HTML, gr.Textbox]:
    with gr.Column(elem_classes="cxr-group"):
        gr.HTML('<h2 class="cxr-head">Data</h2>', apply_default_css=False)
        fields["data.name"] = gr.Dropdown(
            dataset_choice.choices(workspace),
            value=start["data.name"],
            label="Data set",
            elem_id=form.element("data.name"),
        )
        note = gr.HTML(_data_sentence(DATASETS[start["data.name"]]), apply_default_css=False)
        fields["data.root"] = gr.Textbox(
            label="Folder of the data set, on the machine that trains",
            placeholder="/data/nih_chestxray14",
            visible=DATASETS[start["data.name"]].needs_root,
            elem_id=form.element("data.root"),
        )
        fields["data.split"] = gr.Dropdown(
            _split_choices(DATASETS[start["data.name"]]),
            value=start["data.split"],
            label="Split into training, validation and test",
            visible=len(DATASETS[start["data.name"]].splits) > 1,
            allow_custom_value=True,
            elem_id=form.element("data.split"),
        )
        with gr.Row():
            for path in form.OPTION_PATHS:
                fields[path] = _option_field(path, start["data.name"])
        fractions = [(f"{100 * one:g}%", one) for one in LABEL_FRACTIONS]
        fields["data.label_fraction"] = gr.Radio(
            [*fractions, ("other", form.OTHER)],
            value=start["data.label_fraction"],
            label="Label fraction: share of the training patients whose labels are used",
            elem_id=form.element("data.label_fraction"),
            elem_classes="cxr-choices",
        )
        percent = gr.Textbox(label="Label fraction in percent", visible=False, elem_id="f-percent")
    return note, percent


def _split_choices(entry: DatasetEntry) -> list[tuple[str, str]]:
    """The splits of a data set; the first is its default and needs no name."""
    splits = entry.splits
    first = [(f"{splits[0]} (default)", "")] if splits else [("the only one", "")]
    return first + [(split, split) for split in splits[1:]]


def _option_field(path: str, data: str) -> gr.Dropdown | gr.Textbox:
    """The field of an option; the data set decides whether it is there, and what it offers."""
    look = _option_look(path, data)
    about = {"value": "", "elem_id": form.element(path), "min_width": 180}
    if path in _FREE:
        return gr.Textbox(**about, **look)
    return gr.Dropdown(**about, **look, allow_custom_value=True)


def _option_look(path: str, data: str) -> dict[str, Any]:
    option = dataset_choice.options(data).get(path)
    if option is None:
        return {"visible": False}
    if path in _FREE:
        return {"visible": True, "label": option.label, "placeholder": option.example}
    words = list(option.choices.items())
    choices = [(f"{meaning} (default)" if i == 0 else meaning, value if i else "")
               for i, (value, meaning) in enumerate(words)]  # fmt: skip
    return {"visible": True, "label": option.label, "choices": choices}


_FREE = frozenset({"data.patient", "data.table", "data.columns", "data.labels"})
"""Options that are free text for every data set that has them."""


def _model_group(fields: dict[str, Any], start: dict[str, Any]) -> gr.HTML:
    with gr.Column(elem_classes="cxr-group"):
        gr.HTML('<h2 class="cxr-head">Model</h2>', apply_default_css=False)
        fields["model.backbone"] = gr.Dropdown(
            backbones.choices(),
            value=start["model.backbone"],
            label="Backbone: choose, type to search, or timm:NAME for any model of timm",
            allow_custom_value=True,
            elem_id=form.element("model.backbone"),
        )
        about = backbones.about(start["model.backbone"])
        note = gr.HTML(about, apply_default_css=False)
        fields["model.weights"] = gr.Textbox(
            label="Weights file, on the machine that trains",
            placeholder="/models/MRM.pth",
            visible=False,
            elem_id=form.element("model.weights"),
        )
    return note


_OFFERED = (
    "data.root",
    "data.split",
    *form.OPTION_PATHS,
    "model.weights",
    "model.input_size",
    "adapter.rank",
    "adapter.alpha",
    *tuning.PATHS,
    "train.momentum",
    *advanced.RESOLVED,
)
"""Fields whose look depends on the others."""


def _offer(workspace: Workspace, values: dict[str, Any]) -> list[Any]:
    """What the form shows for these values: updates of ``_OFFERED``, the sentences, the percent."""
    name, method = values["data.name"], values["adapter.method"]
    entry = dataset_choice.entry(workspace, name)
    split = values["data.split"] if values["data.split"] in entry.splits else ""
    try:
        backbone = backbone_card(values["model.backbone"] or "")
        takes_file, size = backbone.source in ("file", "hub"), backbone.input_size
    except CoreError:
        takes_file, size = False, None
    hidden = preview.unused(values)
    chosen = RunSpec.of(
        **{
            "model.backbone": values["model.backbone"] or "",
            "adapter.method": method,
            "train.optimizer": values["train.optimizer"],
            "train.batch_size": preview.sensible(values["train.batch_size"], 16, 4096),
            "train.epochs": preview.sensible(values["train.epochs"], 6, 10_000),
        }
    ).resolved()
    updates: dict[str, Any] = {
        "data.root": gr.update(visible=entry.needs_root),
        "data.split": gr.update(
            choices=_split_choices(entry),
            visible=len(entry.splits) > 1,
            # What stands is not written again: a recipe may be setting it at the same time.
            **({} if split == (values["data.split"] or "") else {"value": split}),
        ),
        "model.weights": gr.update(visible=takes_file or bool(values["model.weights"])),
        "model.input_size": gr.update(placeholder=str(size or "")),
    }
    for path in form.OPTION_PATHS:
        updates[path] = gr.update(**_option_look(path, name), **_option_value(values, path))
    for path in ("train.momentum", "adapter.rank", "adapter.alpha"):
        updates[path] = gr.update(visible=path not in hidden)
    for path, look in tuning.looks(method).items():
        updates[path] = gr.update(**look)
    for path in advanced.RESOLVED:
        default = advanced.resolved(chosen, path)
        updates[path] = gr.update(placeholder=default, visible=path not in hidden)
    sentences = [
        _data_sentence(entry),
        backbones.about(values["model.backbone"] or ""),
        method_table.card(method),
    ]
    free = gr.update(visible=values["data.label_fraction"] == form.OTHER)
    return [updates[path] for path in _OFFERED] + [*sentences, free]


def _option_value(values: dict[str, Any], path: str) -> dict[str, str]:
    """What a choice is set to: its default where another data set's stood there."""
    option = dataset_choice.options(values["data.name"]).get(path)
    if option is None or path in _FREE or values[path] in list(option.choices)[1:]:
        return {}
    return {"value": ""}


def _sentence(text: str) -> str:
    return f'<p class="cxr-sentence">{text}</p>'


def _data_sentence(entry: DatasetEntry) -> str:
    return _sentence(f"{escape(entry.sentence)} Licence: {escape(entry.licence)}")


def _plain(workspace: Workspace, values: Any) -> dict[str, Any]:
    """The settings with the data set that a registered name stands for, which says its split."""
    settings = _settings(values)
    if settings["data.name"] not in DATASETS:
        settings["data.name"] = dataset_choice.stands_for(workspace, settings["data.name"])
        del settings["data.split"]
    return settings


def _settings(values: Any) -> dict[str, Any]:
    return dict(zip(form.PATHS, values, strict=False))


def _submit(
    context: Context, settings: list[Any], repeats: float | None, chosen: sweeping.Chosen
) -> list[Any]:
    """Queue the run, or several of them, and show the first one; or say what is wrong."""
    stay = [gr.skip(), gr.skip()]
    form_holds = _settings(settings), settings[-1], repeats
    try:
        if chosen:
            queued = sweeping.submit(context.store, *form_holds, chosen)
        else:
            queued = preview.submit(context.store, *form_holds)
    except CoreError as error:
        return [*stay, preview.faulty(error)]
    names = queued[0].name if len(queued) == 1 else f"{len(queued)} runs"
    gr.Info(names, title="Queued", duration=4)
    return [*context.request("runs", run=queued[0].id), gr.skip()]


def _fill(workspace: Workspace, asked: dict[str, Any] | None, width: int) -> list[Any]:
    """Put a specification into the form: from another page, or from the address."""
    if not asked:
        return [gr.skip()] * (width + 1)
    try:
        if "settings" in asked:
            spec = form.from_compact(asked["settings"])
        else:
            spec = RunSpec.from_json(asked["spec"])
    except CoreError as error:
        return [gr.skip()] * width + [preview.faulty(error)]
    values, percent = form.values_of(preview.as_asked(workspace, spec))
    values["train.augmentation"] = values["train.augmentation"] or form.DEFAULTED
    values["data.name"] = gr.update(
        choices=dataset_choice.choices(workspace), value=values["data.name"]
    )
    return [*(values[path] for path in form.PATHS), percent, gr.skip()]


def _picked(event: gr.EventData) -> str:
    """The method of the row that was chosen in the table."""
    return str(event._data["method"])


def _nothing() -> None:
    """The panel's own buttons act in the browser."""
