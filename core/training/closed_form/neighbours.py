"""Choice of the number of neighbours and the temperature of ``NearestNeighboursHead``."""

from __future__ import annotations

import numpy as np
import torch

from core.config.defaults import EVALUATION_BATCH
from core.models.tuning.nearest_neighbours import NearestNeighboursHead, vote_logits
from core.training.batches import chunks
from core.training.closed_form.selection import Progress, Studies, best, mean_auroc

NEIGHBOURS = (5, 10, 20, 50, 100, 200, 500)
TEMPERATURES = (0.03, 0.1, 0.3, 1.0)
"""Temperatures of the weights exp(cosine similarity / temperature); 0.07 is the published one.
With lower ones, rounding errors of the features are visible in the logits."""

Choice = tuple[int, float]
"""Number of neighbours and temperature."""


def choose_neighbours(
    head: NearestNeighboursHead, val: Studies, progress: Progress
) -> dict[Choice, float]:
    """Set the neighbours and the temperature that are best on validation.

    Args:
        head: A head whose bank is filled; it is changed.
        val: Studies that choose.
        progress: Receives the progress over the validation studies.

    Returns:
        The mean validation AUROC by choice.
    """
    # The bank may have fewer studies than the smallest number of neighbours.
    counts = sorted({min(k, len(head.bank)) for k in NEIGHBOURS})
    choices = [(k, temperature) for k in counts for temperature in TEMPERATURES]
    logits: dict[Choice, list[torch.Tensor]] = {choice: [] for choice in choices}
    for part in chunks(range(len(val.features)), EVALUATION_BATCH):
        progress(part[0], len(val.features))
        features = torch.from_numpy(val.features[part[0] : part[-1] + 1]).to(head.bank.device)
        with torch.inference_mode():
            similarity, votes = head.neighbours(features, counts[-1])
            for k, temperature in choices:
                nearest = vote_logits(similarity[..., :k], votes[..., :k], temperature)
                logits[k, temperature].append(nearest.cpu())
    aurocs = {
        choice: mean_auroc(val.labels, np.asarray(torch.cat(parts)))
        for choice, parts in logits.items()
    }
    head.choose(*best(aurocs))
    return aurocs
