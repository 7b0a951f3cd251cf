"""What a data set holds, counted once and kept; its pages of studies with thumbnails."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape

import numpy as np
from numpy.typing import NDArray

from core import formatting
from core.config.run import LABEL_FRACTIONS
from core.data import splits
from core.data.base import SPLITS, ChestDataset
from core.data.cache.image_cache import ImageCache
from core.errors import CoreError
from explorer.figures import prevalence
from explorer.figures.prevalence import Count, Selection
from explorer.templates import error_message

PAGE = 20
THUMBNAIL = 144
"""Shorter side in pixels: that of the embedded backbone's training pictures, whose cache serves
both."""
ANY, NONE = "", "-"
"""The choices of finding that filter nothing, and that keep studies without any finding."""


@dataclass(frozen=True)
class Filter:
    """Which studies are listed.

    Attributes:
        split: ``train``, ``val``, ``test``, or empty for all.
        finding: Name of a finding that has to be present, ``ANY`` or ``NONE``.
    """

    split: str = ""
    finding: str = ANY


def studies(dataset: ChestDataset, wanted: Filter) -> list[str]:
    """Ids of the studies that pass the filter, in the data set's order."""
    table = dataset.table
    keep = np.ones(len(table), bool)
    if wanted.split:
        keep &= (table["split"] == wanted.split).to_numpy()
    if wanted.finding == NONE:
        keep &= (table[list(dataset.findings)] == 0).all(axis=1).to_numpy()
    elif wanted.finding in dataset.findings:
        keep &= (table[wanted.finding] == 1).to_numpy()
    return [str(one) for one in table.index[keep]]


@lru_cache(maxsize=8)
def counts(dataset: ChestDataset) -> dict[str, dict[str, Count]]:
    """Positives and known labels by finding and split; splits without studies are left out."""
    found: dict[str, dict[str, Count]] = {name: {} for name in dataset.findings}
    for split in SPLITS:
        ids = dataset.ids(split)
        if not ids:
            continue
        labels = dataset.labels(ids)
        for name, column in zip(dataset.findings, labels.T, strict=True):
            found[name][split] = Count(int((column == 1).sum()), int((~np.isnan(column)).sum()))
    return found


@lru_cache(maxsize=16)
def selections(dataset: ChestDataset, seed: int) -> tuple[Selection, ...]:
    """What each of the usual label fractions selects with one seed."""
    found = []
    for fraction in LABEL_FRACTIONS:
        ids = splits.subset(dataset, fraction, seed)
        patients = int(dataset.table.loc[ids, "patient"].nunique())
        found.append(Selection(fraction, len(ids), patients, splits.positives(dataset, ids)))
    return tuple(found)


def about(dataset: ChestDataset) -> str:
    """HTML of what is in the data set and what was checked."""
    table = dataset.table
    sizes = {name: len(dataset.ids(name)) for name in SPLITS}
    facts = [
        (formatting.number(len(table)), "images"),
        (formatting.number(table["patient"].nunique()), "patients"),
        *((formatting.number(sizes[name]), prevalence.SPLITS[name]) for name in SPLITS),
        (str(len(dataset.findings)), "finding" if len(dataset.findings) == 1 else "findings"),
    ]
    figures = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for value, name in facts
    )
    lines = "".join(f"<li>{escape(line)}</li>" for line in _report(dataset))
    return (
        '<section class="cxr-panel cxr-about"><dl class="cxr-figures">'
        f"{figures}</dl><ul>{lines}</ul></section>"
    )


def _report(dataset: ChestDataset) -> list[str]:
    """What the check found, and where the pictures come from."""
    table = dataset.table
    shared = int((table.groupby("patient")["split"].nunique() > 1).sum())
    lines = [
        f"{shared:,} patients stand in more than one split: results are too good by what the "
        "model remembers of them."
        if shared
        else f"Split “{dataset.split_name}”. No patient stands in two splits."
    ]
    labels = table[list(dataset.findings)].to_numpy(float)
    unknown = float(np.isnan(labels).mean())
    without = float((labels == 0).all(axis=1).mean())
    told = f"{without:.0%} of the images have none of the findings"
    lines.append(f"{told}; {unknown:.1%} of the labels are not known." if unknown else f"{told}.")
    lines += _people(dataset)
    rare = [
        f"{name.replace('_', ' ')} ({split})"
        for name, by_split in counts(dataset).items()
        for split, count in by_split.items()
        if split != "train" and count.positives < prevalence.FEW
    ]
    if rare:
        lines.append(
            f"Fewer than {prevalence.FEW} positive images: {', '.join(rare)}. AUROCs on these say "
            "little."
        )
    lines.append(f"{dataset.licence}. {dataset.citation}")
    return lines


