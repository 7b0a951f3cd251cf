"""Data of a fit, and the choice of a setting by the mean AUROC of the validation split."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from core.errors import DataError
from core.metrics.auroc import macro, per_finding

Floats = NDArray[np.float32] | NDArray[np.float64]
Progress = Callable[[int, int], None]
"""Receives the numbers of finished and of all candidates; may raise ``Stopped``."""

Setting = TypeVar("Setting")


@dataclass(frozen=True)
class Studies:
    """Studies of one split.

    Attributes:
        features: Shape (studies, features).
        labels: Shape (studies, findings): 1, 0, or NaN where not known.
    """

    features: Floats
    labels: NDArray[np.float32]

    def check_learnable(self) -> None:
        """Refuse training studies from which nothing can be fitted.

        Raises:
            DataError: No finding has both positive and negative studies.
        """
        if not any(has_both(labels) for labels in self.labels.T):
            raise DataError(
                f"No finding has both positive and negative studies among the {len(self.labels):,} "
                "labelled training images.",
                "Raise the label fraction, or list other studies.",
                field="data.label_fraction",
            )


@dataclass(frozen=True)
class LinearFit:
    """A linear model per finding.

    Attributes:
        weight: Shape (findings, features).
        bias: Shape (findings,).
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]

    def scores(self, features: Floats) -> NDArray[np.float64]:
        """Outputs of shape (studies, findings)."""
        outputs: NDArray[np.float64] = features @ self.weight.T + self.bias
        return outputs


def best(aurocs: dict[Setting, float]) -> Setting:
    """The setting with the highest AUROC; of equal ones the first. NaN is lowest."""
    return max(
        aurocs, key=lambda setting: -math.inf if math.isnan(value := aurocs[setting]) else value
    )


def mean_auroc(labels: NDArray[np.float32], scores: Floats) -> float:
    """Mean AUROC over the findings with both classes; NaN without any."""
    return macro(per_finding(labels, scores))


def has_both(labels: NDArray[np.float32]) -> bool:
    """Whether the known labels of a finding include 1 and 0."""
    return bool((labels == 1).any() and (labels == 0).any())


def log_odds(labels: NDArray[np.float32]) -> float:
    """Log odds of a positive label, with half a study added to either class."""
    positive, negative = (labels == 1).sum(), (labels == 0).sum()
    return math.log((positive + 0.5) / (negative + 0.5))


def by_known(labels: NDArray[np.float32]) -> Iterator[tuple[NDArray[np.bool_], list[int]]]:
    """Groups of findings whose labels are known for the same studies.

    Args:
        labels: Shape (studies, findings).

    Yields:
        The mask of these studies, and the indices of the findings.
    """
    known = ~np.isnan(labels)
    groups: dict[bytes, list[int]] = {}
    for finding in range(labels.shape[1]):
        groups.setdefault(known[:, finding].tobytes(), []).append(finding)
    for findings in groups.values():
        yield known[:, findings[0]], findings


def counted(candidates: Iterable[Setting], progress: Progress) -> Iterator[Setting]:
    """The candidates one after another, each reported before it is tried."""
    listed = list(candidates)
    for number, candidate in enumerate(listed):
        progress(number, len(listed))
        yield candidate
