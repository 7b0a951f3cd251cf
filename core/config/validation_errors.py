"""Messages for pydantic's validation errors."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from core.errors import ConfigurationError


def faults(error: ValidationError) -> ConfigurationError:
    """Turn pydantic's report into one message with a sentence per error.

    ``field`` of the result is the first field with an error.
    """
    sentences = []
    for fault in error.errors():
        where = ".".join(str(part) for part in fault["loc"]) or "specification"
        sentences.append(f"{where}: {_sentence(fault)}")
    first = ".".join(str(part) for part in error.errors()[0]["loc"])
    return ConfigurationError(
        "The settings are not valid. " + " ".join(sentences), field=first or None
    )


def _sentence(fault: Any) -> str:
    given, bounds = fault.get("input"), fault.get("ctx", {})
    limits = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    named = [f"{word} {bounds[key]}" for key, word in limits.items() if key in bounds]
    if named:
        return f"{given!r} is out of range; it must be {' and '.join(named)}."
    message = str(fault["msg"]).removeprefix("Value error, ").rstrip(".")
    # The input of a check of several settings is all of them.
    return f"{message}." if isinstance(given, dict) else f"{message} (value: {given!r})."
