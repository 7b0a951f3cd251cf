"""Lists of numbers as a person types them: ``4,8``, or ``0-4``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from core.errors import ConfigurationError

MOST = 10_000
"""Most numbers in one list."""


def numbers(
    text: str, kind: Callable[[str], Any], option: str, *, field: str | None = None
) -> list[Any]:
    """Parse a list of numbers: ``4,8``, or ranges of integers such as ``0-4``.

    Args:
        text: The text.
        kind: ``int`` or ``float``.
        option: Option of the command line, for the message.
        field: Field of the launch form, for the message.

    Raises:
        ConfigurationError: The text is not such a list, or has too many numbers.
    """
    values: list[Any] = []
    try:
        for word in text.replace(",", " ").split():
            first, dash, last = word.partition("-")
            if kind is int and dash and first:
                span = range(int(first), int(last) + 1)
                values += span[: MOST + 1]
            else:
                values.append(kind(word))
    except ValueError as error:
        raise ConfigurationError(
            f"“{text}” is not a list of numbers.", f"Write {option} 1,2,3.", field=field
        ) from error
    if len(values) > MOST:
        raise ConfigurationError(
            f"“{text}” has more than {MOST:,} numbers.", f"Write {option} 1,2,3.", field=field
        )
    return values
