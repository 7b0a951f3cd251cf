"""The methods that say where a model looks, and their maps in a picture's own coordinates.

Importing this module is light: PyTorch and grad-cam load with the first map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from core.errors import DataError, unknown_name

if TYPE_CHECKING:
    from torch import Tensor, nn

    from core.data.transforms import Geometry
    from core.trained import Trained

Places = NDArray[np.floating[Any]]

LIMITS = (
    "A map shows where this model's output is sensitive by this method, not why, and not whether "
    "it is right. It can be sharp where the model is wrong, and can follow tubes, markers and "
    "borders."
)


@dataclass(frozen=True)
class Coarse:
    """Maps before they are enlarged.

    Attributes:
        values: Shape (batch, rows, columns), 0 and above.
        layer: The layer they were taken from, or what else they rest on.
    """

    values: NDArray[np.float32]
    layer: str


Compute = Callable[["nn.Module", "Tensor", int, str | None], Coarse]


@dataclass(frozen=True)
class Explainer:
    """One method of making a map.

    Attributes:
        title: Its name for people.
        sentence: What the map's value means.
        paper: Where it was published.
        compute: Makes the maps of (model, pixels, finding, layer).
        unit: Unit of the map's values.
        networks: ``any``, or ``transformers`` where it needs attention over patch tokens.
        by_finding: Whether the map depends on the finding.
        by_layer: Whether a layer can be chosen.
        slow: Whether it takes hundreds of passes a picture.
    """

    title: str
    sentence: str
    paper: str
    compute: Compute
    unit: str = "activation × gradient"
    networks: Literal["any", "transformers"] = "any"
    by_finding: bool = True
    by_layer: bool = True
    slow: bool = False


@dataclass(frozen=True)
class Explanation:
    """Where one model looks on one picture for one finding.

    Attributes:
        map: Shape (height, width) of the original picture; 0 and above with the method's own
            scale, NaN where the network does not see the picture (outside of the centre crop).
        finding: The finding's name.
        probability: The model's probability of the finding, 0 to 1.
        probabilities: The same for every finding of the model.
        method: The method's name, a key of ``METHODS``.
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


def _by_activation(method: str) -> Compute:
    def compute(model: nn.Module, pixels: Tensor, finding: int, layer: str | None) -> Coarse:
        from core.saliency import cams, layers

        site = layers.site(model, layer)
        return Coarse(cams.activation_map(model, pixels, finding, site, method), site.name)

    return compute


def _by_rollout(model: nn.Module, pixels: Tensor, finding: int, layer: str | None) -> Coarse:
    from core.saliency import attention

    return Coarse(attention.attention_rollout(model, pixels), "attention of all blocks")


def _by_relevance(model: nn.Module, pixels: Tensor, finding: int, layer: str | None) -> Coarse:
    from core.saliency import attention

    values = attention.attention_relevance(model, pixels, finding)
    return Coarse(values, "attention of all blocks")


def _by_occlusion(model: nn.Module, pixels: Tensor, finding: int, layer: str | None) -> Coarse:
    from core.saliency import occlusion

    return Coarse(occlusion.occlusion_map(model, pixels, finding), "input")


