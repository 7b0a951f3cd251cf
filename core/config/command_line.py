"""Command line that is equivalent to a run specification."""

from __future__ import annotations

import shlex
from typing import Any

from core.config.fields import fields
from core.config.run import RunSpec


def command_line(spec: RunSpec, verb: str = "train") -> str:
    """The shell command that starts the same run; only options that differ from the defaults."""
    words = ["python", "-m", "core", verb]
    always = ("data.name", "model.backbone", "adapter.method")
    for setting in fields():
        section, name = setting.path.split(".")
        value = getattr(getattr(spec, section), name)
        if value == setting.default and setting.path not in always:
            continue
        if isinstance(value, bool):
            words.append(f"--{setting.option}" if value else f"--no-{setting.option}")
        else:
            words += [f"--{setting.option}", _plain(value)]
    return shlex.join(words)


def _plain(value: Any) -> str:
    """The shortest text that parses to the same value."""
    short = f"{value:g}" if isinstance(value, float) else f"{value}"
    return short if not isinstance(value, float) or float(short) == value else repr(value)
