"""Tuning methods as HTML: a note with the paper, and a table of what each method would train."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from core.data.datasets.registry import DATASETS
from core.errors import CoreError
from core.models.tuning.applicability import Offer
from core.models.tuning.registry import TUNING_METHODS
from explorer.templates import render_macro

TEMPLATE = "pages/launch/method_table.html.j2"


def offers_for(values: Mapping[str, Any]) -> tuple[Offer, ...]:
    """Each method on the form's backbone; empty while the form's settings are not valid."""
    from core.models.backbones.registry import backbone_card
    from core.models.tuning.applicability import offers

    size = values["model.input_size"]
    try:
        card = backbone_card(values["model.backbone"] or "")
        return offers(card, findings(values["data.name"]), int(size) if size else None)
    except (CoreError, ValueError):
        return ()


def findings(data: str) -> int:
    """Number of findings of a data set; 1 if its folder decides."""
    return len(DATASETS[data].findings) or 1


def waiting() -> Markup:
    """Shown until the table is there."""
    return render_macro(TEMPLATE, "waiting")


def note(method: str) -> Markup:
    """A method's description and paper, its arXiv number as a link."""
    chosen = TUNING_METHODS[method]
    paper = re.split(r"arXiv (\d{4}\.\d{5})", chosen.paper)  # text and numbers alternate
    return render_macro(TEMPLATE, "note", method=chosen, paper=paper)


def table(offers: tuple[Offer, ...], method: str, data: str) -> Markup:
    """All methods on one backbone: what is trainable, or why it does not apply.

    Args:
        offers: The methods; without any the table is empty.
        method: Name of the chosen one. A click on a row chooses another.
        data: Name of the data set.
    """
    if not offers:
        return Markup()
    return render_macro(TEMPLATE, "table", offers=offers, chosen=method, findings=findings(data))
