"""Linear probe: a fast score of a backbone's features during pre-training."""

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
    """Make a linear probe: ridge regression on a backbone's features, scored by mean AUROC.

    Args:
        train: Images [N, H, W] and labels [N, F] (0, 1 or NaN) for fitting.
        test: Images and labels for scoring.
        input_size: Side in pixels that the images are resized to.
        ridge: Penalty on the weights of the standardised features.

    Returns:
        A function of a backbone, for ``pretrain(probes=…)``.
    """

    def features(module: nn.Module, images: NDArray[np.uint8]) -> Tensor:
        batches = np.array_split(images, max(1, len(images) // 256))
        return torch.cat([module(resized(batch, input_size)) for batch in batches]).double()

    def probe(module: nn.Module) -> float:
        from sklearn.metrics import roc_auc_score

        with torch.inference_mode():
            fitted, scored = features(module, train[0]), features(module, test[0])
            mean, std = fitted.mean(0), fitted.std(0) + 1e-6
            fitted, scored = (fitted - mean) / std, (scored - mean) / std
            # An unknown label is replaced by the finding's mean, which has no effect on the fit.
            labels = torch.tensor(train[1], dtype=torch.float64)
            labels = torch.where(labels.isnan(), labels.nanmean(0), labels).nan_to_num()
            gram = fitted.T @ fitted + ridge * torch.eye(fitted.shape[1], dtype=torch.float64)
            weights = torch.linalg.solve(gram, fitted.T @ (labels - labels.mean(0)))
            scores = (scored @ weights).numpy()
        aurocs = []
        for truth, score in zip(test[1].T, scores.T, strict=True):
            known = ~np.isnan(truth)
            if 0 < truth[known].sum() < known.sum():
                aurocs.append(roc_auc_score(truth[known], score[known]))
        return float(np.mean(aurocs)) if aurocs else float("nan")

    return probe
