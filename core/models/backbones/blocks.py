"""Numbers of the blocks of a network, independent of how the architecture names them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from core.errors import ConfigurationError

if TYPE_CHECKING:
    from core.models.backbones.model_map import ModelMap

STEM = -1
"""Number of what lies before the first block."""


def block_numbers(model: nn.Module) -> dict[str, int]:
    """The block of each parameter, by the parameter's name.

    Blocks are numbered from 0 in timm's order: transformer blocks, or the blocks of all stages of
    a convolutional network one after another. The stem (patch embedding, position embedding, class
    token) has the number ``STEM``; what follows the last block has its number plus one. If timm
    does not order the blocks of a model, all of it is stem.
    """
    from timm.models import group_parameters

    if not hasattr(model, "group_matcher"):
        return {name: STEM for name, _ in model.named_parameters()}
    matcher = model.group_matcher(coarse=False)  # type: ignore[operator]
    ids: dict[str, int] = group_parameters(model, matcher, reverse=True)
    return {name: number - 1 for name, number in ids.items()}


def parse_blocks(text: str, total: int, model: str) -> set[int]:
    """Numbers of the blocks that a text selects.

    Args:
        text: Numbers and ranges, such as ``8-11`` or ``0,2,5-7``.
        total: Number of blocks of the model.
        model: The architecture's name, for the message.

    Raises:
        ConfigurationError: The model has no blocks with these numbers.
    """
    numbers: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if low > high or high >= total:
            raise ConfigurationError(
                f"{model} has no blocks {part}: it has {total}, from 0 to {total - 1}."
                if total
                else f"The blocks of {model} are not numbered.",
                f"Choose among 0-{total - 1}." if total else "Leave the blocks at their default.",
                field="adapter.blocks",
            )
        numbers |= set(range(low, high + 1))
    return numbers


def last_block_parameters(parts: ModelMap, last: int) -> set[str]:
    """Names of the parameters of the last blocks, and of everything that follows them.

    Args:
        parts: Map of the model.
        last: Number of blocks.

    Raises:
        ConfigurationError: The model has fewer blocks.
    """
    model, total = type(parts.model).__name__, parts.block_count
    if last > total:
        raise ConfigurationError(
            f"{model} has {total} blocks, fewer than {last}."
            if total
            else f"The blocks of {model} are not numbered.",
            f"Choose at most {total}." if total else "Choose the method full or linear.",
            field="adapter.last_blocks" if total else "adapter.method",
        )
    return {name for name, number in parts.block_numbers.items() if number >= total - last}
