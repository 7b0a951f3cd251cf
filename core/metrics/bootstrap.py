"""Bootstrap over patients: intervals and paired tests of the macro AUROC."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.metrics.auroc import macro, per_finding
from core.metrics.intervals import Floats, Interval, PairedTest, codes, matrices

DRAWS = 2000
"""Default number of resamples."""
DRAWS_PER_BATCH = 64
"""Resamples computed at once: enough for wide rows, few enough for the CPU's cache."""


def bootstrap_macro(
    labels: ArrayLike,
    scores: ArrayLike,
    patients: ArrayLike | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Macro AUROC with a percentile interval over resampled patients.

    Args:
        labels: Shape (studies, findings): 1, 0 or NaN.
        scores: Same shape.
        patients: Shape (studies,); by default each study is a patient of its own.
        draws: Number of resamples.
        seed: Seed of the resamples.
        level: Coverage.

    Returns:
        The bounds are NaN if no finding is defined.
    """
    truth, values = matrices(labels, scores)
    resampled = _bootstrap(truth, [values], patients, draws, seed)[0]
    return Interval(macro(per_finding(truth, values)), *_percentiles(resampled, level))


def paired_bootstrap(
    labels: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    patients: ArrayLike | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> PairedTest:
    """Difference of two models' macro AUROC, both scored on the same resamples of patients.

    Args:
        labels: Shape (studies, findings): 1, 0 or NaN.
        first: Scores of the first model, same shape.
        second: Scores of the second model, same shape.
        patients: Shape (studies,); by default each study is a patient of its own.
        draws: Number of resamples.
        seed: Seed of the resamples.
        level: Coverage.

    Returns:
        p is twice the smaller share of resamples on either side of zero, at least
        ``2 / (draws + 1)``.
    """
    return group_bootstrap(labels, [first], [second], patients, draws, seed, level)


def group_bootstrap(
    labels: ArrayLike,
    first: Sequence[ArrayLike],
    second: Sequence[ArrayLike],
    patients: ArrayLike | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> PairedTest:
    """Like ``paired_bootstrap`` for two groups of models, each scored by its mean macro AUROC.

    Args:
        labels: Shape (studies, findings): 1, 0 or NaN.
        first: Scores of each model of the first group, each of the labels' shape.
        second: Scores of each model of the second group.
        patients: Shape (studies,); by default each study is a patient of its own.
        draws: Number of resamples.
        seed: Seed of the resamples.
        level: Coverage.
    """
    models = [matrices(labels, scores) for scores in [*first, *second]]
    truth, cut = models[0][0], len(first)
    resampled = _bootstrap(truth, [values for _, values in models], patients, draws, seed)
    difference = resampled[:cut].mean(axis=0) - resampled[cut:].mean(axis=0)
    each = np.array([macro(per_finding(truth, values)) for _, values in models])
    a, b = float(each[:cut].mean()), float(each[cut:].mean())
    low, high = _percentiles(difference, level)
    sides = min(int((difference <= 0).sum()), int((difference >= 0).sum()))
    p = math.nan if math.isnan(low) else min(1.0, 2 * (sides + 1) / (draws + 1))
    return PairedTest(a, b, Interval(a - b, low, high), math.nan, p)


def bootstrap_parts(
    labels: ArrayLike,
    scores: ArrayLike,
    parts: Sequence[NDArray[np.bool_]],
    patients: ArrayLike | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Floats:
    """Macro AUROC of several groups of studies, all on the same resamples of patients.

    Args:
        labels: Shape (studies, findings): 1, 0 or NaN; each finding has both classes in each part.
        scores: Same shape.
        parts: Masks of shape (studies,).
        patients: Shape (studies,); by default each study is a patient of its own.
        draws: Number of resamples.
        seed: Seed of the resamples.

    Returns:
        Shape (parts, draws).
    """
    truth, values = matrices(labels, scores)
    tables = [(np.where(part[:, None], truth, np.nan), values) for part in parts]
    return _resampled(tables, patients, draws, seed)


def _bootstrap(
    labels: Floats, models: Sequence[Floats], patients: ArrayLike | None, draws: int, seed: int
) -> Floats:
    """Macro AUROC of shape (models, draws); each resample has the same weights for all models."""
    return _resampled([(labels, scores) for scores in models], patients, draws, seed)


def _resampled(
    tables: Sequence[tuple[Floats, Floats]], patients: ArrayLike | None, draws: int, seed: int
) -> Floats:
    """Macro AUROC of shape (tables, draws), of pairs of labels and scores with the same rows."""
    rows, findings = tables[0][0].shape
    patient = codes(np.zeros(rows), patients)
    count = int(patient.max(initial=-1)) + 1
    plans = [
        plan
        for labels, scores in tables
        for f in range(findings)
        if (plan := _Plan.of(labels[:, f], scores[:, f], patient, count)) is not None
    ]
    defined = len(plans) // len(tables)
    result = np.full((len(tables), draws), np.nan)
    generator = np.random.default_rng(seed)
    for start in range(0, draws if defined else 0, DRAWS_PER_BATCH):
        size = min(DRAWS_PER_BATCH, draws - start)
        drawn = generator.integers(0, count, (size, count))
        drawn += np.arange(size)[:, None] * count
        weights = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        columns = np.ascontiguousarray(weights.T, dtype=np.float32)
        areas = np.stack([plan.areas(columns) for plan in plans]).reshape(len(tables), defined, -1)
        known = ~np.isnan(areas)
        # A resample may contain no positive of a rare finding: its mean is over the others.
        with np.errstate(invalid="ignore"):
            sums = np.where(known, areas, 0).sum(axis=1)
            result[:, start : start + size] = sums / np.where(known.any(1), known.sum(1), np.nan)
    return result


@dataclass(frozen=True)
class _Plan:
    """The order of a finding's scores, which is the same in all resamples.

    The AUROC needs, for each positive, the total weight of the negatives below it. Only the sum of
    the negatives between two neighbouring positives matters: the product with a sparse matrix of
    shape (segments, patients) computes these sums for all resamples at once, many times faster than
    sorting each resample.
    """

    positive: NDArray[np.intp]
    segments: Any
    below: NDArray[np.intp]
    up_to: NDArray[np.intp]

    @classmethod
    def of(
        cls, labels: Floats, scores: Floats, patients: NDArray[np.intp], count: int
    ) -> _Plan | None:
        from scipy.sparse import csr_matrix

        known = np.flatnonzero(~np.isnan(labels))
        order = known[np.argsort(scores[known], kind="stable")]
        positive, negative = order[labels[order] == 1], order[labels[order] == 0]
        if not len(positive) or not len(negative):
            return None
        below = np.searchsorted(scores[negative], scores[positive], "left")
        up_to = np.searchsorted(scores[negative], scores[positive], "right")
        edges = np.unique(np.concatenate([[0], below, up_to, [len(negative)]]))
        ones = np.ones(len(negative), np.float32)
        shape = (len(edges) - 1, count)
        segments = csr_matrix((ones, patients[negative], edges), shape=shape)
        return cls(
            patients[positive],
            segments,
            np.searchsorted(edges, below),
            np.searchsorted(edges, up_to),
        )

    def areas(self, weights: NDArray[np.float32]) -> Floats:
        """AUROC of each resample, from weights of shape (patients, draws)."""
        positives, parts = weights[self.positive], self.segments @ weights
        sums = np.zeros((len(parts) + 1, parts.shape[1]))
        np.cumsum(parts, axis=0, dtype=np.float64, out=sums[1:])
        # Negatives below count once, tied ones half: the mean of both sums, hence the factor 2.
        won = np.einsum("pd,pd->d", positives, sums[self.below] + sums[self.up_to])
        pairs = positives.sum(axis=0, dtype=np.float64) * sums[-1]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(pairs > 0, won / (2 * pairs), np.nan)


def _percentiles(values: Floats, level: float) -> tuple[float, float]:
    defined = values[~np.isnan(values)]
    if not defined.size:
        return math.nan, math.nan
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
