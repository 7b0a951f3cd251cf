"""Logistic regression per finding on standardised features, with a common penalty."""

from __future__ import annotations

import warnings

import numpy as np

from core.training.closed_form.selection import (
    LinearFit,
    Progress,
    Studies,
    best,
    counted,
    has_both,
    log_odds,
    mean_auroc,
)

INVERSE_PENALTIES = tuple(10.0**exponent for exponent in range(-5, 3))
"""Values of scikit-learn's C that are tried, from the strongest penalty to the weakest.

All findings share one value: a rare finding has too few positives in validation to choose its own.
"""

MANY_FEATURES = 512
"""Number of features above which Newton's method is slower than L-BFGS."""


def fit_logistic(
    train: Studies, val: Studies, progress: Progress
) -> tuple[LinearFit, dict[float, float]]:
    """Fit a logistic regression per finding for each penalty, and choose the best on validation.

    Features are standardised by the training studies; the returned weights apply to the features
    as they are. Unknown labels are left out per finding. A finding of whose classes only one is
    known in training gets its prevalence as a constant.

    Args:
        train: Studies to fit.
        val: Studies that choose the penalty.
        progress: Receives the progress over the penalties.

    Returns:
        The best model, and the mean validation AUROC by C.

    Raises:
        DataError: No finding has both classes in training.
    """
    train.check_learnable()
    mean, std = train.features.mean(0, dtype=np.float64), train.features.std(0, dtype=np.float64)
    std[std == 0] = 1.0
    fitted, validated = ((part.features - mean) / std for part in (train, val))
    models: dict[float, LinearFit] = {}
    aurocs: dict[float, float] = {}
    for c in counted(INVERSE_PENALTIES, progress):
        models[c] = _fit(Studies(fitted, train.labels), c)
        aurocs[c] = mean_auroc(val.labels, models[c].scores(validated))
    chosen = models[best(aurocs)]
    weight = chosen.weight / std
    return LinearFit(weight, chosen.bias - weight @ mean), aurocs


def _fit(train: Studies, c: float) -> LinearFit:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    findings, features = train.labels.shape[1], train.features.shape[1]
    solver = "newton-cholesky" if features <= MANY_FEATURES else "lbfgs"
    weight, bias = np.zeros((findings, features)), np.zeros(findings)
    for finding, labels in enumerate(train.labels.T):
        if not has_both(labels):
            bias[finding] = log_odds(labels)
            continue
        known = ~np.isnan(labels)
        model = LogisticRegression(C=c, solver=solver, tol=1e-8, max_iter=1000)
        # The matrices are small: several threads would mostly wait for each other.
        with warnings.catch_warnings(), threadpool_limits(1, "blas"):
            # With almost no penalty the classes may be separable; the penalty is then not chosen.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(train.features[known], labels[known])
        weight[finding], bias[finding] = model.coef_[0], model.intercept_[0]
    return LinearFit(weight, bias)
