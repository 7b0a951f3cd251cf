"""Section ``model`` of a specification: backbone, weights and input size."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from core.config.section import Section


class ModelSpec(Section):
    """Backbone that a run starts from."""

    backbone: str = Field("embedded-mae", description="Name of the backbone.")
    weights: Path | None = Field(
        None, description="Path of a local checkpoint, for backbones whose weights are not shipped."
    )
    pretrained: bool = Field(
        True, description="Start from pre-trained weights; otherwise from random weights."
    )
    input_size: int | None = Field(
        None,
        ge=32,
        le=1024,
        description="Side of the input in pixels; by default the backbone's own.",
    )
