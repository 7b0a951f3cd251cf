"""Settings of the tuning methods, as forms show them.

Each is the field of ``AdapterSpec`` with the same name; the command line shows the field's
description.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Option:
    """A setting of a method.

    Attributes:
        label: Its label in a form.
        choices: The label of each value, if there are only a few; empty for numbers and text.
        default: Description of the default, if it depends on the model; empty if the default is a
            fixed value (see ``AdapterSpec.filled``).
        free: Whether values other than ``choices`` can be typed.
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
        "Adapted layers: a choice, or a pattern of their names",
        {
            "qv": "query and value (as in the paper)",
            "qkv": "query, key and value",
            "attn": "all attention projections",
            "mlp": "MLP layers",
            "all": "all layers of the blocks",
        },
        free=True,
    ),
    "blocks": Option("Adapted blocks, such as 8-11", default="all"),
    "last_blocks": Option("Number of last blocks that train"),
    "rate_ratio": Option("Learning rate of B divided by that of A"),
    "initial_rank": Option("Initial rank"),
    "orthogonality": Option("Weight of the orthogonality penalty"),
    "vectors": Option("Number of vectors in the bank"),
    "vector_length": Option("Vector length", default="the largest that fits, up to 256"),
    "block_size": Option("Block size of the rotation", default="the largest that fits every layer"),
    "butterflies": Option("Number of butterfly factors"),
    "frequencies": Option("Frequencies per layer"),
    "scaling": Option("Scale of the update"),
    "prompts": Option("Number of prompt tokens"),
    "prompt_depth": Option(
        "Prompt depth",
        {
            "deep": "deep: new prompts before every block",
            "shallow": "shallow: prompts before the first block only",
        },
    ),
    "head": Option(
        "Classification head",
        {
            "linear": "linear: on the pooled features",
            "attentive": "attentive: one query per finding pools the tokens",
        },
        default="linear",
    ),
}
"""The settings by their names in ``AdapterSpec``."""


def options(*names: str) -> dict[str, Option]:
    """The settings of these names, in this order."""
    return {name: OPTIONS[name] for name in names}