METHODS: dict[str, Explainer] = {
    "grad-cam": Explainer(
        "Grad-CAM",
        "Features of one layer, weighted by the mean gradient of the finding's logit.",
        "Selvaraju et al. 2017, arXiv 1610.02391",
        _by_activation("grad-cam"),
    ),
    "grad-cam++": Explainer(
        "Grad-CAM++",
        "Grad-CAM with weights that count positive gradients by place; holds several sites better.",
        "Chattopadhay et al. 2018, arXiv 1710.11063",
        _by_activation("grad-cam++"),
    ),
    "hirescam": Explainer(
        "HiResCAM",
        "Features times gradient at each place; shows only what the layer passes on to the logit.",
        "Draelos and Carin 2020, arXiv 2011.08891",
        _by_activation("hirescam"),
    ),
    "layercam": Explainer(
        "LayerCAM",
        "Features times the positive gradient at each place; usable at earlier layers.",
        "Jiang et al. 2021, IEEE TIP 30",
        _by_activation("layercam"),
    ),
    "eigencam": Explainer(
        "EigenCAM",
        "First principal component of one layer's features; the same for every finding.",
        "Muhammad and Yeasin 2020, arXiv 2008.00299",
        _by_activation("eigencam"),
        unit="component",
        by_finding=False,
    ),
    "score-cam": Explainer(
        "Score-CAM",
        "Features of one layer, weighted by the logit of the picture seen through each of them.",
        "Wang et al. 2020, arXiv 1910.01279",
        _by_activation("score-cam"),
        unit="activation",
        slow=True,
    ),
    "attention-relevance": Explainer(
        "Gradient-weighted attention",
        "Attention of all blocks, weighted by its gradient for the finding's logit.",
        "Chefer et al. 2021, arXiv 2103.15679",
        _by_relevance,
        unit="attention × gradient",
        networks="transformers",
        by_layer=False,
    ),
    "attention-rollout": Explainer(
        "Attention rollout",
        "How much of each patch reaches the output through all blocks; the same for every finding.",
        "Abnar and Zuidema 2020, arXiv 2005.00928",
        _by_rollout,
        unit="share",
        networks="transformers",
        by_finding=False,
        by_layer=False,
    ),
    "occlusion": Explainer(
        "Occlusion",
        "How far the logit falls when a grey square hides the place.",
        "Zeiler and Fergus 2014, arXiv 1311.2901",
        _by_occlusion,
        unit="logit",
        by_layer=False,
        slow=True,
    ),
}


def explainer(method: str) -> Explainer:
    """Look a method up.

    Raises:
        ConfigurationError: There is no such method.
    """
    if method not in METHODS:
        raise unknown_name("saliency method", method, METHODS)
    return METHODS[method]


def explain(
    model: nn.Module,
    pixels: Tensor,
    finding: int,
    *,
    method: str = "grad-cam",
    layer: str | None = None,
) -> NDArray[np.float32]:
    """Say where a classifier looks, for a batch of pictures at once.

    Not to be called from two threads with one model: maps are collected by hooks on its layers.

    Args:
        model: A classifier with logits of shape (batch, findings), tuned in any way.
        pixels: Network input of shape (batch, channels, height, width).
        finding: Index of the output to explain.
        method: A key of ``METHODS``.
        layer: The layer to take the map from (see ``layers.names``); None takes the default.

    Returns:
        Maps of shape (batch, height, width), 0 and above, in the method's own scale: two pictures'
        maps can be compared with each other.

    Raises:
        ConfigurationError: There is no such method.
        DataError: There is no such output.
        ModelError: There is no such layer, or the network does not suit the method.
        NotFiniteError: Features or gradients are NaN or infinite.
    """
    height, width = int(pixels.shape[-2]), int(pixels.shape[-1])
    return enlarge(coarse(model, pixels, finding, method, layer).values, (height, width))


def coarse(
    model: nn.Module, pixels: Tensor, finding: int, method: str, layer: str | None = None
) -> Coarse:
    """What ``explain`` enlarges: maps in the layer's own grid, and the layer's name."""
    outputs = int(getattr(model, "num_classes", 0)) or None
    if finding < 0 or (outputs is not None and finding >= outputs):
        raise DataError(
            f"The model has no output {finding}.", f"Give one of 0 to {(outputs or 1) - 1}."
        )
    one = explainer(method)
    return one.compute(model, pixels, finding, layer if one.by_layer else None)


