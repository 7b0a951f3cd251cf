"""Training losses over the known labels, with class weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from core.config.train import Loss
from core.errors import NotFiniteError
from core.training.session import Session

FOCUS = 2.0
"""Exponent of the focal loss (Lin et al., arXiv 1708.02002)."""

FOCUS_NEGATIVE = 4.0
"""Exponent of the asymmetric loss for negatives (Ridnik et al., arXiv 2009.14119); that for
positives is 0."""

MARGIN = 0.05
"""Probability below which the asymmetric loss ignores a negative."""


def masked_loss(logits: Tensor, targets: Tensor, known: int | None = None) -> Tensor:
    """Binary cross-entropy, averaged over the known labels.

    Args:
        logits: Shape (studies, findings).
        targets: Same shape: 1, 0, or NaN where not known.
        known: Number of labels to divide by, where the targets are a part of a batch; by default
            the number of known targets.

    Returns:
        A scalar; 0 if no label is known.
    """
    return CROSS_ENTROPY(logits, targets, known)


@dataclass(frozen=True)
class TrainingLoss:
    """The loss that a run minimises, averaged over the known labels.

    Attributes:
        kind: ``bce``; ``focal``, which weights each label by its squared error; or ``asymmetric``,
            which does so for negatives only, with an exponent of 4 and a margin.
        weights: Weights of the negative and of the positive label, of shape (2, findings); None
            for 1.
    """

    kind: Loss = "bce"
    weights: Tensor | None = None

    def __call__(self, logits: Tensor, targets: Tensor, known: int | None = None) -> Tensor:
        """The loss, a scalar; arguments as for ``masked_loss``."""
        mask, truth = ~torch.isnan(targets), targets.nan_to_num()
        each = LOSSES[self.kind](logits, truth)
        if self.weights is not None:
            negative, positive = self.weights.to(each.device)
            each = each * torch.where(truth == 1, positive, negative)
        return (each * mask).sum() / (mask.sum().clamp(min=1) if known is None else max(1, known))


CROSS_ENTROPY = TrainingLoss()
"""Binary cross-entropy without class weights."""


def balanced_weights(labels: NDArray[np.float32]) -> Tensor:
    """Weights with which both labels of a finding count equally, as scikit-learn's ``balanced``.

    Args:
        labels: Labels of the labelled subset, of shape (studies, findings): 1, 0 or NaN.

    Returns:
        n / (2 · count) for the negative and the positive label, of shape (2, findings), where n is
        the number of known labels; their mean over the subset is 1. A finding with only one label
        has the weight 1.
    """
    counts = np.stack([(labels == 0).sum(axis=0), (labels == 1).sum(axis=0)])
    weights = counts.sum(axis=0) / (2 * np.maximum(counts, 1))
    return torch.from_numpy(np.where((counts > 0).all(axis=0), weights, 1.0).astype(np.float32))


def _cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(logits, truth, reduction="none")


def _focal(logits: Tensor, truth: Tensor) -> Tensor:
    error = torch.sigmoid(torch.where(truth == 1, -logits, logits))
    return _cross_entropy(logits, truth) * error**FOCUS


def _asymmetric(logits: Tensor, truth: Tensor) -> Tensor:
    shifted = (torch.sigmoid(logits) - MARGIN).clamp(min=0)
    negative = -torch.log1p(-shifted) * shifted**FOCUS_NEGATIVE
    return torch.where(truth == 1, _cross_entropy(logits, truth), negative)


LOSSES: dict[Loss, Callable[[Tensor, Tensor], Tensor]] = {
    "bce": _cross_entropy,
    "focal": _focal,
    "asymmetric": _asymmetric,
}
"""Functions of logits and labels (1 or 0), both of shape (studies, findings); the loss of each."""


def known_labels(targets: Tensor) -> int:
    """Number of known labels; call it on the host, where it needs no synchronisation."""
    return int((~torch.isnan(targets)).sum())


def not_finite(session: Session, what: str) -> NotFiniteError:
    """The error for a loss that is NaN or infinite."""
    return NotFiniteError(
        f"The {what} is not finite at step {session.position.step}.",
        f"Lower the learning rate (now {session.spec.train.lr:g}) or train in fp32.",
        field="train.lr",
    )
