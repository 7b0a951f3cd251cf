"""The backbones as the launch form offers them: a list to search and a card of each."""

from __future__ import annotations

from html import escape

from core.errors import CoreError
from core.models.backbones.card import WEIGHTS
from core.models.backbones.registry import BACKBONES, backbone_card
from core.models.backbones.timm_cards import SUGGESTED


def choices() -> list[tuple[str, str]]:
    """What the list of backbones offers: what it shows and the name, the shipped ones first.

    Each line ends with where the weights come from, so that typing “file”, “hub” or “photographs”
    narrows the list as typing a name does.
    """
    groups: dict[str, list[tuple[str, str]]] = {source: [] for source in WEIGHTS}
    for name, one in BACKBONES.items():
        groups[one.source].append((f"{one.title} — {WEIGHTS[one.source]}", name))
    known = [entry for source in ("embedded", "hub", "file") for entry in groups[source]]
    return known + [
        (f"{title} — photographs, from timm", name) for title, name in SUGGESTED.items()
    ]


def about(name: str) -> str:
    """HTML of a backbone's card: what it learnt from, terms, known leaks, where the weights are.

    Args:
        name: A backbone's name; of an unknown one nothing is shown.
    """
    try:
        one = backbone_card(name)
    except CoreError:
        return ""
    address, _, rest = one.url.partition(" ")
    rows = [
        ("Pre-trained", one.pretraining),
        ("Input", f"{one.input_size} px; the classifier is given the {one.pooling}."),
        ("Licence", one.licence),
        ("Has seen", one.leaks or "Nothing is known of the data sets here."),
        ("Paper", one.paper),
        ("Needs", one.obtain),
    ]
    cells = "".join(
        f"<dt>{title}</dt><dd>{escape(text)}</dd>" for title, text in rows if text
    )  # fmt: skip
    if address:
        cells += (
            f'<dt>Weights</dt><dd>{escape(WEIGHTS[one.source].capitalize())}: <a href="'
            f'{escape(address, quote=True)}" target="_blank" rel="noopener noreferrer">'
            f"{escape(address.removeprefix('https://'))}</a> {escape(rest)}</dd>"
        )
    return f'<dl class="cxr-card" aria-label="About {escape(one.title)}">{cells}</dl>'
