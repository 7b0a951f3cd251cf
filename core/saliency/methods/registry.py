"""The registry of saliency methods.

Importing this module is fast: PyTorch and grad-cam are loaded with the first map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from core.config.adapter import AdapterSpec
from core.errors import DataError, unknown_name

if TYPE_CHECKING:
    from torch import Tensor, nn

CENTRE_SPREAD = 0.25
"""Standard deviation of the centre-Gaussian baseline, as a share of the image's side."""


@dataclass(frozen=True)
class CoarseMaps:
    """Maps at the resolution of the layer, before they are upsampled.

    Attributes:
        values: Shape (batch, rows, columns), 0 and above.
        layer: Name of the layer, or a description of what the maps are computed from.
    """

    values: NDArray[np.float32]
    layer: str


@dataclass(frozen=True)
class Target:
    """The output that a map explains, and how.

    Attributes:
        finding: Index of the output.
        layer: The layer that the map is computed from; None selects the default.
        without: Input of the same shape as the explained one: the same patients without the
            finding, if that is known.
    """

    finding: int
    layer: str | None = None
    without: Tensor | None = None


Compute = Callable[["nn.Module", "Tensor", Target], CoarseMaps]


@dataclass(frozen=True)
class SaliencyMethod:
    """A saliency method.

    Attributes:
        title: The name that is displayed.
        description: What the map's values mean.
        paper: Where it was published.
        compute: Computes the maps from (model, pixels, target).
        unit: Unit of the map's values.
        networks: ``any``, ``transformers`` if it needs attention over patch tokens, or
            ``attentive`` if it needs an attentive head.
        by_finding: Whether the map depends on the finding.
        by_layer: Whether a layer can be chosen.
        slow: Whether it needs hundreds of forward passes per image.
        paired: Whether it needs the same patient without the finding, which phantoms have.
        baseline: Whether it is a baseline that depends on neither model nor image.
    """

    title: str
    description: str
    paper: str
    compute: Compute
    unit: str = "activation × gradient"
    networks: Literal["any", "transformers", "attentive"] = "any"
    by_finding: bool = True
    by_layer: bool = True
    slow: bool = False
    paired: bool = False
    baseline: bool = False


def _class_activation(method: str) -> Compute:
    def compute(model: nn.Module, pixels: Tensor, target: Target) -> CoarseMaps:
        from core.saliency.methods import cams, layers

        layer = layers.target_layer(model, target.layer)
        values = cams.activation_map(model, pixels, target.finding, layer, method)
        return CoarseMaps(values, layer.name)

    return compute


def _attention_rollout(model: nn.Module, pixels: Tensor, target: Target) -> CoarseMaps:
    from core.saliency.methods import attention

    return CoarseMaps(attention.attention_rollout(model, pixels), "attention of all blocks")


def _attention_relevance(model: nn.Module, pixels: Tensor, target: Target) -> CoarseMaps:
    from core.saliency.methods import attention

    values = attention.attention_relevance(model, pixels, target.finding)
    return CoarseMaps(values, "attention of all blocks")


def _attention_pooling(model: nn.Module, pixels: Tensor, target: Target) -> CoarseMaps:
    from core.saliency.methods import attention

    values = attention.attention_pooling(model, pixels, target.finding)
    return CoarseMaps(values, "attention of the head")


def _occlusion(model: nn.Module, pixels: Tensor, target: Target) -> CoarseMaps:
    from core.saliency.methods import occlusion

    return CoarseMaps(occlusion.occlusion_map(model, pixels, target.finding), "input")


def _counterfactual(model: nn.Module, pixels: Tensor, target: Target) -> CoarseMaps:
    from core.saliency.methods import occlusion

    if target.without is None:
        raise DataError(
            "The true counterfactual needs the same patient without the finding, which only "
            "phantoms have.",
            "Choose a study of phantoms, or another method.",
        )
    values = occlusion.counterfactual_map(model, pixels, target.without, target.finding)
    return CoarseMaps(values, "input")


def _integrated_gradients(model: nn.Module, pixels: Tensor, target: Target) -> CoarseMaps:
    from core.saliency.methods import gradients

    values = gradients.integrated_gradients(model, pixels, target.finding)
    return CoarseMaps(values.clip(0), "input")


def _smooth_grad(model: nn.Module, pixels: Tensor, target: Target) -> CoarseMaps:
    from core.saliency.methods import gradients

    return CoarseMaps(gradients.smooth_grad(model, pixels, target.finding), "input")


def _rise(model: nn.Module, pixels: Tensor, target: Target) -> CoarseMaps:
    from core.saliency.methods import rise

    return CoarseMaps(rise.rise_map(model, pixels, target.finding), "input")


def _centre_gaussian(model: nn.Module, pixels: Tensor, target: Target) -> CoarseMaps:
    return CoarseMaps(centre_gaussian(*pixels.shape[-2:])[None].repeat(len(pixels), 0), "no layer")


