"""Learning-rate schedule."""

from __future__ import annotations

import math


def learning_rate(
    epoch: float, *, lr: float, min_lr: float, warmup_epochs: float, epochs: int
) -> float:
    """Linear warm-up from 0, then a half-cycle cosine down to ``min_lr``, at any point of an epoch.

    Args:
        epoch: Epochs done so far, with its fraction, in [0, epochs].
        lr: Peak learning rate, reached at the end of the warm-up.
        min_lr: Learning rate at the end.
        warmup_epochs: Length of the warm-up.
        epochs: Length of the whole run.

    Returns:
        The learning rate of the next step.
    """
    if epoch < warmup_epochs:
        return lr * epoch / warmup_epochs
    done = (epoch - warmup_epochs) / (epochs - warmup_epochs)
    return min_lr + (lr - min_lr) * 0.5 * (1.0 + math.cos(math.pi * done))
