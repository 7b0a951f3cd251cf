"""The settings that a way of tuning may heed, as a form offers them.

Each is a field of ``AdapterSpec`` of the same name, whose description the command line shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Option:
    """One setting of a method.

    Attributes:
        label: What it is, for people.
        choices: What each value means, where there are but a few; empty for a number or text.
        default: What it is where nothing is given and the model decides; empty where the value
            is fixed (``AdapterSpec.filled`` tells it).
        free: Whether other values than ``choices`` may be typed.
    """

    label: str
    choices: Mapping[str, str] = field(default_factory=dict)
    default: str = ""
    free: bool = False


OPTIONS: dict[str, Option] = {
    "rank": Option("Rank r"),
    "alpha": Option("Alpha"),
    "dropout": Option("Adapter dropout"),
    "targets": Option(
        "Adapted layers, or a pattern of their names",
        {
            "qv": "query and value (as in the paper)",
            "qkv": "query, key and value",
            "attn": "attention",
            "mlp": "MLP",
            "all": "all layers of the blocks",
        },
        free=True,
    ),
    "blocks": Option("Adapted blocks, such as 8-11", default="all"),
    "last_blocks": Option("Last blocks that train"),
    "rate_ratio": Option("Rate of B over A"),
    "initial_rank": Option("Rank at the start"),
    "orthogonality": Option("Weight of orthogonality"),
    "vectors": Option("Vectors in the bank"),
    "vector_length": Option("Length of a vector", default="the largest that fits, up to 256"),
    "block_size": Option("Side of a block", default="the largest that fits every layer"),
    "butterflies": Option("Butterfly factors"),
    "frequencies": Option("Frequencies of a layer"),
    "scaling": Option("Scale of the update"),
    "prompts": Option("Prompt tokens"),
    "prompt_depth": Option(
        "Prompts before",
        {"deep": "every block, anew (deep)", "shallow": "the first block alone (shallow)"},
    ),
}
"""Every setting by its name in ``AdapterSpec``."""


def options(*names: str) -> dict[str, Option]:
    """Some of the settings by name, in this order."""
    return {name: OPTIONS[name] for name in names}
