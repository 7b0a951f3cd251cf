"""What training lowers: binary cross-entropy over the labels that are known."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from core.errors import NotFiniteError
from core.training.session import Session


def masked_loss(logits: Tensor, targets: Tensor, known: int | None = None) -> Tensor:
    """Binary cross-entropy, averaged over the labels that are known.

    Args:
        logits: Shape (studies, findings).
        targets: Same shape: 1, 0, or NaN where not known.
        known: Labels to divide by, where these are a part of a batch; by default those that are
            known here.

    Returns:
        A scalar; 0 if no label is known.
    """
    told = ~torch.isnan(targets)
    each = binary_cross_entropy_with_logits(logits, targets.nan_to_num(), reduction="none")
    return (each * told).sum() / (told.sum().clamp(min=1) if known is None else max(1, known))


def known_labels(targets: Tensor) -> int:
    """How many labels are known; on the host, so that no device is waited for."""
    return int((~torch.isnan(targets)).sum())


def not_finite(session: Session, what: str) -> NotFiniteError:
    """The error for a loss that is NaN or infinite.

    Args:
        session: The run.
        what: Which loss.
    """
    return NotFiniteError(
        f"The {what} is not finite at step {session.position.step}.",
        f"Lower the learning rate (now {session.spec.train.lr:g}) or train in fp32.",
        field="train.lr",
    )
