"""Training loss: binary cross-entropy over the known labels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from core.errors import NotFiniteError
from core.training.session import Session


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
    mask = ~torch.isnan(targets)
    each = binary_cross_entropy_with_logits(logits, targets.nan_to_num(), reduction="none")
    return (each * mask).sum() / (mask.sum().clamp(min=1) if known is None else max(1, known))


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
