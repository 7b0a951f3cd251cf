"""Short radiology reports of phantoms, from templates.

A report names the findings with site and severity and denies some of the absent ones; the wording
varies. Each finding has terms of its own (``TERMS``), so that a report can be parsed: a sentence
that starts with "no" denies the findings in it, any other asserts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Random = np.random.Generator

TERMS: dict[str, tuple[str, ...]] = {
    "Atelectasis": ("atelectasis", "volume loss"),
    "Cardiomegaly": ("cardiomegaly", "enlargement of the heart"),
    "Effusion": ("pleural effusion", "pleural fluid"),
    "Infiltration": ("infiltrate", "patchy haze"),
    "Mass": ("mass", "large rounded lesion"),
    "Nodule": ("nodule", "small rounded opacity"),
    "Pneumonia": ("pneumonia", "infectious airspace disease"),
    "Pneumothorax": ("pneumothorax", "air in the pleural space"),
    "Consolidation": ("consolidation", "dense opacification"),
    "Edema": ("pulmonary edema", "interstitial congestion"),
    "Emphysema": ("emphysema", "hyperinflation"),
    "Fibrosis": ("fibrosis", "reticular scarring"),
    "Pleural_Thickening": ("pleural thickening", "thickened pleura"),
    "Hernia": ("hiatal hernia", "retrocardiac stomach"),
}
"""Terms for each finding in a report."""

WHOLE = frozenset({"Cardiomegaly", "Edema", "Emphysema", "Fibrosis", "Hernia"})
"""Findings that are reported without a side."""

AT_THE_PLEURA = frozenset({"Effusion", "Pneumothorax"})
"""Findings that are reported with a side but no zone, which gravity determines."""

GRADES = (("subtle", "mild", "slight"), ("moderate", "definite"), ("severe", "marked", "extensive"))
VIEWS = {
    "PA": ("PA view.", "Upright PA radiograph.", "Frontal view, PA."),
    "AP": ("AP view.", "Supine AP radiograph.", "Portable AP film."),
}
CLEAR = ("The lungs are clear.", "Normal chest.", "Unremarkable radiograph.")
ELSE = ("The bones are intact.", "The trachea is central.", "")
SHOWN = ("There is {}.", "{}.", "{} is seen.", "{} is present.")
DENIED = ("No {}.", "No {} is seen.", "No evidence of {}.")
MOST_DENIED = 6


@dataclass(frozen=True)
class Remark:
    """One finding of a report.

    Attributes:
        finding: Its name in ``TERMS``.
        severity: From 0 to 1.
        sides: ``left``, ``right``, or both.
        zone: ``upper``, ``middle`` or ``lower``.
    """

    finding: str
    severity: float
    sides: tuple[str, ...]
    zone: str


def compose(view: str, remarks: Sequence[Remark], random: Random) -> str:
    """Write a report.

    Args:
        view: ``PA`` or ``AP``.
        remarks: The findings of the image.
        random: Determines the words, the order, and which absent findings are denied.

    Returns:
        Two to a dozen sentences.
    """
    present = {remark.finding for remark in remarks}
    body = [_assertion(remarks[i], random) for i in random.permutation(len(remarks))]
    if not body:
        body = [_choose(CLEAR, random)]
    absent = [name for name in TERMS if name not in present]
    random.shuffle(absent)
    denied = absent[: int(random.integers(2, MOST_DENIED + 1))]
    while denied:
        pair, denied = denied[:2], denied[2:]
        terms = " or ".join(_choose(TERMS[name], random) for name in pair)
        body.append(_choose(DENIED, random).format(terms))
    sentences = [_choose(VIEWS[view], random), *body, _choose(ELSE, random)]
    return " ".join(filter(None, sentences))


def _choose(choices: Sequence[str], random: Random) -> str:
    return choices[int(random.integers(len(choices)))]


def _assertion(remark: Remark, random: Random) -> str:
    grade = GRADES[min(int(remark.severity * len(GRADES)), len(GRADES) - 1)]
    words = f"{_choose(grade, random)} {{}}{_choose(TERMS[remark.finding], random)}{{}}"
    side = remark.sides[0] if len(remark.sides) == 1 else "bilateral"
    if remark.finding in WHOLE:
        words = words.format("", "")
    elif remark.finding in AT_THE_PLEURA:
        words = words.format(f"{side} ", "")
    elif side == "bilateral":
        words = words.format("bilateral ", f", mostly {remark.zone}")
    elif random.random() < 0.5:
        words = words.format(f"{side} {remark.zone} zone ", "")
    else:
        words = words.format("", f" in the {side} {remark.zone} zone")
    sentence = _choose(SHOWN, random).format(words)
    return sentence[0].upper() + sentence[1:]
