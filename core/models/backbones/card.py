"""The card of a backbone: architecture, input, weights, licence and pre-training data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Source = Literal["embedded", "file", "hub", "timm"]

PATCH_MEAN = "mean of the patch tokens, then fc_norm"
CLASS_TOKEN = "class token, after the final norm"  # noqa: S105 - a token of a transformer
MAP_MEAN = "mean of the last feature map"

WEIGHTS = {
    "embedded": "included",
    "file": "local file",
    "hub": "hub or local file",
    "timm": "hub or local file",
}
"""Where the weights of each source come from, as shown to users (hub: the Hugging Face Hub)."""


@dataclass(frozen=True)
class BackboneCard:
    """A backbone: how it is built and loaded, which input it expects, and where it comes from.

    Attributes:
        name: Its key in ``BACKBONES``.
        title: Its name as shown to users.
        architecture: Name of the timm architecture.
        arguments: Further arguments of the architecture.
        input_size: Side of the square input in pixels.
        mean: Mean that the input is normalised with, on grey levels from 0 to 1; one value, or one
            per channel.
        std: Standard deviation that the input is normalised with, likewise.
        channels: Number of input channels; a grey radiograph is repeated for each.
        pooling: The features that the classifier receives, as a noun phrase.
        weights: File name of the weights in ``assets/backbones/``, if they are included.
        source: ``embedded``: included in this package. ``file``: a file that the user downloads.
            ``hub``: on the Hugging Face Hub. ``timm``: located by timm's own configuration.
        hub: Repository on the Hugging Face Hub.
        hub_files: File names of the weights there; the first that exists is used.
        licence: Terms of use of the weights.
        pretraining: Pre-training method and images.
        paper: Reference of the paper that describes it.
        url: Where the authors publish the weights; shown when the weights are missing.
        obtain: Further steps to get a file that can be loaded; empty if there are none.
        leaks: Which images or labels of the supported data sets it has seen in pre-training; empty
            if nothing is known.
        eval_resize: Shorter side, in pixels, before the centre crop in evaluation; None resizes to
            the input size.
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
