"""The blocks of a network in their order, whatever the architecture calls them."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from core.errors import ConfigurationError

STEM = -1


def of_parameters(model: nn.Module) -> dict[str, int]:
    """The block of each parameter, by its name.

    Blocks count from 0, as timm orders them: transformer blocks, or the blocks of all stages of a
    convolutional network in a row. The stem (patch embedding, position, class token) is ``STEM``;
    what follows the last block has its number plus one. A model that timm does not order is one
    stem.
    """
    from timm.models import group_parameters

    if not hasattr(model, "group_matcher"):
        return {name: STEM for name, _ in model.named_parameters()}
    matcher = model.group_matcher(coarse=False)  # type: ignore[operator]
    ids: dict[str, int] = group_parameters(model, matcher, reverse=True)
    return {name: number - 1 for name, number in ids.items()}


def count(model: nn.Module) -> int:
    """How many blocks a model has; 0 where timm does not order them."""
    return max(of_parameters(model).values(), default=STEM)


def chosen(text: str, total: int, model: str) -> set[int]:
    """Read the numbers of blocks.

    Args:
        text: Numbers and ranges, such as ``8-11`` or ``0,2,5-7``.
        total: How many blocks there are.
        model: The architecture's name, for the message.

    Raises:
        ConfigurationError: There are no blocks of these numbers.
    """
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if low > high or high >= total:
            raise ConfigurationError(
                f"{model} has no blocks {part}: it has {total}, from 0 to {total - 1}."
                if total
                else f"The blocks of a {model} have no order here.",
                f"Choose among 0-{total - 1}." if total else "Leave the blocks open.",
                field="adapter.blocks",
            )
        found |= set(range(low, high + 1))
    return found


def within(model: nn.Module, names: Iterable[str], text: str) -> list[str]:
    """Those layers that lie in the chosen blocks.

    Args:
        model: The model.
        names: Names of layers with a weight.
        text: Numbers and ranges of blocks.

    Raises:
        ConfigurationError: There are no such blocks.
    """
    numbers = of_parameters(model)
    wanted = chosen(text, count(model), type(model).__name__)
    return [name for name in names if numbers.get(f"{name}.weight") in wanted]


def of_the_last(model: nn.Module, last: int) -> set[str]:
    """Names of the parameters of the last blocks, and of what follows them.

    Raises:
        ConfigurationError: There are fewer blocks.
    """
    numbers, total = of_parameters(model), count(model)
    if last > total:
        raise ConfigurationError(
            f"{type(model).__name__} has {total} blocks, fewer than {last}."
            if total
            else f"The blocks of a {type(model).__name__} have no order here.",
            f"Choose at most {total}." if total else "Choose the method full or linear.",
            field="adapter.last_blocks" if total else "adapter.method",
        )
    return {name for name, number in numbers.items() if number >= total - last}
