"""Where a model looks: maps in a picture's own coordinates, one or a batch at a time.

Importing this module is light: PyTorch and grad-cam load with the first map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from core.errors import DataError
from core.saliency.methods.registry import Asked, Coarse, explainer
from core.saliency.upsample import enlarge, place

if TYPE_CHECKING:
    from torch import Tensor, nn

    from core.classifier.trained import Trained

COARSE_CELL = 256
"""Pixels of the original picture that a cell may span before a reader must be told."""

LIMITS = (
    "A map shows where this model's output is sensitive by this method, not why, and not whether "
    "it is right. It can be sharp where the model is wrong, and can follow tubes, markers and "
    "borders."
)


@dataclass(frozen=True)
class Explanation:
    """Where one model looks on one picture for one finding.

    Attributes:
        map: Shape (height, width) of the original picture; 0 and above with the method's own
            scale, NaN where the network does not see the picture (outside of the centre crop).
        finding: The finding's name.
        probability: The model's probability of the finding, 0 to 1.
        probabilities: The same for every finding of the model.
        method: The method's name, a key of ``SALIENCY_METHODS``.
        layer: The layer the map was taken from.
        grid: Rows and columns of the map before it was enlarged.
        notes: What a reader must know about this very map, one sentence each.
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
    """Say where a classifier looks, for a batch of pictures at once.

    Not to be called from two threads with one model: maps are collected by hooks on its layers.

    Args:
        model: A classifier with logits of shape (batch, findings), tuned in any way.
        pixels: Network input of shape (batch, channels, height, width).
        finding: Index of the output to explain.
        method: A key of ``SALIENCY_METHODS``.
        layer: The layer to take the map from (see ``layers.names``); None takes the default.
        without: The same patients without the finding, for the methods that need them.

    Returns:
        Maps of shape (batch, height, width), 0 and above, in the method's own scale: two pictures'
        maps can be compared with each other.

    Raises:
        ConfigurationError: There is no such method.
        DataError: There is no such output, or the patients without the finding are not given.
        ModelError: There is no such layer, or the network does not suit the method.
        NotFiniteError: Features or gradients are NaN or infinite.
    """
    height, width = int(pixels.shape[-2]), int(pixels.shape[-1])
    found = coarse(model, pixels, finding, method, layer, without)
    return enlarge(found.values, (height, width))


def coarse(
    model: nn.Module,
    pixels: Tensor,
    finding: int,
    method: str,
    layer: str | None = None,
    without: Tensor | None = None,
) -> Coarse:
    """What ``explain`` enlarges: maps in the layer's own grid, and the layer's name."""
    outputs = int(getattr(model, "num_classes", 0)) or None
    if finding < 0 or (outputs is not None and finding >= outputs):
        raise DataError(
            f"The model has no output {finding}.", f"Give one of 0 to {(outputs or 1) - 1}."
        )
    one = explainer(method)
    return one.compute(model, pixels, Asked(finding, layer if one.by_layer else None, without))


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
    """Say where a run's model looks on one radiograph for one finding.

    Args:
        trained: The run's model.
        image: Grey picture of shape (height, width), 0 to 255, of any size.
        finding: One of ``trained.findings``.
        method: A key of ``SALIENCY_METHODS``.
        layer: The layer to take the map from; None takes the default.
        size: Height and width of the original picture, where ``image`` is a smaller copy of it.
        without: The same patient without the finding, of the image's shape, where it is known.

    Returns:
        The map in the coordinates of the original picture, with the probabilities.

    Raises:
        ConfigurationError: There is no such method.
        DataError: The model has no such finding, or the method needs ``without``.
        ModelError: There is no such layer, or the network does not suit the method.
        NotFiniteError: Features or gradients are NaN or infinite.
    """
    sizes = None if size is None else [size]
    pairs = None if without is None else [without]
    return explain_images(
        trained, [image], finding, method, layer, sizes=sizes, without=pairs
    )[0]  # fmt: skip


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
    """``explain_study`` for several radiographs, in one pass of the network.

    Args:
        trained: The run's model.
        images: Grey pictures of any size.
        finding: One of ``trained.findings``.
        method: A key of ``SALIENCY_METHODS``.
        layer: The layer to take the maps from; None takes the default.
        sizes: Of the original pictures, where ``images`` are smaller copies of them.
        without: The same patients without the finding.

    Raises:
        CoreError: As ``explain_study``.
    """
    import torch

    from core.data.transforms import crop_geometry
    from core.saliency.methods import layers

    index = trained.finding(finding)
    pixels = trained.transform(images).to(layers.device(trained.model))
    other = None if without is None else trained.transform(without).to(pixels.device)
    with layers.Frozen(trained.model), torch.inference_mode():
        logits = layers.logits(trained.model(pixels))
    scores = torch.sigmoid(logits.float()).cpu().tolist()
    found = coarse(trained.model, pixels, index, method, layer, other)
    side = int(pixels.shape[-1])
    large = enlarge(found.values, (side, side))
    grid = (found.values.shape[1], found.values.shape[2])
    made = []
    for i, image in enumerate(images):
        size = sizes[i] if sizes is not None else (int(image.shape[0]), int(image.shape[1]))
        geometry = crop_geometry(*size, side, trained.transform.resize)
        said = (*notes(found.values[i], method), *_of_size(size, side, geometry.scale, grid))
        made.append(
            Explanation(
                map=place(large[i], geometry, size),
                finding=finding,
                probability=scores[i][index],
                probabilities=dict(zip(trained.findings, scores[i], strict=True)),
                method=method,
                layer=found.layer,
                grid=grid,
                notes=said,
            )
        )
    return made


def notes(values: NDArray[np.float32], method: str) -> tuple[str, ...]:
    """What must be said about one coarse map before anyone reads it."""
    one = explainer(method)
    said = []
    if values.max() <= 0:
        said.append("The map is zero everywhere: by this method nothing speaks for the finding.")
    elif values.max() - values.min() <= 1e-6 * values.max():
        said.append("The map is the same everywhere: it points at nothing.")
    if one.baseline:
        said.append(f"{one.title} knows neither model nor picture.")
    elif not one.by_finding:
        said.append(f"{one.title} does not depend on the finding.")
    return tuple(said)


def _of_size(
    size: tuple[int, int], side: int, scale: float, grid: tuple[int, int]
) -> tuple[str, ...]:
    """What the size of a picture does to its map."""
    height, width = size
    if min(size) < side:
        return (
            f"The picture has only {height} × {width} px and was enlarged to the network's {side}: "
            "the map is no finer than it.",
        )
    cell = round(side / min(grid) / scale)
    if cell >= COARSE_CELL:
        return (f"A cell of the map covers about {cell} × {cell} px of this picture.",)
    return ()
