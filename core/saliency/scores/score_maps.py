"""Score the maps of several runs and methods against the regions marked on many studies.

A row is one map: run, method, finding and study, with its scores. Images are read once for all runs
and methods, and explained in batches.
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
from core.saliency.explain import Explanation, explain_images
from core.saliency.methods.registry import SALIENCY_METHODS, saliency_method
from core.saliency.scores import localisation
from core.saliency.scores.localisation import Region, marked_region
from core.saliency.scores.stability import correlation

BATCH = 32
THUMBNAIL = 96
"""Longest side, in pixels, at which whole maps are compared with each other."""

SCORES = ("hit", "energy", "iou", "best_iou")
COUNTERFACTUAL_SCORES = ("counterfactual", "counterfactual_rank")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ScoringOptions:
    """Which maps are computed, and how they are scored.

    Attributes:
        findings: Names of findings.
        methods: Keys of ``SALIENCY_METHODS``.
        split: ``train``, ``val``, ``test``, several of them, or all three.
        most: Maximum number of studies per finding, drawn by ``seed``; None takes all.
        tolerance: Tolerance of the pointing game, in pixels of the original image.
        threshold: Threshold of the fixed IoU, as a share of a map's peak.
        counterfactual: Compare each map with the true counterfactual, which only phantoms have.
        with_seen: Keep studies of patients whose labels a run was trained on.
        seed: Seed of the draw of studies.
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
class ScoredMaps:
    """The scores of all maps.

    Attributes:
        rows: One row per map: ``run``, ``method``, ``finding``, ``study``, ``patient``, ``split``,
            ``probability``, ``area`` and the scores; see ``SCORES`` and ``COUNTERFACTUAL_SCORES``.
            Columns ``on NAME`` are the shares of the map on borders, markers and tubes.
        left_out: Number of studies by finding that were left out because a run was trained on the
            patient.
        agreement: Mean rank correlation of two maps of one study: ``run``, ``method``,
            ``other_run``, ``other_method``, ``correlation``, ``studies``.
        notes: What could not be computed, one sentence each.
    """

    rows: pd.DataFrame
    left_out: dict[str, int]
    agreement: pd.DataFrame
    notes: tuple[str, ...]


@dataclass
class _Batch:
    """Studies of one finding, and what their maps are compared with."""

    ids: list[str]
    images: list[NDArray[np.uint8]]
    regions: list[Region]
    distractors: list[dict[str, Region]]
    without: list[NDArray[np.uint8]] | None


@dataclass
class _Results:
    rows: list[dict[str, Any]] = field(default_factory=list)
    correlations: dict[tuple[str, str, str, str], list[float]] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)


def score_maps(
    runs: dict[str, Trained],
    dataset: ChestDataset,
    options: ScoringOptions,
    seen: frozenset[str] = frozenset(),
    progress: Progress | None = None,
) -> ScoredMaps:
    """Explain every marked study of the findings by each run, and score the maps.

    Args:
        runs: Models by their name in the report.
        dataset: The data set of the studies.
        options: Findings, methods, split and parameters of the scores.
        seen: Patients whose labels a run was trained on.
        progress: Called with the numbers of finished and of all maps.

    Raises:
        ConfigurationError: There is no such method, or nothing to explain.
        DataError: There is no such finding or split, no run has it, or nothing is marked.
    """
    _check(runs, dataset, options)
    results = _Results()
    studies: dict[str, list[str]] = {}
    left_out: dict[str, int] = {}
    for finding in options.findings:
        studies[finding], left_out[finding] = _studies(dataset, finding, options, seen)
    per_study = len(runs) * len(options.methods)
    total = sum(map(len, studies.values())) * per_study
    done = 0
    for finding, ids in studies.items():
        for start in range(0, len(ids), BATCH):
            some = ids[start : start + BATCH]
            batch = _read(dataset, some, finding, options)
            _explain(runs, dataset, batch, finding, options, results)
            done += len(some) * per_study
            if progress is not None:
                progress(done, total)
    if not results.rows:
        raise DataError(
            f"No study of the {'/'.join(options.split)} split of {dataset.title} has a marked "
            f"region of {', '.join(options.findings)}, apart from those of patients that a run was "
            "trained on.",
            "Choose another finding or split, or keep the studies seen in training (--with-seen).",
        )
    return ScoredMaps(
        pd.DataFrame(results.rows), left_out, _agreement(results.correlations), tuple(results.notes)
    )


def scores_of(rows: pd.DataFrame) -> Sequence[str]:
    """The scores that are columns of a table of rows."""
    return [name for name in (*SCORES, *COUNTERFACTUAL_SCORES) if name in rows.columns]


def _check(runs: dict[str, Trained], dataset: ChestDataset, options: ScoringOptions) -> None:
    for method in options.methods:
        saliency_method(method)
    if not (runs and options.methods and options.findings and options.split):
        raise ConfigurationError(
            "There is nothing to explain.", "Give at least one run, method, finding and split."
        )
    for finding in options.findings:
        if finding not in dataset.findings:
            raise DataError(
                f"{dataset.title} has no finding “{finding}”.",
                f"It has: {', '.join(dataset.findings)}.",
            )
        if not any(finding in trained.findings for trained in runs.values()):
            next(iter(runs.values())).finding(finding)  # raises the error that names the findings


