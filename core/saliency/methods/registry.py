"""The catalogue of methods that say where a model looks.

Importing this module is light: PyTorch and grad-cam load with the first map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from core.errors import DataError, unknown_name

if TYPE_CHECKING:
    from torch import Tensor, nn

CENTRE_SPREAD = 0.25
"""Standard deviation of the baseline's bell, as a share of the picture's side."""


@dataclass(frozen=True)
class Coarse:
    """Maps before they are enlarged.

    Attributes:
        values: Shape (batch, rows, columns), 0 and above.
        layer: The layer they were taken from, or what else they rest on.
    """

    values: NDArray[np.float32]
    layer: str


@dataclass(frozen=True)
class Asked:
    """What a map shall explain.

    Attributes:
        finding: Index of the output.
        layer: The layer to take the map from; None takes the default.
        without: Input of the same shape as the pictures': the same patients without the finding,
            where that is known.
    """

    finding: int
    layer: str | None = None
    without: Tensor | None = None


Compute = Callable[["nn.Module", "Tensor", Asked], Coarse]


@dataclass(frozen=True)
class Explainer:
    """One method of making a map.

    Attributes:
        title: Its name for people.
        sentence: What the map's value means.
        paper: Where it was published.
        compute: Makes the maps of (model, pixels, what is asked).
        unit: Unit of the map's values.
        networks: ``any``, or ``transformers`` where it needs attention over patch tokens.
        by_finding: Whether the map depends on the finding.
        by_layer: Whether a layer can be chosen.
        slow: Whether it takes hundreds of passes a picture.
        paired: Whether it needs the same patient without the finding, as phantoms have.
        baseline: Whether it is a yardstick that knows neither model nor picture.
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
    paired: bool = False
    baseline: bool = False


def _by_activation(method: str) -> Compute:
    def compute(model: nn.Module, pixels: Tensor, asked: Asked) -> Coarse:
        from core.saliency.methods import cams, layers

        site = layers.site(model, asked.layer)
        return Coarse(cams.activation_map(model, pixels, asked.finding, site, method), site.name)

    return compute


def _by_rollout(model: nn.Module, pixels: Tensor, asked: Asked) -> Coarse:
    from core.saliency.methods import attention

    return Coarse(attention.attention_rollout(model, pixels), "attention of all blocks")


def _by_relevance(model: nn.Module, pixels: Tensor, asked: Asked) -> Coarse:
    from core.saliency.methods import attention

    values = attention.attention_relevance(model, pixels, asked.finding)
    return Coarse(values, "attention of all blocks")


def _by_occlusion(model: nn.Module, pixels: Tensor, asked: Asked) -> Coarse:
    from core.saliency.methods import occlusion

    return Coarse(occlusion.occlusion_map(model, pixels, asked.finding), "input")


def _by_counterfactual(model: nn.Module, pixels: Tensor, asked: Asked) -> Coarse:
    from core.saliency.methods import occlusion

    if asked.without is None:
        raise DataError(
            "The true counterfactual needs the same patient without the finding, which only "
            "phantoms have.",
            "Choose a study of phantoms, or another method.",
        )
    values = occlusion.counterfactual_map(model, pixels, asked.without, asked.finding)
    return Coarse(values, "input")


def _by_path(model: nn.Module, pixels: Tensor, asked: Asked) -> Coarse:
    from core.saliency.methods import gradients

    values = gradients.integrated_gradients(model, pixels, asked.finding)
    return Coarse(values.clip(0), "input")


def _by_noise(model: nn.Module, pixels: Tensor, asked: Asked) -> Coarse:
    from core.saliency.methods import gradients

    return Coarse(gradients.smooth_grad(model, pixels, asked.finding), "input")


def _by_random_masks(model: nn.Module, pixels: Tensor, asked: Asked) -> Coarse:
    from core.saliency.methods import rise

    return Coarse(rise.rise_map(model, pixels, asked.finding), "input")


def _by_centre(model: nn.Module, pixels: Tensor, asked: Asked) -> Coarse:
    return Coarse(centre_gaussian(*pixels.shape[-2:])[None].repeat(len(pixels), 0), "no layer")


SALIENCY_METHODS: dict[str, Explainer] = {
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
    "ablation-cam": Explainer(
        "Ablation-CAM",
        "Features of one layer, weighted by the fall of the logit when each is set to zero.",
        "Desai and Ramaswamy 2020, WACV",
        _by_activation("ablation-cam"),
        unit="activation × logit",
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
    "integrated-gradients": Explainer(
        "Integrated gradients",
        "What each pixel adds to the logit on the way from even grey to the picture.",
        "Sundararajan et al. 2017, arXiv 1703.01365",
        _by_path,
        unit="logit",
        by_layer=False,
    ),
    "smoothgrad": Explainer(
        "SmoothGrad",
        "The logit's gradient by pixel, averaged over noisy copies of the picture.",
        "Smilkov et al. 2017, arXiv 1706.03825",
        _by_noise,
        unit="logit per grey level",
        by_layer=False,
    ),
    "rise": Explainer(
        "RISE",
        "How far the probability rises when a random mask leaves the place visible.",
        "Petsiuk et al. 2018, arXiv 1806.07421",
        _by_random_masks,
        unit="probability",
        by_layer=False,
        slow=True,
    ),
    "counterfactual": Explainer(
        "True counterfactual",
        "How far the logit falls when the place shows the same patient without the finding.",
        "Occlusion (Zeiler and Fergus 2014) with the phantom's own truth in place of grey",
        _by_counterfactual,
        unit="logit",
        by_layer=False,
        slow=True,
        paired=True,
    ),
    "centre-gaussian": Explainer(
        "Centre Gaussian (baseline)",
        "A bell in the middle of every picture: what a map must beat to have found anything.",
        "Judd et al. 2012, MIT-CSAIL-TR-2012-001",
        _by_centre,
        unit="share of the peak",
        by_finding=False,
        by_layer=False,
        baseline=True,
    ),
}


def explainer(method: str) -> Explainer:
    """Look a method up.

    Raises:
        ConfigurationError: There is no such method.
    """
    if method not in SALIENCY_METHODS:
        raise unknown_name("saliency method", method, SALIENCY_METHODS)
    return SALIENCY_METHODS[method]


def centre_gaussian(height: int, width: int) -> NDArray[np.float32]:
    """A bell in the middle of a picture, 1 at its peak, of a standard deviation of a quarter of
    each side.
    """
    down = (np.arange(height) + 0.5) / height - 0.5
    across = (np.arange(width) + 0.5) / width - 0.5
    square = (down[:, None] ** 2 + across[None, :] ** 2) / (2 * CENTRE_SPREAD**2)
    return np.exp(-square).astype(np.float32)
