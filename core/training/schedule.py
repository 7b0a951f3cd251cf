"""Learning-rate schedule: linear warm-up and cosine decay."""

from __future__ import annotations

import math


def learning_rate(
    epoch: float, *, lr: float, min_lr: float, warmup_epochs: float, epochs: int
) -> float:
    """Learning rate of a step: linear warm-up from 0, then half a cosine down to ``min_lr``.

    Args:
        epoch: Completed epochs including the fraction of the current one, in [0, epochs].
        lr: Peak learning rate, reached at the end of the warm-up.
        min_lr: Learning rate at the end.
        warmup_epochs: Length of the warm-up, less than ``epochs``.
        epochs: Length of the run.
    """
    if epoch < warmup_epochs:
        return lr * epoch / warmup_epochs
    done = (epoch - warmup_epochs) / (epochs - warmup_epochs)
    return min_lr + (lr - min_lr) * 0.5 * (1.0 + math.cos(math.pi * done))
