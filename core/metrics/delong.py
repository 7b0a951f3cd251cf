"""DeLong's placement values: what each patient contributes to an AUROC, and its variance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from core.metrics.intervals import Floats, known_labels, patient_numbers


@dataclass(frozen=True, eq=False)
class Placements:
    """AUROCs of several models on one finding, with the deviations that each patient contributes.

    Attributes:
        areas: AUROCs of shape (models,); NaN if either class is missing.
        positive: Shape (models, patients): each patient's sum of the deviations of the placement
            values of the positive studies, divided by their number. Sums to zero over patients.
        negative: The same for the negative studies.
        counts: Number of positive and of negative studies.
        groups: Number of patients with positive and with negative studies.
        known: Number of patients with a known label.
    """

    areas: Floats
    positive: Floats
    negative: Floats
    counts: tuple[int, int]
    groups: tuple[int, int]
    known: int


def placements(
    labels: ArrayLike, models: Sequence[ArrayLike], patients: ArrayLike | None = None
) -> Placements:
    """Placement values of DeLong et al. (1988) in the fast form of Sun and Xu (2014), by patient.

    Args:
        labels: Shape (studies,): 1, 0 or NaN.
        models: Scores of each model, each of shape (studies,).
        patients: Shape (studies,): the patient of each study; by default each study has its own.

    Raises:
        ValueError: As for ``auroc``.
    """
    pairs = [known_labels(labels, scores) for scores in models]
    truth = pairs[0][0]
    numbers, size = patient_numbers(len(np.asarray(labels)), patients)
    patient = numbers[~np.isnan(np.asarray(labels, np.float64))]
    positive, negative = np.flatnonzero(truth), np.flatnonzero(~truth)
    m, n, k = len(positive), len(negative), len(models)
    groups = len(np.unique(patient[positive])), len(np.unique(patient[negative]))
    known = len(np.unique(patient))
    if m == 0 or n == 0:
        zeros = np.zeros((k, size))
        return Placements(np.full(k, np.nan), zeros, zeros, (m, n), groups, known)
    above, below = np.empty((k, m)), np.empty((k, n))
    for i, (_, values) in enumerate(pairs):
        both = _midranks(np.concatenate([values[positive], values[negative]]))
        above[i] = (both[:m] - _midranks(values[positive])) / n
        below[i] = 1 - (both[m:] - _midranks(values[negative])) / m
    areas = above.mean(axis=1)
    above_sums, below_sums = (
        np.stack([np.bincount(patient[part], row, minlength=size) for row in rows - areas[:, None]])
        for part, rows in ((positive, above), (negative, below))
    )
    return Placements(areas, above_sums / m, below_sums / n, (m, n), groups, known)


def delong_covariance(
    labels: ArrayLike, models: Sequence[ArrayLike], patients: ArrayLike | None = None
) -> tuple[Floats, Floats]:
    """AUROCs of several models on the same studies, with their covariance.

    The method of DeLong et al. (1988). With ``patients``, studies are clustered by patient
    (Obuchowski 1997); with one study per patient the result is the same, and that of R's pROC.

    Args:
        labels: Shape (studies,): 1, 0 or NaN.
        models: Scores of each model, each of shape (studies,).
        patients: Shape (studies,): the patient of each study.

    Returns:
        AUROCs of shape (models,) and their covariance of shape (models, models); NaN if there are
        fewer than two positives or negatives (or patients with them).

    Raises:
        ValueError: As for ``auroc``.
    """
    found = placements(labels, models, patients)
    k, total = len(found.areas), found.known
    if min(found.groups) < 2:
        return found.areas, np.full((k, k), np.nan)
    # A patient with positive and negative studies correlates the two sums: s11 is zero without.
    s10, s01 = (
        g / (g - 1) * (rows @ rows.T)
        for g, rows in zip(found.groups, (found.positive, found.negative), strict=True)
    )
    s11 = total / (total - 1) * (found.positive @ found.negative.T)
    return found.areas, s10 + s01 + s11 + s11.T


def _midranks(values: Floats) -> Floats:
    """Ranks from 1; equal values get the mean of their ranks."""
    ordered = np.sort(values)
    first = np.searchsorted(ordered, values, "left")
    last = np.searchsorted(ordered, values, "right")
    ranks: Floats = (first + last + 1) / 2
    return ranks
