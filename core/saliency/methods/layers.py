"""Which layer of a network a map is taken from, and how its output becomes a grid of features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from core.errors import ModelError, unknown_name
from core.models.tuning import vpt


@dataclass(frozen=True)
class Site:
    """A layer whose output can be laid out over the picture.

    Attributes:
        name: The layer's dotted name inside the network, such as ``blocks.11.norm1``.
        module: The layer.
        prefix: Tokens before the patch tokens (class token, registers, prompts); 0 for feature
            maps.
        channels_last: Whether a feature map comes as (batch, height, width, channels).
    """

    name: str
    module: nn.Module
    prefix: int
    channels_last: bool

    def features(self, output: Tensor, size: tuple[int, int]) -> Tensor:
        """Lay the layer's output out as a feature map.

        Args:
            output: (batch, tokens, channels), or a feature map in the network's own order.
            size: Height and width of the network's input in pixels; tells the token grid's shape.

        Returns:
            A copy of shape (batch, channels, rows, columns).

        Raises:
            ModelError: The output has no two-dimensional order.
        """
        if output.ndim == 4:
            ordered = output.permute(0, 3, 1, 2) if self.channels_last else output
            return ordered.clone()
        if output.ndim != 3:
            raise ModelError(
                f"The layer {self.name} gives {output.ndim}-dimensional output, which cannot be "
                "laid over a picture.",
                "Choose a block or a norm of a block.",
            )
        tokens = output[:, self.prefix :]
        rows, columns = token_grid(tokens.shape[1], size, self.name)
        return tokens.transpose(1, 2).reshape(output.shape[0], -1, rows, columns).clone()


def token_grid(tokens: int, size: tuple[int, int], name: str = "attention") -> tuple[int, int]:
    """Rows and columns of a grid of square patches that covers a picture.

    Args:
        tokens: Number of patch tokens, without class token and registers.
        size: Height and width of the input in pixels.
        name: The layer, for the error.

    Raises:
        ModelError: No grid of square patches has this many tokens.
    """
    height, width = size
    rows = round((tokens * height / width) ** 0.5)
    if rows == 0 or rows * (tokens // rows) != tokens:
        raise ModelError(
            f"The {tokens} tokens of {name} make no grid over an input of {height} × {width} px.",
            "Choose another layer.",
        )
    return rows, tokens // rows


def network(model: nn.Module) -> nn.Module:
    """Find the timm (or torchvision) network inside whatever wraps it.

    Adapters may be injected into the network itself or stand around it (peft's ``PeftModel``,
    ``DataParallel``); its layers are addressed by the network's own names in either case.
    """
    for module in model.modules():
        if prefix_tokens(module) is not None or hasattr(module, "forward_features"):
            return module
    return model


def prefix_tokens(model: nn.Module) -> int | None:
    """Tokens before the patch tokens of a ViT or EVA; None for networks of another kind."""
    count = getattr(model, "num_prefix_tokens", None)
    return count if isinstance(count, int) and hasattr(model, "blocks") else None


def names(model: nn.Module) -> list[str]:
    """The layers a map can be taken from, from the input towards the output.

    For ViT and EVA the norm before each block's attention and the output of the last block; for
    networks of feature maps the end of each stage, or each convolution where stages are not named.
    """
    base = network(model)
    if prefix_tokens(base) is not None:
        blocks = list(base.blocks.named_children())  # type: ignore[union-attr]
        found = [f"blocks.{i}.norm1" for i, block in blocks if hasattr(block, "norm1")]
        return [*found, f"blocks.{blocks[-1][0]}"]
    present = dict(base.named_modules())
    stages = [str(one["module"]) for one in getattr(base, "feature_info", None) or []]
    found = [name for name in stages if name in present]
    return found or [n for n, module in present.items() if isinstance(module, nn.Conv2d)]


def default(model: nn.Module) -> str:
    """The layer a map is taken from when none is chosen.

    The norm before the last attention of a transformer, as grad-cam's authors advise: behind that
    attention a class token has taken what it needs and the patch tokens' gradient is zero.
    Otherwise the last feature map, as in Selvaraju et al. 2017.

    Raises:
        ModelError: The network has no layer with a two-dimensional order.
    """
    found = names(model)
    if not found:
        raise ModelError(
            f"No layer of {type(network(model)).__name__} can be laid over a picture.",
            "Give the layer's name.",
        )
    norms = [name for name in found if name.endswith(".norm1")]
    return (norms or found)[-1]


def site(model: nn.Module, layer: str | None = None) -> Site:
    """Look a layer up by name.

    Args:
        model: The classifier, wrapped or not.
        layer: A name of ``names(model)`` or any other dotted name inside the network; None takes
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
    return Site(
        name=chosen,
        module=module,
        prefix=(prefix_tokens(base) or 0) + vpt.prompts_before_patches(base, chosen),
        channels_last=getattr(base, "output_fmt", "NCHW") == "NHWC",
    )


class Frozen:
    """Within it a model is in evaluation mode and none of its weights asks for a gradient.

    Maps need the gradient of one layer's output only; the weights' own gradients would cost time
    and stay behind in ``.grad``. Flags and mode are put back at the end, whatever happened.
    """

    def __init__(self, model: nn.Module) -> None:
        self._training = [module for module in model.modules() if module.training]
        self._asking = [weight for weight in model.parameters() if weight.requires_grad]

    def __enter__(self) -> None:
        for module in self._training:
            module.training = False
        for weight in self._asking:
            weight.requires_grad_(False)

    def __exit__(self, *_: object) -> None:
        for module in self._training:
            module.training = True
        for weight in self._asking:
            weight.requires_grad_(True)


def start_of_gradient(_: nn.Module, __: object, output: Tensor) -> Tensor:
    """Forward hook that makes a layer's output the place where gradients begin.

    The backward pass then ends here instead of at the input, and it exists even if every weight of
    the backbone is frozen, as with a linear probe.
    """
    return output.detach().requires_grad_(True).clone()


def logits(output: object) -> Tensor:
    """The logits among whatever a classifier returns.

    Raises:
        ModelError: It returns no tensor of shape (batch, findings).
    """
    if isinstance(output, Tensor) and output.ndim == 2:
        return output
    if isinstance(output, Tensor) and output.ndim == 1:
        return output[:, None]
    raise ModelError(
        "The model gives no logits of shape (studies, findings).", "Give it a classifier's head."
    )


def device(model: nn.Module) -> torch.device:
    """Where the model's weights are."""
    return next((weight.device for weight in model.parameters()), torch.device("cpu"))
