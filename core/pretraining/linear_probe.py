"""What features are worth to a linear classifier, told in seconds while a backbone is trained."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.pretraining.crops import resized


def linear_probe(
    train: tuple[NDArray[np.uint8], NDArray[np.float32]],
    test: tuple[NDArray[np.uint8], NDArray[np.float32]],
    *,
    input_size: int = 128,
    ridge: float = 1.0,
) -> Callable[[nn.Module], float]:
    """Make a cheap readout of a backbone: ridge regression on its features, mean AUROC.

    Args:
        train: Pictures [N, H, W] and labels [N, F] (0, 1 or NaN) that the regression is fitted to.
        test: Pictures and labels it is judged by.
        input_size: Side that the pictures are resized to.
        ridge: Penalty on the weights of the standardised features.

    Returns:
        A callable for ``pretrain(probe=…)``.
    """

    def features(module: nn.Module, pictures: NDArray[np.uint8]) -> Tensor:
        parts = np.array_split(pictures, max(1, len(pictures) // 256))
        return torch.cat([module(resized(part, input_size)) for part in parts]).double()

    def probe(module: nn.Module) -> float:
        from sklearn.metrics import roc_auc_score

        with torch.inference_mode():
            known, asked = features(module, train[0]), features(module, test[0])
            mean, spread = known.mean(0), known.std(0) + 1e-6
            known, asked = (known - mean) / spread, (asked - mean) / spread
            # A label that nobody knows is its finding's mean: it pulls neither way.
            labels = torch.tensor(train[1], dtype=torch.float64)
            labels = torch.where(labels.isnan(), labels.nanmean(0), labels).nan_to_num()
            gram = known.T @ known + ridge * torch.eye(known.shape[1], dtype=torch.float64)
            weights = torch.linalg.solve(gram, known.T @ (labels - labels.mean(0)))
            scores = (asked @ weights).numpy()
        found = []
        for truth, score in zip(test[1].T, scores.T, strict=True):
            there = ~np.isnan(truth)
            if 0 < truth[there].sum() < there.sum():
                found.append(roc_auc_score(truth[there], score[there]))
        return float(np.mean(found)) if found else float("nan")

    return probe
