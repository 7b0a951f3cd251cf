"""Saliency maps in the coordinates of the original image, for one image or a batch.

Importing this module is fast: PyTorch and grad-cam are loaded with the first map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from core.errors import DataError
from core.saliency.methods.registry import CoarseMaps, Target, saliency_method
from core.saliency.upsample import enlarge, place

if TYPE_CHECKING:
    from torch import Tensor, nn

    from core.classifier.trained import Trained

COARSE_CELL = 256
"""Pixels of the original image per cell of a map from which on a note says so."""

LIMITS = (
    "A map shows where the model's output is sensitive according to this method. It does not show "
    "why, nor whether the output is correct: a map can be sharp where the model is wrong, and it "
    "can follow tubes, markers and borders."
)


@dataclass(frozen=True)
class Explanation:
    """Where one model looks on one image for one finding.

    Attributes:
        map: Shape (height, width) of the original image; 0 and above on the method's own scale,
            NaN where the network does not see the image (outside of the centre crop).
        finding: The finding's name.
        probability: The model's probability of the finding, 0 to 1.
        probabilities: The same for every finding of the model.
        method: The method's name, a key of ``SALIENCY_METHODS``.
        layer: The layer that the map was computed from.
        grid: Rows and columns of the map before it was enlarged.
        notes: What a reader must know about this map, one sentence each.
    """

    map: NDArray[np.float32]
    finding: str
    probability: float
    probabilities: dict[str, float]
    method: str
    layer: str
    grid: tuple[int, int]
    notes: tuple[str, ...] = ()

    @property
    def peak(self) -> float:
        """The map's highest value."""
        return float(np.nanmax(self.map))


def explain(
    model: nn.Module,
    pixels: Tensor,
    finding: int,
    *,
    method: str = "grad-cam",
    layer: str | None = None,
    without: Tensor | None = None,
) -> NDArray[np.float32]:
    """Compute the saliency maps of a classifier for a batch of images.

    Not thread-safe for one model: maps are collected by hooks on its layers.

    Args:
        model: A classifier with logits of shape (batch, findings), tuned by any method.
        pixels: Network input of shape (batch, channels, height, width).
        finding: Index of the output to explain.
        method: A key of ``SALIENCY_METHODS``.
        layer: The layer to compute the map from (see ``layers.names``); None selects the default.
        without: The same patients without the finding, for the methods that need them.

    Returns:
        Maps of shape (batch, height, width), 0 and above, on the method's own scale: maps of two
        images can be compared with each other.

    Raises:
        ConfigurationError: There is no such method.
        DataError: There is no such output, or ``without`` is missing.
        ModelError: There is no such layer, or the method does not support the network.
        NotFiniteError: Features or gradients are NaN or infinite.
    """
    maps = coarse_maps(model, pixels, finding, method, layer, without)
    return enlarge(maps.values, (int(pixels.shape[-2]), int(pixels.shape[-1])))


def coarse_maps(
    model: nn.Module,
    pixels: Tensor,
    finding: int,
    method: str,
    layer: str | None = None,
    without: Tensor | None = None,
) -> CoarseMaps:
    """The maps of ``explain`` before they are enlarged, and the layer's name."""
    outputs = int(getattr(model, "num_classes", 0)) or None
    if finding < 0 or (outputs is not None and finding >= outputs):
        raise DataError(
            f"The model has no output {finding}.", f"Give a number from 0 to {(outputs or 1) - 1}."
        )
    chosen = saliency_method(method)
    target = Target(finding, layer if chosen.by_layer else None, without)
    return chosen.compute(model, pixels, target)