SALIENCY_METHODS: dict[str, SaliencyMethod] = {
    "grad-cam": SaliencyMethod(
        "Grad-CAM",
        "Features of one layer, weighted by the mean gradient of the finding's logit.",
        "Selvaraju et al. 2017, arXiv 1610.02391",
        _class_activation("grad-cam"),
    ),
    "grad-cam++": SaliencyMethod(
        "Grad-CAM++",
        "Grad-CAM with weights from the positive gradients at each location; better if a finding "
        "is present at several locations.",
        "Chattopadhay et al. 2018, arXiv 1710.11063",
        _class_activation("grad-cam++"),
    ),
    "hirescam": SaliencyMethod(
        "HiResCAM",
        "Features times gradient at each location; shows only what the layer contributes to the "
        "logit.",
        "Draelos and Carin 2020, arXiv 2011.08891",
        _class_activation("hirescam"),
    ),
    "layercam": SaliencyMethod(
        "LayerCAM",
        "Features times the positive gradient at each location; also suited to earlier layers.",
        "Jiang et al. 2021, IEEE TIP 30",
        _class_activation("layercam"),
    ),
    "eigencam": SaliencyMethod(
        "EigenCAM",
        "First principal component of one layer's features; the same for every finding.",
        "Muhammad and Yeasin 2020, arXiv 2008.00299",
        _class_activation("eigencam"),
        unit="component",
        by_finding=False,
    ),
    "score-cam": SaliencyMethod(
        "Score-CAM",
        "Features of one layer, weighted by the logit of the image masked by each of them.",
        "Wang et al. 2020, arXiv 1910.01279",
        _class_activation("score-cam"),
        unit="activation",
        slow=True,
    ),
    "ablation-cam": SaliencyMethod(
        "Ablation-CAM",
        "Features of one layer, weighted by the decrease of the logit when each is set to zero.",
        "Desai and Ramaswamy 2020, WACV",
        _class_activation("ablation-cam"),
        unit="activation × logit",
        slow=True,
    ),
    "attention-relevance": SaliencyMethod(
        "Gradient-weighted attention",
        "Attention of all blocks, weighted by its gradient for the finding's logit.",
        "Chefer et al. 2021, arXiv 2103.15679",
        _attention_relevance,
        unit="attention × gradient",
        networks="transformers",
        by_layer=False,
    ),
    "attention-rollout": SaliencyMethod(
        "Attention rollout",
        "Share of each patch in the output, by attention through all blocks; the same for every "
        "finding.",
        "Abnar and Zuidema 2020, arXiv 2005.00928",
        _attention_rollout,
        unit="share",
        networks="transformers",
        by_finding=False,
        by_layer=False,
    ),
    "attention-pooling": SaliencyMethod(
        "Attention pooling",
        "Weight of each token in the pool of the finding, for runs with an attentive head.",
        "Ilse et al. 2018, arXiv 1802.04712",
        _attention_pooling,
        unit="share",
        networks="attentive",
        by_layer=False,
    ),
    "occlusion": SaliencyMethod(
        "Occlusion",
        "Decrease of the logit when a grey square covers the location.",
        "Zeiler and Fergus 2014, arXiv 1311.2901",
        _occlusion,
        unit="logit",
        by_layer=False,
        slow=True,
    ),
    "integrated-gradients": SaliencyMethod(
        "Integrated gradients",
        "Contribution of each pixel to the logit on the straight path from uniform grey to the "
        "image.",
        "Sundararajan et al. 2017, arXiv 1703.01365",
        _integrated_gradients,
        unit="logit",
        by_layer=False,
    ),
    "smoothgrad": SaliencyMethod(
        "SmoothGrad",
        "Gradient of the logit by pixel, averaged over noisy copies of the image.",
        "Smilkov et al. 2017, arXiv 1706.03825",
        _smooth_grad,
        unit="logit per grey level",
        by_layer=False,
    ),
    "rise": SaliencyMethod(
        "RISE",
        "Increase of the probability when a random mask leaves the location visible.",
        "Petsiuk et al. 2018, arXiv 1806.07421",
        _rise,
        unit="probability",
        by_layer=False,
        slow=True,
    ),
    "counterfactual": SaliencyMethod(
        "True counterfactual",
        "Decrease of the logit when the location shows the same patient without the finding.",
        "Occlusion (Zeiler and Fergus 2014) with the phantom's true counterfactual in place of "
        "grey",
        _counterfactual,
        unit="logit",
        by_layer=False,
        slow=True,
        paired=True,
    ),
    "centre-gaussian": SaliencyMethod(
        "Centre Gaussian (baseline)",
        "A Gaussian at the centre of every image: a useful method scores higher than this.",
        "Judd et al. 2012, MIT-CSAIL-TR-2012-001",
        _centre_gaussian,
        unit="share of the peak",
        by_finding=False,
        by_layer=False,
        baseline=True,
    ),
}


def saliency_method(name: str) -> SaliencyMethod:
    """Look up a method.

    Raises:
        ConfigurationError: There is no such method.
    """
    if name not in SALIENCY_METHODS:
        raise unknown_name("saliency method", name, SALIENCY_METHODS)
    return SALIENCY_METHODS[name]


def method_title(name: str) -> str:
    """Title of a method in a list of choices, which says whether it is slow."""
    method = SALIENCY_METHODS[name]
    return f"{method.title} (slow)" if method.slow else method.title


def offered(adapter: AdapterSpec) -> list[str]:
    """Names of the methods for a run: those for an attentive head only if it has one.

    Args:
        adapter: The run's tuning method and its settings.
    """
    attentive = "attentive" in (adapter.method, adapter.head)
    return [
        name
        for name, method in SALIENCY_METHODS.items()
        if attentive or method.networks != "attentive"
    ]


def centre_gaussian(height: int, width: int) -> NDArray[np.float32]:
    """A Gaussian at the centre of an image, with peak 1.

    Its standard deviation is ``CENTRE_SPREAD`` of each side.
    """
    y = (np.arange(height) + 0.5) / height - 0.5
    x = (np.arange(width) + 0.5) / width - 0.5
    exponent = (y[:, None] ** 2 + x[None, :] ** 2) / (2 * CENTRE_SPREAD**2)
    return np.exp(-exponent).astype(np.float32)
