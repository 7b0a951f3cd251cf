"""The model group of the launch form: a searchable list of backbones, and a card of each."""

from __future__ import annotations

from typing import Any

import gradio as gr
from markupsafe import Markup

from core.errors import CoreError
from core.models.backbones.card import WEIGHTS
from core.models.backbones.registry import BACKBONES, backbone_card
from core.models.backbones.timm_cards import SUGGESTED
from explorer.pages.launch import form
from explorer.pages.launch.layout import titled_group
from explorer.templates import render_macro


def group(fields: dict[str, Any], start: dict[str, Any]) -> gr.HTML:
    """Lay out the group.

    Args:
        fields: The group's fields are added to it by the paths of their settings.
        start: First values by path.

    Returns:
        The card of the chosen backbone.
    """
    with titled_group("Model"):
        fields["model.backbone"] = gr.Dropdown(
            choices(),
            value=start["model.backbone"],
            label="Backbone: choose one, type to search, or type timm:NAME for any timm model",
            allow_custom_value=True,
            elem_id=form.element_id("model.backbone"),
        )
        backbone = gr.HTML(card(start["model.backbone"]), apply_default_css=False)
        fields["model.weights"] = gr.Textbox(
            label="Weights file, on the training machine",
            placeholder="/models/MRM.pth",
            visible=False,
            elem_id=form.element_id("model.weights"),
        )
    return backbone


def choices() -> list[tuple[str, str]]:
    """The backbones as (text, name) pairs, the shipped ones first.

    Each text ends with the source of the weights, so that typing “file”, “hub” or “photographs”
    filters the list as a name does.
    """
    groups: dict[str, list[tuple[str, str]]] = {source: [] for source in WEIGHTS}
    for name, backbone in BACKBONES.items():
        text = f"{backbone.title} — {WEIGHTS[backbone.source]}"
        groups[backbone.source].append((text, name))
    known = [choice for source in ("embedded", "hub", "file") for choice in groups[source]]
    return known + [
        (f"{title} — pre-trained on photographs, from timm", name)
        for title, name in SUGGESTED.items()
    ]


def card(name: str) -> Markup:
    """A backbone's pre-training, licence, known overlaps and source as HTML.

    Args:
        name: Name of the backbone; the card of an unknown one is empty.
    """
    try:
        backbone = backbone_card(name)
    except CoreError:
        return Markup()
    address, _, address_note = backbone.url.partition(" ")
    return render_macro(
        "pages/launch/backbones.html.j2",
        "card",
        backbone=backbone,
        weights=WEIGHTS[backbone.source],
        address=address,
        address_note=address_note,
    )
