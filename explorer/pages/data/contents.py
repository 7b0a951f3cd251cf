"""Contents of a data set: counts by finding and split, label fractions, and pages of studies."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from core.config.run import LABEL_FRACTIONS
from core.data import splits
from core.data.base import SPLITS, ChestDataset
from core.data.cache.image_cache import ImageCache
from core.errors import CoreError
from core.formatting import number, share
from explorer.templates import error_message, render_macro

TEMPLATE = "pages/data/contents.html.j2"
PAGE = 20
"""Studies on a page."""
THUMBNAIL = 144
"""Shorter side in pixels, as for training the embedded backbones: both use the same cache."""
ANY, NONE = "", "-"
"""Choices of the finding that keep all studies, and studies without any finding."""
FEW = 5
"""Counts of positive images below this are marked: too few to train or to evaluate on."""
SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Filter:
    """Which studies are listed.

    Attributes:
        split: ``train``, ``val``, ``test``, or empty for all.
        finding: Name of a finding that is present, ``ANY`` or ``NONE``.
    """

    split: str = ""
    finding: str = ANY


@dataclass(frozen=True)
class Count:
    """Count of one finding in one split.

    Attributes:
        positives: Positive studies.
        known: Studies whose label is known.
    """

    positives: int
    known: int

    @property
    def share(self) -> float:
        """Prevalence, 0 to 1; 0 if no label is known."""
        return self.positives / self.known if self.known else 0.0


@dataclass(frozen=True)
class Selection:
    """The training subset of one label fraction.

    Attributes:
        fraction: In (0, 1].
        images: Number of labelled training images.
        patients: Number of their patients.
        positives: Positive images by finding.
    """

    fraction: float
    images: int
    patients: int
    positives: Mapping[str, int]


@dataclass(frozen=True)
class Card:
    """One study of a page.

    Attributes:
        study: Its id.
        image: Its thumbnail as a data URL; empty if it cannot be read.
        findings: Its findings in words.
        facts: Split, view, sex and age; empty where unknown.
        chosen: Whether the study is open in the viewer.
    """

    study: str
    image: str
    findings: str
    facts: tuple[str, ...]
    chosen: bool


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
    return [str(study) for study in table.index[keep]]


@lru_cache(maxsize=8)
def counts(dataset: ChestDataset) -> dict[str, dict[str, Count]]:
    """Positives and known labels by finding and split; splits without studies are left out."""
    by_finding: dict[str, dict[str, Count]] = {name: {} for name in dataset.findings}
    for split in SPLITS:
        ids = dataset.ids(split)
        if not ids:
            continue
        labels = dataset.labels(ids)
        for name, column in zip(dataset.findings, labels.T, strict=True):
            known = int((~np.isnan(column)).sum())
            by_finding[name][split] = Count(int((column == 1).sum()), known)
    return by_finding


@lru_cache(maxsize=16)
def selections(dataset: ChestDataset, seed: int) -> tuple[Selection, ...]:
    """The training subset of each of the usual label fractions, drawn with one seed."""
    subsets = []
    for fraction in LABEL_FRACTIONS:
        ids = splits.subset(dataset, fraction, seed)
        patients = int(dataset.table.loc[ids, "patient"].nunique())
        subsets.append(Selection(fraction, len(ids), patients, splits.positives(dataset, ids)))
    return tuple(subsets)


def about(dataset: ChestDataset) -> Markup:
    """Size and properties of a data set as HTML."""
    findings = len(dataset.findings)
    facts = [
        (len(dataset.table), "images"),
        (dataset.table["patient"].nunique(), "patients"),
        *((len(dataset.ids(split)), SPLIT_NAMES[split]) for split in SPLITS),
        (findings, "finding" if findings == 1 else "findings"),
    ]
    return render_macro(TEMPLATE, "about", facts=facts, lines=_properties(dataset))


def tables(dataset: ChestDataset, seed: int) -> Markup:
    """Prevalences, and the training subsets drawn with a seed, as HTML."""
    by_finding = counts(dataset)
    shares = [count.share for by_split in by_finding.values() for count in by_split.values()]
    return render_macro(
        TEMPLATE,
        "tables",
        counts=by_finding,
        splits={split: SPLIT_NAMES[split] for split in SPLITS if dataset.ids(split)},
        top=max(shares, default=0) or 1.0,
        selections=selections(dataset, seed),
        findings=dataset.findings,
        seed=seed,
        few=FEW,
    )


def sheet(
    dataset: ChestDataset, cache: ImageCache, ids: Sequence[str], page: int, chosen: str | None
) -> Markup:
    """One page of studies as HTML.

    Args:
        dataset: The data set.
        cache: Place of the thumbnails.
        ids: All studies that are listed.
        page: Number of the page, from 0; one out of range is moved into it.
        chosen: The study that is open in the viewer.
    """
    if not ids:
        return render_macro(TEMPLATE, "no_study")
    last = (len(ids) - 1) // PAGE
    page = min(max(page, 0), last)
    listed = list(ids[page * PAGE : (page + 1) * PAGE])
    error = _fill(cache, listed)  # before the cards, which read from the cache
    return render_macro(
        TEMPLATE,
        "sheet",
        cards=[_card(dataset, cache, study, study == chosen) for study in listed],
        first=page * PAGE + 1,
        count=len(ids),
        page=page,
        last=last,
        error=error,
    )


def _properties(dataset: ChestDataset) -> list[str]:
    """Leakage between splits, unknown labels, patients, rare findings, licence and source."""
    table = dataset.table
    shared = int((table.groupby("patient")["split"].nunique() > 1).sum())
    lines = [
        f"{number(shared)} patients are in more than one split: AUROCs are too high, because the "
        "model is tested on patients it was trained on."
        if shared
        else f"Split “{dataset.split_name}”. No patient is in two splits."
    ]
    labels = table[list(dataset.findings)].to_numpy(float)
    unknown = float(np.isnan(labels).mean())
    without = float((labels == 0).all(axis=1).mean())
    text = f"{share(without)} of the images have none of the findings"
    lines.append(f"{text}; {share(unknown)} of the labels are unknown." if unknown else f"{text}.")
    patients = _patients(dataset)
    if patients:
        lines.append(f"{', '.join(patients)}.")
    rare = [
        f"{name.replace('_', ' ')} ({split})"
        for name, by_split in counts(dataset).items()
        for split, count in by_split.items()
        if split != "train" and count.positives < FEW
    ]
    if rare:
        lines.append(
            f"Fewer than {FEW} positive images: {', '.join(rare)}. AUROCs of these are "
            "not reliable."
        )
    lines.append(f"{dataset.licence}. {dataset.citation}")
    return lines


def _patients(dataset: ChestDataset) -> list[str]:
    """Views, sex and age in words, as far as known."""
    table = dataset.table
    parts: list[str] = []
    views = [str(view) for view in table["view"] if view]
    frequent = sorted(set(views), key=views.count, reverse=True)[:3]
    parts += [f"{share(views.count(view) / len(views))} {view}" for view in frequent]
    sexes = [str(sex) for sex in table["sex"] if sex]
    if sexes:
        parts.append(f"{share(sexes.count('F') / len(sexes))} women")
    ages = table["age"].dropna()
    if len(ages):
        parts.append(f"median age {ages.median():.0f} ({ages.min():.0f} to {ages.max():.0f})")
    return parts


def _fill(cache: ImageCache, ids: Sequence[str]) -> str:
    try:
        cache.ensure(list(ids))
    except CoreError as error:
        return error_message(error)
    return ""


def _card(dataset: ChestDataset, cache: ImageCache, study_id: str, chosen: bool) -> Card:
    row = dataset.table.loc[study_id]
    present = [name.replace("_", " ") for name in dataset.findings if row[name] == 1]
    years = float(dataset.table["age"].loc[study_id])
    age = "" if math.isnan(years) else f"{years:.0f} y"
    try:
        image = _jpeg(cache.get(study_id))
    except CoreError:
        image = ""
    facts = (str(row["split"]), str(row["view"]), str(row["sex"]), age)
    return Card(study_id, image, ", ".join(present) or "no finding", facts, chosen)


def _jpeg(image: NDArray[np.uint8]) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
