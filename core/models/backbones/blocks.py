"""Selecting blocks of a network by their numbers."""

from __future__ import annotations

from core.errors import ConfigurationError
from core.models.backbones.model_map import ModelMap


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