def _people(dataset: ChestDataset) -> list[str]:
    table = dataset.table
    parts: list[str] = []
    views = [str(one) for one in table["view"] if one]
    often = sorted(set(views), key=views.count, reverse=True)[:3]
    parts += [f"{views.count(name) / len(views):.0%} {name}" for name in often]
    sexes = [str(one) for one in table["sex"] if one]
    if sexes:
        parts.append(f"{sexes.count('F') / len(sexes):.0%} women")
    ages = table["age"].dropna()
    if len(ages):
        parts.append(f"median age {ages.median():.0f} ({ages.min():.0f} to {ages.max():.0f})")
    return [f"{', '.join(parts)}."] if parts else []


def tables(dataset: ChestDataset, seed: int) -> str:
    """HTML of prevalences, and of what label fractions select with a seed."""
    chosen = selections(dataset, seed)
    return (
        '<div class="cxr-holdings"><section class="cxr-panel"><h3>Prevalence by finding and split'
        f'</h3><div class="cxr-scroll">{prevalence.prevalence(counts(dataset))}</div></section>'
        '<section class="cxr-panel"><h3>What a label fraction selects '
        f'<span class="cxr-muted cxr-light">positive training images, seed {seed}</span></h3>'
        f'<div class="cxr-scroll">{prevalence.selections(chosen, dataset.findings)}</div>'
        '<p class="cxr-muted cxr-small">Whole patients, nested: 1% is part of 2%. Each finding '
        "keeps a positive image as long as there is one. "
        f'<span class="cxr-few">Marked</span>: fewer than {prevalence.FEW}.</p></section></div>'
    )


def sheet(
    dataset: ChestDataset, cache: ImageCache, ids: Sequence[str], page: int, chosen: str | None
) -> str:
    """HTML of one page of studies.

    Args:
        dataset: The data set.
        cache: Where thumbnails are kept.
        ids: All studies that are listed.
        page: Which page of them, from 0.
        chosen: The study that is open.
    """
    if not ids:
        return (
            '<section class="cxr-panel cxr-empty"><p><b>No such study.</b>Choose another split or '
            "finding.</p></section>"
        )
    last = (len(ids) - 1) // PAGE
    page = min(max(page, 0), last)
    shown = list(ids[page * PAGE : (page + 1) * PAGE])
    faults = _cached(cache, shown)
    cards = "".join(_card(dataset, cache, one, one == chosen) for one in shown)
    first = page * PAGE + 1

    def turn(word: str, to: int) -> str:
        off = " disabled" if to < 0 or to > last else ""
        return (
            f'<button type="button" class="cxr-button" data-act="page" data-page="{to}"{off}>'
            f"{word}</button>"
        )

    return (
        '<section class="cxr-panel cxr-sheet"><div class="cxr-headline"><h3>Studies '
        f'<span class="cxr-muted cxr-light">{first:,} to {first + len(shown) - 1:,} of '
        f'{len(ids):,}</span></h3><div class="cxr-row">{turn("Previous", page - 1)}'
        f"{turn('Next', page + 1)}</div></div>{faults}"
        f'<div class="cxr-cards">{cards}</div></section>'
    )


def _cached(cache: ImageCache, ids: Sequence[str]) -> str:
    try:
        cache.ensure(list(ids))
    except CoreError as error:
        return error_message(error)
    return ""


def _card(dataset: ChestDataset, cache: ImageCache, study_id: str, chosen: bool) -> str:
    row = dataset.table.loc[study_id]
    present = [name.replace("_", " ") for name in dataset.findings if row[name] == 1]
    words = ", ".join(present) or "no finding"
    years = float(dataset.table["age"].loc[study_id])
    age = "" if math.isnan(years) else f"{years:.0f} y"
    told = (str(row["split"]), str(row["view"]), str(row["sex"]), age)
    who = " · ".join(part for part in told if part)
    try:
        picture = _picture(cache.get(study_id))
        image = f'<img src="{picture}" alt="Radiograph with {escape(words)}" loading="lazy">'
    except CoreError:
        image = '<span class="cxr-unread">cannot be read</span>'
    current = ' aria-current="true"' if chosen else ""
    return (
        f'<button type="button" class="cxr-card" data-key="{escape(study_id)}" data-act="study" '
        f'data-study="{escape(study_id)}" title="{escape(study_id)}"{current}>{image}'
        f"<b>{escape(words)}</b><span>{escape(who)}</span></button>"
    )


def _picture(image: NDArray[np.uint8]) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
