"""The backbone of a run: name, weights, input size."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from core.config.section import Section


class ModelSpec(Section):
    """Which backbone a run starts from."""

    backbone: str = Field("embedded-mae", description="Name of the backbone.")
    weights: Path | None = Field(
        None, description="Local checkpoint, for backbones whose weights are not shipped."
    )
    pretrained: bool = Field(
        True, description="Start from the pre-trained weights; otherwise from random ones."
    )
    input_size: int | None = Field(
        None, ge=32, le=1024, description="Input side in pixels; by default the backbone's own."
    )