def explain_study(
    trained: Trained,
    image: NDArray[np.uint8],
    finding: str,
    method: str = "grad-cam",
    layer: str | None = None,
    *,
    size: tuple[int, int] | None = None,
    without: NDArray[np.uint8] | None = None,
) -> Explanation:
    """Compute where a run's model looks on one radiograph for one finding.

    Args:
        trained: The run's model.
        image: Greyscale image of shape (height, width), 0 to 255, of any size.
        finding: One of ``trained.findings``.
        method: A key of ``SALIENCY_METHODS``.
        layer: The layer to compute the map from; None selects the default.
        size: Height and width of the original image, if ``image`` is a reduced copy of it.
        without: The same patient without the finding, of the image's shape, if it is known.

    Returns:
        The map in the coordinates of the original image, with the probabilities.

    Raises:
        ConfigurationError: There is no such method.
        DataError: The model has no such finding, or the method needs ``without``.
        ModelError: There is no such layer, or the method does not support the network.
        NotFiniteError: Features or gradients are NaN or infinite.
    """
    return explain_images(
        trained,
        [image],
        finding,
        method,
        layer,
        sizes=None if size is None else [size],
        without=None if without is None else [without],
    )[0]


def explain_images(
    trained: Trained,
    images: Sequence[NDArray[np.uint8]],
    finding: str,
    method: str = "grad-cam",
    layer: str | None = None,
    *,
    sizes: Sequence[tuple[int, int]] | None = None,
    without: Sequence[NDArray[np.uint8]] | None = None,
) -> list[Explanation]:
    """``explain_study`` for several radiographs, in one batch.

    Args:
        trained: The run's model.
        images: Greyscale images of any size.
        finding: One of ``trained.findings``.
        method: A key of ``SALIENCY_METHODS``.
        layer: The layer to compute the maps from; None selects the default.
        sizes: Sizes of the original images, if ``images`` are reduced copies of them.
        without: The same patients without the finding.

    Raises:
        CoreError: As ``explain_study``.
    """
    import torch

    from core.data.transforms import crop_geometry
    from core.saliency.methods import layers

    index = trained.finding(finding)
    pixels = trained.transform(images).to(layers.device(trained.model))
    others = None if without is None else trained.transform(without).to(pixels.device)
    with layers.FrozenWeights(trained.model), torch.inference_mode():
        logits = layers.logits(trained.model(pixels))
    probabilities = torch.sigmoid(logits.float()).cpu().tolist()
    coarse = coarse_maps(trained.model, pixels, index, method, layer, others)
    side = int(pixels.shape[-1])
    large = enlarge(coarse.values, (side, side))
    grid = (coarse.values.shape[1], coarse.values.shape[2])
    explanations = []
    for i, image in enumerate(images):
        size = sizes[i] if sizes is not None else (int(image.shape[0]), int(image.shape[1]))
        geometry = crop_geometry(*size, side, trained.transform.resize)
        explanations.append(
            Explanation(
                map=place(large[i], geometry, size),
                finding=finding,
                probability=probabilities[i][index],
                probabilities=dict(zip(trained.findings, probabilities[i], strict=True)),
                method=method,
                layer=coarse.layer,
                grid=grid,
                notes=(
                    *notes(coarse.values[i], method),
                    *_size_notes(size, side, geometry.scale, grid),
                ),
            )
        )
    return explanations


def notes(values: NDArray[np.float32], method: str) -> tuple[str, ...]:
    """What a reader must know about one coarse map, one sentence each.

    Args:
        values: The map, of shape (rows, columns).
        method: A key of ``SALIENCY_METHODS``.
    """
    chosen = saliency_method(method)
    sentences = []
    if values.max() <= 0:
        sentences.append(
            "The map is zero everywhere: by this method no location supports the finding."
        )
    elif values.max() - values.min() <= 1e-6 * values.max():
        sentences.append("The map has the same value everywhere, so it marks no location.")
    if chosen.baseline:
        sentences.append(f"{chosen.title} depends on neither the model nor the image.")
    elif not chosen.by_finding:
        sentences.append(f"{chosen.title} does not depend on the finding.")
    return tuple(sentences)


def _size_notes(
    size: tuple[int, int], side: int, scale: float, grid: tuple[int, int]
) -> tuple[str, ...]:
    """What the size of an image means for its map."""
    height, width = size
    if min(size) < side:
        return (
            f"The image has only {height} × {width} px and was enlarged to {side} px for the "
            "network: the map is no finer than the image.",
        )
    cell = round(side / min(grid) / scale)
    if cell >= COARSE_CELL:
        return (f"One cell of the map covers about {cell} × {cell} px of this image.",)
    return ()
