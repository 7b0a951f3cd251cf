"""The layers of a network that maps are computed from, and the grids of their outputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.errors import ModelError, NotFiniteError, unknown_name
from core.models.tuning import vpt


@dataclass(frozen=True)
class TargetLayer:
    """A layer whose output forms a grid over the image.

    Attributes:
        name: The layer's dotted name inside the network, such as ``blocks.11.norm1``.
        module: The layer.
        prefix: Tokens before the patch tokens (class token, registers, prompts); 0 for feature
            maps.
        channels_last: Whether a feature map has the shape (batch, height, width, channels).
    """

    name: str
    module: nn.Module
    prefix: int
    channels_last: bool

    def features(self, output: Tensor, size: tuple[int, int]) -> Tensor:
        """Reshape the layer's output to a feature map.

        Args:
            output: (batch, tokens, channels), or a feature map in the network's own order.
            size: Height and width of the network's input in pixels, which determine the shape of
                the token grid.

        Returns:
            A copy of shape (batch, channels, rows, columns).

        Raises:
            ModelError: The output has no two-dimensional grid.
        """
        if output.ndim == 4:
            ordered = output.permute(0, 3, 1, 2) if self.channels_last else output
            return ordered.clone()
        if output.ndim != 3:
            raise ModelError(
                f"The output of the layer {self.name} has {output.ndim} dimensions and forms no "
                "grid over the image.",
                "Choose a block or a norm of a block.",
            )
        tokens = output[:, self.prefix :]
        rows, columns = token_grid(tokens.shape[1], size, self.name)
        return tokens.transpose(1, 2).reshape(output.shape[0], -1, rows, columns).clone()


def token_grid(tokens: int, size: tuple[int, int], name: str = "attention") -> tuple[int, int]:
    """Rows and columns of a grid of square patches that covers an image.

    Args:
        tokens: Number of patch tokens, without class token and registers.
        size: Height and width of the input in pixels.
        name: Name of the layer, for the error message.

    Raises:
        ModelError: No grid of square patches has this number of tokens.
    """
    height, width = size
    rows = round((tokens * height / width) ** 0.5)
    if rows == 0 or rows * (tokens // rows) != tokens:
        raise ModelError(
            f"The {tokens} tokens of {name} form no grid over an input of {height} × {width} px.",
            "Choose another layer.",
        )
    return rows, tokens // rows


def network(model: nn.Module) -> nn.Module:
    """Find the timm (or torchvision) network inside its wrappers.

    Adapters are either injected into the network or wrap it (peft's ``PeftModel``,
    ``DataParallel``); in both cases layers are addressed by the network's own names.
    """
    for module in model.modules():
        if prefix_tokens(module) is not None or hasattr(module, "forward_features"):
            return module
    return model


def prefix_tokens(model: nn.Module) -> int | None:
    """Number of tokens before the patch tokens of a ViT or EVA; None for other networks."""
    count = getattr(model, "num_prefix_tokens", None)
    return count if isinstance(count, int) and hasattr(model, "blocks") else None


def names(model: nn.Module) -> list[str]:
    """The layers that a map can be computed from, from the input to the output.

    For ViT and EVA the norm before the attention of each block and the output of the last block;
    for networks of feature maps the end of each stage, or each convolution if stages have no names.
    """
    base = network(model)
    if prefix_tokens(base) is not None:
        blocks = list(base.blocks.named_children())  # type: ignore[union-attr]
        norms = [f"blocks.{i}.norm1" for i, block in blocks if hasattr(block, "norm1")]
        return [*norms, f"blocks.{blocks[-1][0]}"]
    modules = dict(base.named_modules())
    stages = [str(stage["module"]) for stage in getattr(base, "feature_info", None) or []]
    stages = [name for name in stages if name in modules]
    return stages or [name for name, module in modules.items() if isinstance(module, nn.Conv2d)]


def default(model: nn.Module) -> str:
    """The layer that a map is computed from if none is chosen.

    The norm before the last attention of a transformer, as the authors of grad-cam recommend:
    behind that attention only the class token is used, and the gradient of the patch tokens is
    zero. Otherwise the last feature map, as in Selvaraju et al. 2017.

    Raises:
        ModelError: The network has no layer whose output forms a grid.
    """
    candidates = names(model)
    if not candidates:
        raise ModelError(
            f"No layer of {type(network(model)).__name__} forms a grid over the image.",
            "Give the layer's name.",
        )
    norms = [name for name in candidates if name.endswith(".norm1")]
    return (norms or candidates)[-1]


def target_layer(model: nn.Module, layer: str | None = None) -> TargetLayer:
    """Look up a layer by name.

    Args:
        model: The classifier, wrapped or not.
        layer: A name of ``names(model)`` or any other dotted name inside the network; None selects
            the default.

    Raises:
        ModelError: The network has no such layer.
    """
    base = network(model)
    chosen = layer or default(base)
    try:
        module = base.get_submodule(chosen)
    except AttributeError:
        raise unknown_name("layer", chosen, names(base), error=ModelError) from None
    return TargetLayer(
        name=chosen,
        module=module,
        prefix=(prefix_tokens(base) or 0) + vpt.prompts_before_patches(base, chosen),
        channels_last=getattr(base, "output_fmt", "NCHW") == "NHWC",
    )


class FrozenWeights:
    """Context in which a model is in evaluation mode and none of its weights requires a gradient.

    Maps need the gradient of one layer's output only; gradients of the weights would take time and
    remain in ``.grad``. Modes and flags are restored at the end, also after an error.
    """

    def __init__(self, model: nn.Module) -> None:
        # Each module has its own mode: a frozen block may already be in evaluation mode.
        self._training = [module for module in model.modules() if module.training]
        self._trainable = [weight for weight in model.parameters() if weight.requires_grad]

    def __enter__(self) -> None:
        for module in self._training:
            module.training = False
        for weight in self._trainable:
            weight.requires_grad_(False)

    def __exit__(self, *_: object) -> None:
        for module in self._training:
            module.training = True
        for weight in self._trainable:
            weight.requires_grad_(True)


def start_of_gradient(_: nn.Module, __: object, output: Tensor) -> Tensor:
    """Forward hook that makes a layer's output the start of the autograd graph.

    The backward pass then ends here instead of at the input, and it exists even if every weight of
    the backbone is frozen, as with a linear probe.
    """
    # The clone lets a following in-place operation, such as ReLU, change its input: autograd does
    # not allow that for a leaf.
    return output.detach().requires_grad_(True).clone()


def logits(output: object) -> Tensor:
    """Check the output of a classifier, and return its logits of shape (batch, findings).

    Raises:
        ModelError: The output is no tensor of shape (batch, findings).
    """
    if isinstance(output, Tensor) and output.ndim == 2:
        return output
    if isinstance(output, Tensor) and output.ndim == 1:
        return output[:, None]
    raise ModelError(
        "The model returns no logits of shape (studies, findings).", "Add a classification head."
    )


def device(model: nn.Module) -> torch.device:
    """The device of the model's weights."""
    return next((weight.device for weight in model.parameters()), torch.device("cpu"))


def check_finite(values: NDArray[np.float32], source: str) -> NDArray[np.float32]:
    """Return values that are all finite.

    Raises:
        NotFiniteError: A value is NaN or infinite.
    """
    if np.isfinite(values).all():
        return values
    raise NotFiniteError(
        f"The features or gradients of {source} are not finite, so that there is no map.",
        "The weights of the run have probably diverged: train again with a lower learning rate, or "
        "choose another layer.",
    )
