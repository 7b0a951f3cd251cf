"""Class activation maps by the library grad-cam, with their scale kept.

The library stretches each map to 0…1; here the values stay as each paper defines them, so that maps
of two pictures or two models can be compared.
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

from core.errors import ModelError, NotFiniteError
from core.saliency.methods import layers

MASKED_BATCH = 64


class _Unscaled:
    """Mixed into a method of grad-cam: its map before the library resizes and stretches it."""

    def compute_cam_per_layer(
        self, input_tensor: Tensor, targets: Sequence[Any], eigen_smooth: bool
    ) -> NDArray[np.float32]:
        seen: Any = self
        kept = seen.activations_and_grads
        if not kept.activations or (seen.uses_gradients and not kept.gradients):
            raise _no_influence()
        raw: NDArray[np.float32] = seen.get_cam_image(
            input_tensor,
            seen.target_layers[0],
            targets,
            kept.activations[0].numpy(),
            kept.gradients[0].numpy() if kept.gradients else None,
            eigen_smooth,
        )
        return raw

    def aggregate_multi_layers(self, cam: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.maximum(cam, 0)


class _Finding(ClassifierOutputTarget):  # type: ignore[misc]
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
    """The first principal component, whose sign an SVD leaves open.

    The sign is chosen so that the component rises with the strength of the features; otherwise
    about every second map would show the background.
    """

    def get_cam_image(self, *arguments: Any, **more: Any) -> NDArray[np.float32]:
        component: NDArray[np.float32] = super().get_cam_image(*arguments, **more)
        strength = np.linalg.norm(arguments[3], axis=1)
        strength = strength - strength.mean(axis=(1, 2), keepdims=True)
        agree = np.sign((component * strength).sum(axis=(1, 2), keepdims=True))
        return component * np.where(agree == 0, 1, agree).astype(np.float32)


class _ScoreCAM(_Unscaled, BaseCAM):  # type: ignore[misc]
    """Score-CAM: channels weighted by the logit of the picture seen through each of them.

    The library's own prints a progress bar a picture and takes the weights' softmax over raw
    scores; this is Algorithm 1 of Wang et al. 2020, with the score of an empty picture taken off.
    """

    def __init__(self, model: nn.Module, target_layers: list[nn.Module], reshape: Any) -> None:
        super().__init__(model, target_layers, reshape, uses_gradients=False)

    def get_cam_weights(
        self, pixels: Tensor, _: object, targets: Sequence[Any], activations: Any, __: object
    ) -> NDArray[np.float32]:
        finding = targets[0].category
        self.activations_and_grads.release()  # the masked passes below need no activations
        with torch.inference_mode():
            nothing = layers.logits(self.model(torch.zeros_like(pixels[:1])))[0, finding]
            rows = [
                self._raised(picture, torch.from_numpy(own).to(pixels.device), finding) - nothing
                for picture, own in zip(pixels, activations, strict=True)
            ]
            weights: NDArray[np.float32] = torch.softmax(torch.stack(rows), dim=1).cpu().numpy()
        return weights

    def _raised(self, picture: Tensor, activations: Tensor, finding: int) -> Tensor:
        low = activations.amin(dim=(1, 2), keepdim=True)
        high = activations.amax(dim=(1, 2), keepdim=True)
        masks = ((activations - low) / (high - low).clamp_min(1e-8))[:, None]
        found = []
        for some in torch.split(masks, MASKED_BATCH):
            large = nn.functional.interpolate(some, picture.shape[-2:], mode="bilinear")
            found.append(layers.logits(self.model(picture[None] * large))[:, finding])
        return torch.cat(found)


class _AblationCAM(_Unscaled, BaseCAM):  # type: ignore[misc]
    """Ablation-CAM: channels weighted by the fall of the logit when they are set to zero.

    The library's own subtracts ten million from channels behind a LayerNorm where the paper sets
    them to zero. Desai and Ramaswamy 2020 divide by the picture's logit (equation 5), which is the
    same for all of its channels; this does not, for it would turn each map of a negative logit
    around.
    """

    def __init__(self, model: nn.Module, target_layers: list[nn.Module], reshape: Any) -> None:
        super().__init__(model, target_layers, reshape, uses_gradients=False)

    def get_cam_weights(
        self, pixels: Tensor, _: object, targets: Sequence[Any], activations: Any, __: object
    ) -> NDArray[np.float32]:
        finding, channels = targets[0].category, activations.shape[1]
        self.activations_and_grads.release()  # the passes below need no activations
        found = torch.zeros(len(pixels), channels)
        with torch.inference_mode():
            whole = layers.logits(self.model(pixels))[:, finding].float().cpu()
            for i, picture in enumerate(pixels):
                for some in torch.split(torch.arange(channels), MASKED_BATCH):
                    with _without(self.site, some):
                        batch = picture[None].expand(len(some), *picture.shape)
                        left = layers.logits(self.model(batch))[:, finding]
                    found[i, some] = whole[i] - left.float().cpu()
        weights: NDArray[np.float32] = found.numpy()
        return weights


@contextmanager
def _without(site: layers.Site, channels: Tensor) -> Iterator[None]:
    """Set one channel of each picture of a batch to zero, at all places."""

    def silence(_: nn.Module, __: object, output: Tensor) -> Tensor:
        last = output.ndim == 3 or site.channels_last
        changed = (output if last else output.movedim(1, -1)).clone()
        changed[torch.arange(len(channels)), ..., channels] = 0
        return changed if last else changed.movedim(-1, 1)

    handle = site.module.register_forward_hook(silence)
    try:
        yield
    finally:
        handle.remove()


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
    model: nn.Module, pixels: Tensor, finding: int, site: layers.Site, method: str
) -> NDArray[np.float32]:
    """Compute one class activation map a picture.

    Args:
        model: The classifier; put into evaluation mode for the time of the call.
        pixels: Network input of shape (batch, channels, height, width).
        finding: Index of the output to explain.
        site: The layer whose features are weighted.
        method: A key of ``CAMS``.

    Returns:
        Values of shape (batch, rows, columns) of the layer's grid, 0 and above, in the units of the
        method (feature times logit per feature for those by gradients).

    Raises:
        ModelError: The layer has no grid, or no influence on the output.
        NotFiniteError: Features or gradients are NaN or infinite.
    """
    size = (int(pixels.shape[-2]), int(pixels.shape[-1]))
    with layers.Frozen(model), _beginning_at(site):
        cam = CAMS[method](model, [site.module], lambda output: site.features(output, size))
        cam.site = site
        try:
            with np.errstate(invalid="ignore", over="ignore"):
                found = cam(pixels, [_Finding(finding)] * len(pixels))
        except np.linalg.LinAlgError:
            found = np.full((len(pixels), 1, 1), np.nan, np.float32)
        finally:
            cam.activations_and_grads.release()
    return finite(np.asarray(found, np.float32), site.name)


def finite(values: NDArray[np.float32], where: str) -> NDArray[np.float32]:
    """Pass a map on if all of it is a number.

    Raises:
        NotFiniteError: Some of it is not.
    """
    if np.isfinite(values).all():
        return values
    raise NotFiniteError(
        f"The features or gradients of {where} are not finite, so they make no map.",
        "The run's weights have probably diverged: train again with a lower learning rate, or "
        "choose another layer.",
    )


def _no_influence() -> ModelError:
    return ModelError(
        "The chosen layer has no influence on the output, so it makes no map.",
        "Choose a layer that lies between input and head.",
    )


@contextmanager
def _beginning_at(site: layers.Site) -> Iterator[None]:
    handle = site.module.register_forward_hook(layers.start_of_gradient)
    try:
        yield
    finally:
        handle.remove()
