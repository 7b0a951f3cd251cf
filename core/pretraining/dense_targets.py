"""Dense targets that generated images give without any finding's name: differences and anatomy.

For each phantom the maps say where it is brighter or darker than the same patient without findings,
and where lungs, heart and tubes are. A token of the encoder predicts the shares in ``CELLS`` ×
``CELLS`` parts of its patch, so that it also learns the shape of findings that are smaller than it.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from core.data.phantoms.anatomy import LEFT, RIGHT
from core.data.phantoms.dataset import Phantom
from core.files import write_atomically

TARGETS = ("brighter", "darker", "lungs", "heart", "tubes")

CELLS = 4
"""Parts of a patch, per side."""

FULL_DIFFERENCE = 24.0
"""Difference in grey levels that counts as a whole pixel of a finding; smaller ones count less."""

POSITIVE_WEIGHTS = (3.0, 3.0, 1.0, 1.0, 3.0)
"""Weight of a target's presence in the loss: findings and tubes are rare."""

STUDIES_PER_TASK = 50


def dense_maps(phantom: Phantom, study_id: str, size: int) -> NDArray[np.uint8]:
    """The targets of one phantom.

    Args:
        phantom: The data set.
        study_id: The study.
        size: Side of the maps in pixels.

    Returns:
        Shape (targets, size, size): shares of a pixel, from 0 to 255.
    """
    scene, healthy = phantom.twins(study_id, size)
    frame = healthy.frame
    change = (scene.image().astype(np.float32) - healthy.image()) / FULL_DIFFERENCE
    tubes = scene.distractors().get("tubes")
    maps = [
        np.clip(change, 0, 1),
        np.clip(-change, 0, 1),
        frame.lungs[RIGHT] + frame.lungs[LEFT],
        frame.heart,
        np.zeros((size, size)) if tubes is None else tubes,
    ]
    return np.stack([np.round(255 * np.clip(each, 0, 1)) for each in maps]).astype(np.uint8)


def collect_dense(
    phantom: Phantom,
    ids: Sequence[str],
    cache: Path,
    size: int,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.uint8]:
    """The targets of several phantoms, kept in a file of the cache.

    Args:
        phantom: The data set.
        ids: The studies.
        cache: Folder of decoded images.
        size: Side of the maps in pixels.
        progress: Called with the number of studies that are ready and the total.

    Returns:
        Shape (studies, targets, size, size), see ``dense_maps``.
    """
    name = f"dense-{phantom.prerendered_name(ids[0], size)}-{len(ids)}".replace("/", "-")
    path = cache / f"{name}.npy"
    if path.exists():
        stored: NDArray[np.uint8] = np.load(path)
        return stored
    parts = [ids[i : i + STUDIES_PER_TASK] for i in range(0, len(ids), STUDIES_PER_TASK)]
    made: list[NDArray[np.uint8]] = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for maps in pool.map(functools.partial(_maps, phantom, size), parts):
            made.append(maps)
            if progress is not None:
                progress(sum(map(len, made)), len(ids))
    dense = np.concatenate(made)
    cache.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: np.save(file, dense))
    return dense


def _maps(phantom: Phantom, size: int, ids: Sequence[str]) -> NDArray[np.uint8]:
    return np.stack([dense_maps(phantom, study_id, size) for study_id in ids])


def dense_loss(logits: Tensor, maps: Tensor) -> Tensor:
    """Weighted binary cross-entropy between the tokens' logits and the shares in parts of patches.

    Args:
        logits: Shape (studies, targets, side, side): a grid over the image.
        maps: Shares of shape (studies, targets, H, W), 0 to 1.

    Returns:
        A scalar.
    """
    shares = functional.adaptive_avg_pool2d(maps, logits.shape[-1])
    weights = torch.tensor(POSITIVE_WEIGHTS, device=logits.device)[:, None, None]
    return functional.binary_cross_entropy_with_logits(logits.float(), shares, pos_weight=weights)
