"""The ways to tune as HTML: a sentence and its paper, and a table of what each would train."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from typing import Any

from core import formatting
from core.data.datasets.registry import DATASETS
from core.errors import CoreError
from core.models.tuning.applicability import Offer
from core.models.tuning.registry import TUNING_METHODS

WAITING = '<p class="cxr-sentence">Counting what each method would train …</p>'


def found(values: Mapping[str, Any]) -> tuple[Offer, ...]:
    """What each method would do to the form's backbone; nothing while its settings are faulty."""
    from core.models.backbones.registry import backbone_card
    from core.models.tuning.applicability import offers

    size = values["model.input_size"]
    try:
        card = backbone_card(values["model.backbone"] or "")
        return offers(card, findings(values["data.name"]), int(size) if size else None)
    except (CoreError, ValueError):
        return ()


def findings(data: str) -> int:
    """How many outputs a data set asks for; one where its folder decides."""
    return len(DATASETS[data].findings) or 1


def card(method: str) -> str:
    """A method's sentence and where it is described."""
    one = TUNING_METHODS[method]
    merges = "" if one.merges else " It cannot be merged into the backbone."
    paper = f" {_linked(one.paper)}." if one.paper else ""
    return f'<p class="cxr-sentence">{escape(one.sentence)}{merges}{paper}</p>'


def table(offered: tuple[Offer, ...], method: str, data: str) -> str:
    """All methods on one backbone: what trains, or why not; a row chooses its method."""
    if not offered:
        return ""
    fitting = sum(1 for one in offered if one.count)
    rows = "".join(_row(one, method) for one in offered)
    number = findings(data)
    outputs = "one finding" if number == 1 else f"{number} findings"
    return (
        f'<details class="cxr-methods" id="all-methods"><summary>All {len(offered)} methods on '
        f"this backbone: {fitting} fit</summary>"
        '<div class="cxr-scroll"><table class="cxr-table" aria-label="Methods"><thead><tr>'
        '<th>Method</th><th class="cxr-num">Trains</th><th class="cxr-num">Share</th>'
        "<th>What it does</th></tr></thead>"
        f'<tbody>{rows}</tbody></table></div><p class="cxr-sentence">At default settings, for '
        f"{outputs}.</p></details>"
    )


def _row(one: Offer, method: str) -> str:
    name, title = one.method.name, escape(one.method.title)
    if one.count is None:
        return (
            f'<tr class="cxr-muted"><td>{title}</td><td class="cxr-num">–</td>'
            f'<td class="cxr-num">–</td><td>{escape(one.why)}</td></tr>'
        )
    current = ' aria-current="true"' if name == method else ""
    return (
        f'<tr data-act="pick" data-method="{name}" tabindex="0"{current}><td>{title}</td>'
        f'<td class="cxr-num">{formatting.number(one.count.trainable)}</td>'
        f'<td class="cxr-num">{formatting.share(one.count.share)}</td>'
        f"<td>{escape(one.method.sentence)}</td></tr>"
    )


def _linked(paper: str) -> str:
    """A paper with its arXiv number as a link."""
    return re.sub(
        r"arXiv (\d{4}\.\d{5})",
        r'<a href="https://arxiv.org/abs/\1" target="_blank" rel="noopener">arXiv \1</a>',
        escape(paper),
    )