def explain_study(
    trained: Trained,
    image: NDArray[np.uint8],
    finding: str,
    method: str = "grad-cam",
    layer: str | None = None,
    *,
    size: tuple[int, int] | None = None,
) -> Explanation:
    """Say where a run's model looks on one radiograph for one finding.

    Args:
        trained: The run's model.
        image: Grey picture of shape (height, width), 0 to 255, of any size.
        finding: One of ``trained.findings``.
        method: A key of ``METHODS``.
        layer: The layer to take the map from; None takes the default.
        size: Height and width of the original picture, where ``image`` is a smaller copy of it.

    Returns:
        The map in the coordinates of the original picture, with the probabilities.

    Raises:
        ConfigurationError: There is no such method.
        DataError: The model has no such finding.
        ModelError: There is no such layer, or the network does not suit the method.
        NotFiniteError: Features or gradients are NaN or infinite.
    """
    import torch

    from core.data.transforms import crop_geometry
    from core.saliency import layers

    index = trained.finding(finding)
    pixels = trained.transform([image]).to(layers.device(trained.model))
    with layers.Frozen(trained.model), torch.inference_mode():
        logits = layers.logits(trained.model(pixels))[0]
    scores = torch.sigmoid(logits.float()).cpu().tolist()
    found = coarse(trained.model, pixels, index, method, layer)
    side = int(pixels.shape[-1])
    height, width = size or (int(image.shape[0]), int(image.shape[1]))
    geometry = crop_geometry(height, width, side, trained.transform.resize)
    values = enlarge(found.values, (side, side))[0]
    return Explanation(
        map=place(values, geometry, (height, width)),
        finding=finding,
        probability=scores[index],
        probabilities=dict(zip(trained.findings, scores, strict=True)),
        method=method,
        layer=found.layer,
        grid=(found.values.shape[1], found.values.shape[2]),
        notes=notes(found.values[0], method),
    )


def notes(values: NDArray[np.float32], method: str) -> tuple[str, ...]:
    """What must be said about one coarse map before anyone reads it."""
    one = explainer(method)
    said = []
    if values.max() <= 0:
        said.append("The map is zero everywhere: by this method nothing speaks for the finding.")
    elif values.max() - values.min() <= 1e-6 * values.max():
        said.append("The map is the same everywhere: it points at nothing.")
    if not one.by_finding:
        said.append(f"{one.title} does not depend on the finding.")
    return tuple(said)


def enlarge(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Enlarge maps bilinearly, each cell's value at the centre of its patch.

    Args:
        values: Shape (batch, rows, columns).
        size: Height and width wanted.

    Returns:
        Shape (batch, height, width).
    """
    height, width = size
    down = (np.arange(height) + 0.5) * values.shape[1] / height - 0.5
    across = (np.arange(width) + 0.5) * values.shape[2] / width - 0.5
    return _sampled(values, down, across)


def place(
    values: NDArray[np.float32], geometry: Geometry, size: tuple[int, int]
) -> NDArray[np.float32]:
    """Undo the evaluation transform's resize and centre crop.

    Args:
        values: A map of shape (side, side) over the network's input.
        geometry: How that input was cut out of the original picture.
        size: Height and width of the original picture.

    Returns:
        Shape (height, width), NaN where the crop left the picture out.
    """
    height, width = size
    down = (np.arange(height) + 0.5) * geometry.scale - geometry.top
    across = (np.arange(width) + 0.5) * geometry.scale - geometry.left
    found: NDArray[np.float32] = _sampled(values[None], down - 0.5, across - 0.5)[0]
    found[(down < 0) | (down > values.shape[0]), :] = np.nan
    found[:, (across < 0) | (across > values.shape[1])] = np.nan
    return found


def _sampled(values: NDArray[np.float32], down: Places, across: Places) -> NDArray[np.float32]:
    """Bilinear samples of (batch, rows, columns) at fractional rows and columns, edges held."""
    return _along(_along(values, down, 1), across, 2)


def _along(values: NDArray[np.float32], places: Places, axis: int) -> NDArray[np.float32]:
    last = values.shape[axis] - 1
    held = np.clip(places, 0, last)
    below = np.floor(held).astype(np.intp)
    share = (held - below).astype(np.float32)
    share = share.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
    lower, upper = np.take(values, below, axis), np.take(values, np.minimum(below + 1, last), axis)
    return np.asarray(lower + (upper - lower) * share, np.float32)
