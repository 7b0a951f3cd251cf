"""Class activation maps by the library grad-cam, on their original scale.

The library rescales each map to the range 0 to 1. Here the values stay as each paper defines them,
so that maps of two images or two models can be compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_grad_cam import EigenCAM, GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM
from pytorch_grad_cam.base_cam import BaseCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from core.errors import ModelError
from core.saliency.methods import layers
from core.saliency.methods.layers import check_finite

MASKED_BATCH = 64
"""Masked or ablated copies of an image in one forward pass."""


class _Unscaled:
    """Mix-in for a method of grad-cam: its map before the library resizes and rescales it."""

    def compute_cam_per_layer(
        self, input_tensor: Tensor, targets: Sequence[Any], eigen_smooth: bool
    ) -> NDArray[np.float32]:
        cam: Any = self
        recorded = cam.activations_and_grads
        # The hooks recorded nothing: the layer is not part of the forward or backward pass.
        if not recorded.activations or (cam.uses_gradients and not recorded.gradients):
            raise _no_influence()
        values: NDArray[np.float32] = cam.get_cam_image(
            input_tensor,
            cam.target_layers[0],
            targets,
            recorded.activations[0].numpy(),
            recorded.gradients[0].numpy() if recorded.gradients else None,
            eigen_smooth,
        )
        return values

    def aggregate_multi_layers(self, cam: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.maximum(cam, 0)


class _FindingTarget(ClassifierOutputTarget):  # type: ignore[misc]
    """The logit of one finding."""

    def __call__(self, output: Tensor) -> Tensor:
        logit: Tensor = super().__call__(output)
        if not logit.requires_grad:
            raise _no_influence()
        return logit


class _GradCAM(_Unscaled, GradCAM): ...  # type: ignore[misc]


class _GradCAMPlusPlus(_Unscaled, GradCAMPlusPlus): ...  # type: ignore[misc]


class _HiResCAM(_Unscaled, HiResCAM): ...  # type: ignore[misc]


class _LayerCAM(_Unscaled, LayerCAM): ...  # type: ignore[misc]


class _EigenCAM(_Unscaled, EigenCAM):  # type: ignore[misc]
    """The first principal component, with a defined sign.

    A singular value decomposition leaves the sign open. It is chosen so that the component
    increases with the norm of the features; otherwise about half of the maps would show the
    background.
    """

    def get_cam_image(self, *arguments: Any, **options: Any) -> NDArray[np.float32]:
        component: NDArray[np.float32] = super().get_cam_image(*arguments, **options)
        norms = np.linalg.norm(arguments[3], axis=1)
        norms = norms - norms.mean(axis=(1, 2), keepdims=True)
        sign = np.sign((component * norms).sum(axis=(1, 2), keepdims=True))
        return component * np.where(sign == 0, 1, sign).astype(np.float32)


class _ScoreCAM(_Unscaled, BaseCAM):  # type: ignore[misc]
    """Score-CAM: channels weighted by the logit of the image masked by each of them.

    The library's implementation prints a progress bar per image and takes the softmax of raw
    scores. This is Algorithm 1 of Wang et al. 2020, which subtracts the score of an empty image.
    """

    def __init__(self, model: nn.Module, target_layers: list[nn.Module], reshape: Any) -> None:
        super().__init__(model, target_layers, reshape, uses_gradients=False)

    def get_cam_weights(
        self, pixels: Tensor, _: object, targets: Sequence[Any], activations: Any, __: object
    ) -> NDArray[np.float32]:
        finding = targets[0].category
        # The library's hooks would also record the activations of the masked passes below.
        self.activations_and_grads.release()
        with torch.inference_mode():
            empty = layers.logits(self.model(torch.zeros_like(pixels[:1])))[0, finding]
            increases = [
                self._masked_logits(image, torch.from_numpy(own).to(pixels.device), finding) - empty
                for image, own in zip(pixels, activations, strict=True)
            ]
            weights = torch.softmax(torch.stack(increases), dim=1)
        return np.asarray(weights.cpu().numpy())

    def _masked_logits(self, image: Tensor, activations: Tensor, finding: int) -> Tensor:
        low = activations.amin(dim=(1, 2), keepdim=True)
        high = activations.amax(dim=(1, 2), keepdim=True)
        # A channel of one value everywhere has no range; its mask is empty.
        masks = ((activations - low) / (high - low).clamp_min(1e-8))[:, None]
        logits = []
        for batch in torch.split(masks, MASKED_BATCH):
            large = nn.functional.interpolate(batch, image.shape[-2:], mode="bilinear")
            logits.append(layers.logits(self.model(image[None] * large))[:, finding])
        return torch.cat(logits)


class _AblationCAM(_Unscaled, BaseCAM):  # type: ignore[misc]
    """Ablation-CAM: channels weighted by the decrease of the logit when they are set to zero.

    Before a LayerNorm the library's implementation subtracts ten million from a channel, where the
    paper sets it to zero. Desai and Ramaswamy 2020 divide by the logit of the image (equation 5),
    which is the same for all of its channels; this implementation does not, since the division
    inverts every map whose logit is negative.
    """

    def __init__(self, model: nn.Module, target_layers: list[nn.Module], reshape: Any) -> None:
        super().__init__(model, target_layers, reshape, uses_gradients=False)

    def get_cam_weights(
        self, pixels: Tensor, _: object, targets: Sequence[Any], activations: Any, __: object
    ) -> NDArray[np.float32]:
        finding, channels = targets[0].category, activations.shape[1]
        # The library's hooks would also record the activations of the passes below.
        self.activations_and_grads.release()
        decreases = torch.zeros(len(pixels), channels)
        with torch.inference_mode():
            unchanged = layers.logits(self.model(pixels))[:, finding].float().cpu()
            for i, image in enumerate(pixels):
                for batch in torch.split(torch.arange(channels), MASKED_BATCH):
                    with _ablated(self.ablated_layer, batch):
                        copies = image[None].expand(len(batch), *image.shape)
                        logits = layers.logits(self.model(copies))[:, finding]
                    decreases[i, batch] = unchanged[i] - logits.float().cpu()
        return np.asarray(decreases.numpy())


@contextmanager
def _ablated(layer: layers.TargetLayer, channels: Tensor) -> Iterator[None]:
    """Set one channel per image of a batch to zero, at all locations."""

    def ablate(_: nn.Module, __: object, output: Tensor) -> Tensor:
        last = output.ndim == 3 or layer.channels_last
        changed = (output if last else output.movedim(1, -1)).clone()
        changed[torch.arange(len(channels)), ..., channels] = 0
        return changed if last else changed.movedim(-1, 1)

    hook = layer.module.register_forward_hook(ablate)
    try:
        yield
    finally:
        hook.remove()


CAMS: dict[str, type[BaseCAM]] = {
    "grad-cam": _GradCAM,
    "grad-cam++": _GradCAMPlusPlus,
    "hirescam": _HiResCAM,
    "layercam": _LayerCAM,
    "eigencam": _EigenCAM,
    "score-cam": _ScoreCAM,
    "ablation-cam": _AblationCAM,
}


def activation_map(
    model: nn.Module, pixels: Tensor, finding: int, layer: layers.TargetLayer, method: str
) -> NDArray[np.float32]:
    """Compute one class activation map per image.

    Args:
        model: The classifier; it is in evaluation mode for the time of the call.
        pixels: Network input of shape (batch, channels, height, width).
        finding: Index of the output to explain.
        layer: The layer whose features are weighted.
        method: A key of ``CAMS``.

    Returns:
        Values of shape (batch, rows, columns) of the layer's grid, 0 and above, in the units of the
        method (feature times logit per feature for gradient methods).

    Raises:
        ModelError: The layer's output forms no grid, or has no influence on the output.
        NotFiniteError: Features or gradients are NaN or infinite.
    """
    size = (int(pixels.shape[-2]), int(pixels.shape[-1]))
    with layers.FrozenWeights(model), _graph_from(layer):
        cam = CAMS[method](model, [layer.module], lambda output: layer.features(output, size))
        cam.ablated_layer = layer
        try:
            with np.errstate(invalid="ignore", over="ignore"):
                values = cam(pixels, [_FindingTarget(finding)] * len(pixels))
        except np.linalg.LinAlgError:
            # The decomposition of EigenCAM fails on NaN; check_finite reports the reason.
            values = np.full((len(pixels), 1, 1), np.nan, np.float32)
        finally:
            cam.activations_and_grads.release()
    return check_finite(np.asarray(values, np.float32), layer.name)


def _no_influence() -> ModelError:
    return ModelError(
        "The chosen layer has no influence on the output, so that there is no map.",
        "Choose a layer between input and classification head.",
    )


@contextmanager
def _graph_from(layer: layers.TargetLayer) -> Iterator[None]:
    hook = layer.module.register_forward_hook(layers.start_of_gradient)
    try:
        yield
    finally:
        hook.remove()
