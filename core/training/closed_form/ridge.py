"""Ridge regression on small images, with a common penalty, and Platt scaling of its outputs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.training.closed_form.selection import (
    LinearFit,
    Progress,
    Studies,
    best,
    by_known,
    counted,
    has_both,
    log_odds,
    mean_auroc,
)

PENALTIES = (0.1, 1.0, 10.0, 100.0, 1_000.0, 10_000.0)
"""Penalties that are tried on grey levels from 0 to 1."""


def fit_ridge(
    train: Studies, val: Studies, progress: Progress
) -> tuple[LinearFit, dict[float, float]]:
    """Fit a ridge regression of the labels for each penalty, and choose the best on validation.

    Unknown labels are left out per finding.

    Args:
        train: Studies to fit.
        val: Studies that choose the penalty.
        progress: Receives the progress over the penalties.

    Returns:
        The best model, and the mean validation AUROC by penalty.

    Raises:
        DataError: No finding has both classes in training.
    """
    train.check_learnable()
    models: dict[float, LinearFit] = {}
    aurocs: dict[float, float] = {}
    for penalty in counted(PENALTIES, progress):
        models[penalty] = _fit(train, penalty)
        aurocs[penalty] = mean_auroc(val.labels, models[penalty].scores(val.features))
    return models[best(aurocs)], aurocs


def platt_scaling(
    scores: NDArray[np.float64], labels: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Slope and shift per finding that turn scores into logits (Platt 1999).

    The slope is positive, so that the order of the studies and their AUROC stay the same. Where
    the studies do not allow a fit, the slope is 1 and the mean logit is that of the prevalence.

    Args:
        scores: Shape (studies, findings).
        labels: Same shape: 1, 0, or NaN where not known.

    Returns:
        Slopes and shifts, each of shape (findings,).
    """
    from sklearn.linear_model import LogisticRegression

    slope, shift = np.ones(scores.shape[1]), np.zeros(scores.shape[1])
    for finding, (values, truth) in enumerate(zip(scores.T, labels.T, strict=True)):
        mean, spread = values.mean(), values.std()
        shift[finding] = log_odds(truth) - mean
        if not has_both(truth) or spread == 0:
            continue
        known = ~np.isnan(truth)
        model = LogisticRegression().fit((values[known, None] - mean) / spread, truth[known])
        if model.coef_[0, 0] > 0:
            slope[finding] = model.coef_[0, 0] / spread
            shift[finding] = model.intercept_[0] - slope[finding] * mean
    return slope, shift


def _fit(train: Studies, penalty: float) -> LinearFit:
    from sklearn.linear_model import Ridge

    findings = train.labels.shape[1]
    weight, bias = np.zeros((findings, train.features.shape[1])), np.zeros(findings)
    for known, indices in by_known(train.labels):
        if known.any():
            model = Ridge(penalty).fit(train.features[known], train.labels[known][:, indices])
            weight[indices], bias[indices] = model.coef_, model.intercept_
    return LinearFit(weight, bias)
