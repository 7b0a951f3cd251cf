"""Calls: whether a run's probability of a finding says present, absent or uncertain.

The validation split gives the relation of a run's probability to the odds of the finding: a
logistic regression on the logit, with scikit-learn's default penalty, so that a few positives do
not promise a relation that is not there. A finding is called *present* if the probability is at or
above the operating point (see ``core.metrics.operating_point``, rule ``prevalence``) and at least
doubles the odds that the prevalence gives; *absent* if it at least halves them; otherwise
*uncertain*. A run without information is therefore uncertain about everything. Likelihood ratios
above 2 and below 1/2 are the smallest that change a decision (Jaeschke et al. 1994, JAMA
271:703-707).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from core.metrics.calibration import logits
from core.metrics.intervals import known_labels
from core.metrics.operating_point import operating_point

ODDS_RATIO = 2.0
"""How much a call changes the odds of the finding."""

Word = Literal["present", "absent", "uncertain"]


@dataclass(frozen=True)
class Caller:
    """How the probabilities of one finding are read.

    Attributes:
        threshold: The operating point: a probability.
        prevalence: Share of the validation studies with the finding, 0 to 1.
        slope: Change of the log odds with the logit of the probability, at least 0.
        intercept: Log odds where that logit is 0.
    """

    threshold: float
    prevalence: float
    slope: float
    intercept: float

    def calibrated(self, probability: float) -> float:
        """Share of validation studies with the finding at this probability, as fitted, 0 to 1."""
        return 1 / (1 + math.exp(-self._log_odds(probability)))

    def odds_ratio(self, probability: float) -> float:
        """Factor by which this probability changes the odds of the finding."""
        return math.exp(self._log_odds(probability) - _logit(self.prevalence))

    def word(self, probability: float) -> Word:
        """The call at a probability from 0 to 1."""
        ratio = self.odds_ratio(probability)
        if probability >= self.threshold and ratio >= ODDS_RATIO:
            return "present"
        return "absent" if ratio <= 1 / ODDS_RATIO else "uncertain"

    def _log_odds(self, probability: float) -> float:
        return self.intercept + self.slope * _logit(probability)


def fit_caller(labels: ArrayLike, probabilities: ArrayLike) -> Caller | None:
    """Fit how the probabilities of one finding are read, on the validation split.

    Args:
        labels: Shape (studies,): 1, 0 or NaN.
        probabilities: Same shape, 0 to 1.

    Returns:
        None if either class is missing.
    """
    from sklearn.linear_model import LogisticRegression

    truth, values = known_labels(labels, probabilities)
    point = operating_point(labels, probabilities)
    if math.isnan(point.threshold):
        return None
    inputs = logits(values)
    prevalence = float(truth.mean())
    spread = float(inputs.std())
    if spread < 1e-9:
        return Caller(point.threshold, prevalence, 0.0, _logit(prevalence))
    model = LogisticRegression().fit((inputs[:, None] - inputs.mean()) / spread, truth)
    slope = float(model.coef_[0, 0]) / spread
    if slope <= 0:
        return Caller(point.threshold, prevalence, 0.0, _logit(prevalence))
    return Caller(
        point.threshold, prevalence, slope, float(model.intercept_[0]) - slope * inputs.mean()
    )


def _logit(probability: float) -> float:
    return float(logits(np.float64(probability)))
