"""What has to be known about a backbone, on one card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Source = Literal["embedded", "file", "hub", "timm"]

PATCH_MEAN = "mean of the patch tokens, then fc_norm"
CLASS_TOKEN = "class token, after the final norm"  # noqa: S105 - a token of a transformer
MAP_MEAN = "mean of the last feature map"

WEIGHTS = {
    "embedded": "shipped",
    "file": "a file you fetch",
    "hub": "from the hub, or a file",
    "timm": "from the hub, or a file",
}
"""Where the weights of each source come from, in words."""


@dataclass(frozen=True)
class BackboneCard:
    """A backbone: how it is built, fed and loaded, and where it comes from.

    Attributes:
        name: Its name in the catalogue.
        title: Its name for people.
        architecture: Name of the timm architecture.
        arguments: Further arguments of the architecture.
        input_size: Side of the square input in pixels.
        mean: Mean of the input, on grey levels from 0 to 1; one, or one a channel.
        std: Spread of the input, likewise.
        channels: Input channels; a grey radiograph is repeated to them.
        pooling: What the classifier is given.
        weights: File of the weights in ``assets/``, where they are shipped.
        source: ``embedded`` in this package, a ``file`` the user has to fetch, or of the Hugging
            Face ``hub`` (``timm``: by timm's own configuration).
        hub: Repository on the hub.
        hub_files: Names of the weights there; the first that exists is taken.
        licence: Under which terms the weights may be used.
        pretraining: How and on which images it was pre-trained.
        paper: Where it is described.
        url: Where the authors put the weights; the user is sent there when they are missing.
        obtain: What else has to be done to get a file that can be loaded; empty if nothing.
        leaks: What it has seen of the data sets it may be tested on; empty if nothing is known.
        eval_resize: Shorter side, in pixels, before the centre crop of an evaluation; None resizes
            to the input size.
    """

    name: str
    title: str
    architecture: str
    input_size: int
    mean: float | tuple[float, ...]
    std: float | tuple[float, ...]
    source: Source
    licence: str
    pretraining: str
    paper: str
    url: str
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    channels: int = 3
    pooling: str = PATCH_MEAN
    weights: str | None = None
    hub: str = ""
    hub_files: tuple[str, ...] = ("model.safetensors", "pytorch_model.bin")
    obtain: str = ""
    leaks: str = ""
    eval_resize: int | None = None
