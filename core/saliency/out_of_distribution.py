"""Out-of-distribution detection: whether an image is similar to a run's validation images.

Distance to the nearest neighbours in feature space (Sun et al., “Out-of-Distribution Detection with
Deep Nearest Neighbors”, ICML 2022, arXiv 2204.06507): features of the backbone, scaled to unit
length; the mean distance to the ``NEIGHBOURS`` nearest validation images; and a threshold from the
same distances among the validation images.
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
MIN_IMAGES, MAX_IMAGES = 10, 256
"""Images of a reference: fewer are not representative, more make the first score slow."""

SLACK = 1.2
"""Threshold over the largest distance within the validation set. Radiographs of another hospital
are slightly outside of it and must not be reported."""

Features = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Reference:
    """The validation images of a run in feature space.

    Attributes:
        features: Shape (images, channels), each of length 1.
        largest: Largest distance of one of them from the others.
    """

    features: Features
    largest: float

    @property
    def threshold(self) -> float:
        """Distance above which an image is out of distribution."""
        return SLACK * self.largest


@dataclass(frozen=True)
class Score:
    """The distance of an image from the validation images.

    Attributes:
        distance: Mean distance to its nearest neighbours among them, 0 to 2.
        threshold: Distance above which it is out of distribution.
        largest: Largest distance of a validation image from the others.
    """

    distance: float
    threshold: float
    largest: float

    @property
    def is_out(self) -> bool:
        """Whether the image is out of distribution."""
        return self.distance > self.threshold


def fit(trained: Trained, images: Sequence[NDArray[np.uint8]]) -> Reference:
    """Compute the reference of a run.

    Args:
        trained: The run's model.
        images: Images of its validation split, of any size; the first ``MAX_IMAGES`` are used.

    Raises:
        DataError: There are fewer than ``MIN_IMAGES``.
        ModelError: No layer of the network forms a grid over the image.
    """
    if len(images) < MIN_IMAGES:
        raise DataError(
            f"{len(images)} validation images are too few for a comparison.",
            f"Use a validation split of {MIN_IMAGES} or more images.",
        )
    own = features(trained, images[:MAX_IMAGES])
    return Reference(own, float(_distances(own, own, same=True).max()))


def score(trained: Trained, reference: Reference, image: NDArray[np.uint8]) -> Score:
    """Measure the distance of one image from a run's validation images.

    Args:
        trained: The run's model, the same that ``reference`` was computed by.
        reference: Its validation images.
        image: Grey levels of shape (height, width), 0 to 255.
    """
    distance = _distances(features(trained, [image]), reference.features)[0]
    return Score(float(distance), reference.threshold, reference.largest)


def features(trained: Trained, images: Sequence[NDArray[np.uint8]], batch: int = 32) -> Features:
    """The mean of the last layer's features over each image, scaled to length 1.

    Args:
        trained: The model.
        images: Grey levels of shape (height, width), of any size.
        batch: Images per forward pass.

    Returns:
        Shape (images, channels).

    Raises:
        ModelError: No layer of the network forms a grid over the image.
    """
    import torch

    from core.saliency.methods import layers

    names = layers.names(trained.model)
    layer = layers.target_layer(trained.model, names[-1] if names else None)
    outputs: list[torch.Tensor] = []
    hook = layer.module.register_forward_hook(lambda _, __, output: outputs.append(output))
    means = []
    try:
        for start in range(0, len(images), batch):
            pixels = trained.transform(list(images[start : start + batch]))
            pixels = pixels.to(layers.device(trained.model))
            outputs.clear()
            with torch.inference_mode():
                trained.model(pixels)
                size = (int(pixels.shape[-2]), int(pixels.shape[-1]))
                mean = layer.features(outputs[-1], size).float().mean(dim=(2, 3))
            means.append(torch.nn.functional.normalize(mean).cpu().numpy())
    finally:
        hook.remove()
    return np.concatenate(means)


def _distances(images: Features, reference: Features, *, same: bool = False) -> NDArray[np.float64]:
    """Mean distance of each row to its nearest neighbours; ``same``: both are the same rows."""
    cosine = images.astype(np.float64) @ reference.T.astype(np.float64)
    # The squared distance of unit vectors; rounding can make it slightly negative.
    distances = np.sqrt(np.maximum(2 - 2 * cosine, 0))
    distances.sort(axis=1)
    # The first neighbour of an image of the reference is the image itself.
    nearest: NDArray[np.float64] = distances[:, int(same) :][:, :NEIGHBOURS].mean(axis=1)
    return nearest