def _studies(
    dataset: ChestDataset, finding: str, options: ScoringOptions, seen: frozenset[str]
) -> tuple[list[str], int]:
    """Marked positive studies of a finding, drawn by the seed, and how many were seen."""
    table = dataset.table
    positive = [
        study
        for split in options.split
        for study in dataset.ids(split)
        if table.at[study, finding] == 1 and dataset.marked(study, finding)
    ]
    kept = [
        study
        for study in positive
        if options.with_seen or str(table.at[study, "patient"]) not in seen
    ]
    left_out = len(positive) - len(kept)
    if options.most is not None and len(kept) > options.most:
        drawn = np.random.default_rng(options.seed).permutation(len(kept))[: options.most]
        kept = [kept[i] for i in sorted(drawn)]
    return kept, left_out


def _read(dataset: ChestDataset, ids: list[str], finding: str, options: ScoringOptions) -> _Batch:
    """Read the images and marked regions of some studies."""
    paired = options.counterfactual or any(SALIENCY_METHODS[m].paired for m in options.methods)
    batch = _Batch([], [], [], [], [] if paired else None)
    for study in ids:
        image = dataset.read(study)
        shape = (int(image.shape[0]), int(image.shape[1]))
        region = marked_region(dataset, study, finding, shape)
        if region is None:
            continue
        batch.ids.append(study)
        batch.images.append(image)
        batch.regions.append(region)
        batch.distractors.append(
            {"border": localisation.border_of(shape)} | dataset.distractors(study)
        )
        if batch.without is not None:
            without = dataset.counterfactual(study, finding)
            if without is None:
                raise DataError(
                    f"{dataset.title} has no images of the same patient without the finding.",
                    "Remove the counterfactual, or choose phantoms.",
                )
            batch.without.append(without)
    return batch


def _explain(
    runs: dict[str, Trained],
    dataset: ChestDataset,
    batch: _Batch,
    finding: str,
    options: ScoringOptions,
    results: _Results,
) -> None:
    """Add the maps of all runs and methods on one batch to the results."""
    if not batch.ids:
        return
    thumbnails: dict[tuple[str, str], list[NDArray[np.float32]]] = {}
    for name, trained in runs.items():
        if finding not in trained.findings:
            results.notes[f"{name} has no finding {finding}."] = None
            continue
        truth = None
        if options.counterfactual:
            exact = explain_images(
                trained, batch.images, finding, "counterfactual", without=batch.without
            )
            truth = [_thumbnail(explanation.map) for explanation in exact]
        for method in options.methods:
            try:
                maps = explain_images(trained, batch.images, finding, method, without=batch.without)
            except CoreError as error:
                # A method that does not support one network must not stop the report.
                results.notes[f"{SALIENCY_METHODS[method].title}, {name}: {error.cause}"] = None
                continue
            own = thumbnails[name, method] = [_thumbnail(item.map) for item in maps]
            for i, explanation in enumerate(maps):
                scores = _scores(explanation, batch, i, options)
                if truth is not None:
                    scores["counterfactual"] = correlation(own[i], truth[i], ranked=False)
                    scores["counterfactual_rank"] = correlation(own[i], truth[i])
                study = batch.ids[i]
                attributes = dataset.table.loc[study]
                results.rows.append(
                    {"run": name, "method": method, "finding": finding, "study": study,
                     "patient": str(attributes["patient"]), "split": str(attributes["split"]),
                     **scores}
                )  # fmt: skip
    for (a, first), (b, second) in itertools.combinations(thumbnails.items(), 2):
        # Two methods of one run, or two runs with one method; other pairs differ in both.
        if a[0] == b[0] or a[1] == b[1]:
            pairs = zip(first, second, strict=True)
            results.correlations.setdefault((*a, *b), []).extend(
                correlation(x, y) for x, y in pairs
            )


def _scores(
    explanation: Explanation, batch: _Batch, i: int, options: ScoringOptions
) -> dict[str, Any]:
    """The scores of one map, as columns of a row."""
    scores = localisation.score(
        explanation.map, batch.regions[i], tolerance=options.tolerance, threshold=options.threshold
    )
    empty = np.isnan(scores.energy)
    shares = {
        f"on {name}": np.nan if empty else localisation.energy_inside(explanation.map, mask)
        for name, mask in batch.distractors[i].items()
    }
    return {
        "probability": explanation.probability,
        "area": scores.area,
        "hit": float(scores.hit),
        # A map of zeros marks nothing: it counts as a miss, and is not left out of the mean.
        "energy": 0.0 if empty else scores.energy,
        "iou": scores.iou,
        "best_iou": scores.best_iou,
        **shares,
    }


def _thumbnail(values: NDArray[np.float32]) -> NDArray[np.float32]:
    step = max(1, -(-max(values.shape) // THUMBNAIL))
    return values[step // 2 :: step, step // 2 :: step]


def _agreement(correlations: dict[tuple[str, str, str, str], list[float]]) -> pd.DataFrame:
    columns = ["run", "method", "other_run", "other_method", "correlation", "studies"]
    rows = []
    for names, values in correlations.items():
        known = [value for value in values if not np.isnan(value)]
        rows.append((*names, float(np.mean(known)) if known else np.nan, len(known)))
    return pd.DataFrame(rows, columns=columns)
