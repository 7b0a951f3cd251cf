"""Maps of many studies, by several runs and methods, against what was marked on each.

A row is one map: run, method, finding and study, with its scores. Pictures are read once for all
runs and methods, and explained in batches.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.classifier.trained import Trained
from core.data.base import ChestDataset
from core.errors import ConfigurationError, CoreError, DataError
from core.saliency import explain as methods
from core.saliency.explain import Explanation
from core.saliency.methods import registry
from core.saliency.methods.registry import SALIENCY_METHODS
from core.saliency.scores import localisation
from core.saliency.scores.localisation import marked_region
from core.saliency.scores.stability import correlation

BATCH = 32
THUMB = 96
"""Longest side at which whole maps are compared with each other, in pixels."""

SCORES = ("hit", "energy", "iou", "best_iou")
BY_TRUTH = ("counterfactual", "counterfactual_rank")
BESIDE = "border"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Question:
    """What is asked of each run.

    Attributes:
        findings: Names of findings.
        methods: Keys of ``SALIENCY_METHODS``.
        split: ``train``, ``val``, ``test``, several of them, or all three.
        most: Studies of each finding at most, drawn by ``seed``; None takes all.
        tolerance: Of the pointing game, in pixels of the original picture.
        threshold: Of the fixed IoU, as a share of a map's peak.
        counterfactual: Compare each map with the true counterfactual, which only phantoms know.
        with_seen: Keep studies of patients whose labels a run learnt from.
        seed: Of the draw of studies.
    """

    findings: tuple[str, ...]
    methods: tuple[str, ...] = ("grad-cam", "centre-gaussian")
    split: tuple[str, ...] = ("test",)
    most: int | None = None
    tolerance: float = 0.0
    threshold: float = 0.5
    counterfactual: bool = False
    with_seen: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Judged:
    """What came of a question.

    Attributes:
        rows: One row a map: ``run``, ``method``, ``finding``, ``study``, ``patient``, ``split``,
            ``probability``, ``area`` and the scores; see ``SCORES`` and ``BY_TRUTH``. Columns
            ``on NAME`` are the shares of the map on borders, markers and tubes.
        left_out: Studies by finding that were left out because a run had learnt from the patient.
        agreement: Mean rank correlation of two maps of one study: ``run``, ``method``,
            ``other_run``, ``other_method``, ``correlation``, ``studies``.
        notes: What could not be done, a sentence each.
    """

    rows: pd.DataFrame
    left_out: dict[str, int]
    agreement: pd.DataFrame
    notes: tuple[str, ...]


@dataclass
class _Seen:
    """What the maps of one study are compared with."""

    ids: list[str]
    images: list[NDArray[np.uint8]]
    regions: list[localisation.Region]
    beside: list[dict[str, localisation.Region]]
    without: list[NDArray[np.uint8]] | None


@dataclass
class _Tally:
    rows: list[dict[str, Any]] = field(default_factory=list)
    pairs: dict[tuple[str, str, str, str], list[float]] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)


def judge(
    runs: dict[str, Trained],
    dataset: ChestDataset,
    asked: Question,
    seen: frozenset[str] = frozenset(),
    progress: Progress | None = None,
) -> Judged:
    """Explain every marked study of the findings under each run, and score the maps.

    Args:
        runs: Models by the name they shall have in the report.
        dataset: Where the studies come from.
        asked: Findings, methods, split and the rest.
        seen: Patients whose labels a run learnt from.
        progress: Told how many of how many maps are made.

    Raises:
        ConfigurationError: There is no such method, or nothing to explain.
        DataError: There is no such finding or split, no run knows it, or nothing is marked.
    """
    _check(runs, dataset, asked)
    tally = _Tally()
    chosen: dict[str, list[str]] = {}
    left_out: dict[str, int] = {}
    for finding in asked.findings:
        chosen[finding], left_out[finding] = _studies(dataset, finding, asked, seen)
    total = sum(map(len, chosen.values())) * len(runs) * len(asked.methods)
    done = 0
    for finding, ids in chosen.items():
        for start in range(0, len(ids), BATCH):
            some = ids[start : start + BATCH]
            given = _read(dataset, some, finding, asked)
            _explain(runs, dataset, given, finding, asked, tally)
            done += len(some) * len(runs) * len(asked.methods)
            if progress is not None:
                progress(done, total)
    if not tally.rows:
        raise DataError(
            f"Nothing is marked for {', '.join(asked.findings)} on the {'/'.join(asked.split)} "
            f"split of {dataset.title} that no run has learnt from.",
            "Choose another finding or split, or keep the studies seen in training (--with-seen).",
        )
    return Judged(pd.DataFrame(tally.rows), left_out, _agreement(tally.pairs), tuple(tally.notes))


def _check(runs: dict[str, Trained], dataset: ChestDataset, asked: Question) -> None:
    for method in asked.methods:
        registry.explainer(method)
    if not (runs and asked.methods and asked.findings and asked.split):
        raise ConfigurationError(
            "Nothing to explain is named.", "Name a run, a method, a finding and a split."
        )
    for finding in asked.findings:
        if finding not in dataset.findings:
            raise DataError(
                f"{dataset.title} has no finding “{finding}”.",
                f"It has: {', '.join(dataset.findings)}.",
            )
        if not any(finding in one.findings for one in runs.values()):
            next(iter(runs.values())).finding(finding)


def _studies(
    dataset: ChestDataset, finding: str, asked: Question, seen: frozenset[str]
) -> tuple[list[str], int]:
    """Positive studies of a finding, drawn by the seed, and how many were left out as seen."""
    table = dataset.table
    positive = [
        one
        for split in asked.split
        for one in dataset.ids(split)
        if table.at[one, finding] == 1 and dataset.marked(one, finding)
    ]
    kept = [one for one in positive if asked.with_seen or str(table.at[one, "patient"]) not in seen]
    left_out = len(positive) - len(kept)
    if asked.most is not None and len(kept) > asked.most:
        drawn = np.random.default_rng(asked.seed).permutation(len(kept))[: asked.most]
        kept = [kept[i] for i in sorted(drawn)]
    return kept, left_out


def _read(dataset: ChestDataset, ids: list[str], finding: str, asked: Question) -> _Seen:
    paired = asked.counterfactual or any(SALIENCY_METHODS[name].paired for name in asked.methods)
    found = _Seen([], [], [], [], [] if paired else None)
    for one in ids:
        image = dataset.read(one)
        shape = (int(image.shape[0]), int(image.shape[1]))
        region = marked_region(dataset, one, finding, shape)
        if region is None:
            continue
        found.ids.append(one)
        found.images.append(image)
        found.regions.append(region)
        found.beside.append({BESIDE: localisation.border_of(shape)} | dataset.distractors(one))
        if found.without is not None:
            other = dataset.counterfactual(one, finding)
            if other is None:
                raise DataError(
                    f"{dataset.title} does not know the same patient without the finding.",
                    "Leave the counterfactual out, or choose phantoms.",
                )
            found.without.append(other)
    return found


def _explain(
    runs: dict[str, Trained],
    dataset: ChestDataset,
    given: _Seen,
    finding: str,
    asked: Question,
    tally: _Tally,
) -> None:
    if not given.ids:
        return
    thumbs: dict[tuple[str, str], list[NDArray[np.float32]]] = {}
    for name, trained in runs.items():
        if finding not in trained.findings:
            tally.notes[f"{name} does not know the finding {finding}."] = None
            continue
        truth = None
        if asked.counterfactual:
            made = methods.explain_images(
                trained, given.images, finding, "counterfactual", without=given.without
            )
            truth = [_thumb(one.map) for one in made]
        for method in asked.methods:
            try:
                maps = methods.explain_images(
                    trained, given.images, finding, method, without=given.without
                )
            except CoreError as error:
                tally.notes[f"{SALIENCY_METHODS[method].title}, {name}: {error.cause}"] = None
                continue
            thumbs[name, method] = [_thumb(one.map) for one in maps]
            for i, one in enumerate(maps):
                row = _row(one, given, i, asked)
                if truth is not None:
                    pair = (thumbs[name, method][i], truth[i])
                    row["counterfactual"] = correlation(*pair, ranked=False)
                    row["counterfactual_rank"] = correlation(*pair)
                study = given.ids[i]
                about = dataset.table.loc[study]
                tally.rows.append(
                    {"run": name, "method": method, "finding": finding, "study": study,
                     "patient": str(about["patient"]), "split": str(about["split"]), **row}
                )  # fmt: skip
    for (a, first), (b, second) in itertools.combinations(thumbs.items(), 2):
        if a[0] == b[0] or a[1] == b[1]:  # other methods of one run, other runs by one method
            found = [correlation(x, y) for x, y in zip(first, second, strict=True)]
            tally.pairs.setdefault((*a, *b), []).extend(found)


def _row(one: Explanation, given: _Seen, i: int, asked: Question) -> dict[str, Any]:
    found = localisation.score(
        one.map, given.regions[i], tolerance=asked.tolerance, threshold=asked.threshold
    )
    empty = np.isnan(found.energy)
    beside = {
        f"on {name}": np.nan if empty else localisation.energy_inside(one.map, mask)
        for name, mask in given.beside[i].items()
    }
    return {
        "probability": one.probability,
        "area": found.area,
        "hit": float(found.hit),
        # A map of zeros holds nothing, and so nothing of it lies inside.
        "energy": 0.0 if empty else found.energy,
        "iou": found.iou,
        "best_iou": found.best_iou,
        **beside,
    }


def _thumb(values: NDArray[np.float32]) -> NDArray[np.float32]:
    step = max(1, -(-max(values.shape) // THUMB))
    return values[step // 2 :: step, step // 2 :: step]


def _agreement(pairs: dict[tuple[str, str, str, str], list[float]]) -> pd.DataFrame:
    columns = ["run", "method", "other_run", "other_method", "correlation", "studies"]
    rows = []
    for names, values in pairs.items():
        known = [one for one in values if not np.isnan(one)]
        rows.append((*names, float(np.mean(known)) if known else np.nan, len(known)))
    return pd.DataFrame(rows, columns=columns)


def scores_of(rows: pd.DataFrame) -> Sequence[str]:
    """The scores that a table of rows has."""
    return [name for name in (*SCORES, *BY_TRUTH) if name in rows.columns]
