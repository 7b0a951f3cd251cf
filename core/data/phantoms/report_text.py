"""Short radiology reports of phantoms, from templates.

What is on the picture is said with site and severity, what is not is denied for some of the absent
findings, and the wording varies. Each finding has words of its own (``TERMS``), so that a report
can be read back: a sentence that starts with "no" denies what it names, any other asserts it.
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
"""What a report calls each finding."""

WHOLE = frozenset({"Cardiomegaly", "Edema", "Emphysema", "Fibrosis", "Hernia"})
"""Findings that are said without a side."""

AT_THE_PLEURA = frozenset({"Effusion", "Pneumothorax"})
"""Findings that are said with a side alone, since gravity decides the rest."""

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
    """One finding as a report tells it.

    Attributes:
        finding: Its name in ``TERMS``.
        marked: How marked it is, 0 to 1.
        sides: ``left``, ``right``, or both of them.
        zone: ``upper``, ``middle`` or ``lower``.
    """

    finding: str
    marked: float
    sides: tuple[str, ...]
    zone: str


def compose(view: str, remarks: Sequence[Remark], random: Random) -> str:
    """Write a report.

    Args:
        view: ``PA`` or ``AP``.
        remarks: What is on the picture.
        random: Chooses the words, the order, and which absent findings are denied.

    Returns:
        Two to a dozen sentences.
    """
    there = {one.finding for one in remarks}
    told = [_shown(remarks[i], random) for i in random.permutation(len(remarks))]
    if not told:
        told = [_one(CLEAR, random)]
    absent = [name for name in TERMS if name not in there]
    random.shuffle(absent)
    denied = absent[: int(random.integers(2, MOST_DENIED + 1))]
    while denied:
        together, denied = denied[:2], denied[2:]
        named = " or ".join(_one(TERMS[name], random) for name in together)
        told.append(_one(DENIED, random).format(named))
    sentences = [_one(VIEWS[view], random), *told, _one(ELSE, random)]
    return " ".join(one for one in sentences if one)


def _one(choices: Sequence[str], random: Random) -> str:
    return choices[int(random.integers(len(choices)))]


def _shown(remark: Remark, random: Random) -> str:
    grade = GRADES[min(int(remark.marked * len(GRADES)), len(GRADES) - 1)]
    words = f"{_one(grade, random)} {{}}{_one(TERMS[remark.finding], random)}{{}}"
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
    sentence = _one(SHOWN, random).format(words)
    return sentence[0].upper() + sentence[1:]
