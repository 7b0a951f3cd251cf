"""Whether a picture is like those a run was validated on, told by its backbone's features.

Distance to the nearest neighbours in feature space (Sun et al., “Out-of-Distribution Detection with
Deep Nearest Neighbors”, ICML 2022, arXiv 2204.06507): features of unit length, the mean distance to
the closest ``NEIGHBOURS`` validation pictures, and a threshold from the same distances of the
validation pictures among each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from core.errors import DataError

if TYPE_CHECKING:
    import torch

    from core.classifier.trained import Trained

NEIGHBOURS = 5
LEAST, MOST = 10, 256
"""Pictures that a reference is made of: fewer tell nothing, more make the first answer slow."""

SLACK = 1.2
"""Threshold over the largest distance within the validation set. Another hospital's radiographs lie
a little outside of it and must not be called unlike."""

Features = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Familiar:
    """The validation pictures of a run, as its backbone sees them.

    Attributes:
        features: Shape (pictures, channels), each of length 1.
        largest: Largest distance of one of them from the others.
    """

    features: Features
    largest: float

    @property
    def threshold(self) -> float:
        """Distance beyond which a picture counts as unlike."""
        return SLACK * self.largest


@dataclass(frozen=True)
class Likeness:
    """How far a picture is from the validation set.

    Attributes:
        distance: Mean distance to its nearest neighbours there, 0 to 2.
        threshold: Distance beyond which it counts as unlike.
        largest: Largest distance of a validation picture from the others.
    """

    distance: float
    threshold: float
    largest: float

    @property
    def unlike(self) -> bool:
        """Whether no validation picture is anything like it."""
        return self.distance > self.threshold


def familiar(trained: Trained, pictures: Sequence[NDArray[np.uint8]]) -> Familiar:
    """Learn what a run's pictures look like.

    Args:
        trained: The run's model.
        pictures: Of its validation split, of any size; the first ``MOST`` are used.

    Raises:
        DataError: There are too few of them.
        ModelError: No layer of the network has a two-dimensional order.
    """
    if len(pictures) < LEAST:
        raise DataError(
            f"{len(pictures)} validation pictures do not tell what is usual.",
            f"A validation split of {LEAST} or more does.",
        )
    found = features(trained, pictures[:MOST])
    return Familiar(found, float(_distances(found, found, itself=True).max()))


def likeness(trained: Trained, known: Familiar, picture: NDArray[np.uint8]) -> Likeness:
    """Measure one picture against what a run knows.

    Args:
        trained: The run's model, the same that made ``known``.
        known: Its validation pictures.
        picture: Grey levels of shape (height, width), 0 to 255.
    """
    distance = _distances(features(trained, [picture]), known.features)[0]
    return Likeness(float(distance), known.threshold, known.largest)


def features(trained: Trained, pictures: Sequence[NDArray[np.uint8]], batch: int = 32) -> Features:
    """The mean of the last layer's features over each picture, scaled to length 1.

    Args:
        trained: The model.
        pictures: Grey levels of shape (height, width), of any size.
        batch: Pictures in one pass.

    Returns:
        Shape (pictures, channels).

    Raises:
        ModelError: No layer of the network has a two-dimensional order.
    """
    import torch

    from core.saliency.methods import layers

    site = layers.site(trained.model, layers.names(trained.model)[-1])
    kept: list[torch.Tensor] = []
    hook = site.module.register_forward_hook(lambda _, __, output: kept.append(output))
    found = []
    try:
        for start in range(0, len(pictures), batch):
            pixels = trained.transform(list(pictures[start : start + batch]))
            pixels = pixels.to(layers.device(trained.model))
            kept.clear()
            with torch.inference_mode():
                trained.model(pixels)
                size = (int(pixels.shape[-2]), int(pixels.shape[-1]))
                mean = site.features(kept[-1], size).float().mean(dim=(2, 3))
            found.append(torch.nn.functional.normalize(mean).cpu().numpy())
    finally:
        hook.remove()
    return np.concatenate(found)


def _distances(asked: Features, known: Features, *, itself: bool = False) -> NDArray[np.float64]:
    """Mean distance of each row to its nearest neighbours; ``itself``: the rows are the same."""
    cosine = asked.astype(np.float64) @ known.T.astype(np.float64)
    apart = np.sqrt(np.maximum(2 - 2 * cosine, 0))
    apart.sort(axis=1)
    nearest: NDArray[np.float64] = apart[:, int(itself) :][:, :NEIGHBOURS].mean(axis=1)
    return nearest
