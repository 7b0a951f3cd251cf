"""How the backbone is tuned."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from core.config.defaults import METHOD_DEFAULTS
from core.config.section import Section

PromptDepth = Literal["shallow", "deep"]

TARGETS = ("qv", "qkv", "attn", "mlp", "all")
"""The choices of layers that have a name; any other text is a pattern of their names."""


class AdapterSpec(Section):
    """How the backbone is tuned. Full fine-tuning is a method by name, never the absence of one."""

    method: str = Field("lora", description="Name of the method: lora, full, linear, ….")
    rank: int = Field(4, ge=1, le=1024, description="Rank r of the low-rank update.")
    alpha: float = Field(32.0, gt=0, le=4096, description="Scale of the update is alpha / rank.")
    dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Dropout on the adapter's input; by default 0.1, as published, and 0 for the "
        "embedded backbones.",
    )
    targets: str = Field(
        "qv",
        description="Layers that are adapted in every block: qv (query and value), qkv, attn, mlp, "
        "all, or a regular expression that matches their whole names.",
    )
    blocks: str | None = Field(
        None, description="Blocks that are adapted, from 0: 8-11 or 0,2,5-7; by default all."
    )
    last_blocks: int | None = Field(
        None, ge=1, le=1000, description="last-k: how many of the last blocks train; by default 2."
    )
    rate_ratio: float | None = Field(
        None, gt=0, le=1000, description="lora+: learning rate of B over that of A; by default 16."
    )
    initial_rank: int | None = Field(
        None,
        ge=2,
        le=1024,
        description="adalora: rank of each layer at the start; by default half above the rank.",
    )
    orthogonality: float | None = Field(
        None,
        ge=0,
        le=100,
        description="adalora: weight of the penalty on factors that are not orthogonal; by default "
        "0.5.",
    )
    vectors: int | None = Field(
        None, ge=2, le=65_536, description="vblora: vectors in the shared bank; by default 90."
    )
    vector_length: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="vblora: length of a vector; by default the largest up to 256 that divides "
        "every width.",
    )
    block_size: int | None = Field(
        None,
        ge=2,
        le=1024,
        description="oft, boft: side of the rotated blocks; by default the largest up to 32 (boft: "
        "8) that fits every layer.",
    )
    butterflies: int | None = Field(
        None, ge=1, le=8, description="boft: butterfly factors of a rotation; by default 2."
    )
    frequencies: int | None = Field(
        None, ge=1, description="fourierft: coefficients that train in a layer; by default 1000."
    )
    scaling: float | None = Field(
        None, gt=0, le=100_000, description="fourierft: scale of the update; by default 150."
    )
    prompts: int | None = Field(
        None, ge=1, le=1000, description="vpt: prompt tokens of a block; by default 10."
    )
    prompt_depth: PromptDepth | None = Field(
        None,
        description="vpt: new prompts before every block (deep, the default) or before the first "
        "alone (shallow).",
    )

    imported: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{16}$",
        description="Hash of the adapter, made elsewhere, that the run is only tested with.",
        json_schema_extra={"chosen": False},
    )

    @field_validator("targets")
    @classmethod
    def _targets_can_match(cls, targets: str) -> str:
        try:
            re.compile(targets)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(
                f"these targets are none of {', '.join(TARGETS)} and no regular expression either "
                f"({error})"
            ) from error
        return targets

    @field_validator("blocks")
    @classmethod
    def _blocks_are_numbers(cls, blocks: str | None) -> str | None:
        if blocks is not None and not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", blocks):
            raise ValueError("blocks are numbers and ranges, such as 8-11 or 0,2,5-7")
        return blocks

    def own(self) -> dict[str, Any]:
        """What was chosen of the settings that only some methods heed, by name."""
        chosen = {name: getattr(self, name) for name in OWN}
        return {name: value for name, value in chosen.items() if value is not None}

    def filled(self) -> AdapterSpec:
        """The same, with each setting of the method that was left to a fixed default filled in."""
        defaults = METHOD_DEFAULTS.get(self.method, {})
        if self.method == "adalora":
            defaults = {**defaults, "initial_rank": min(1024, -(-3 * self.rank // 2))}
        return self.model_copy(update={**defaults, **self.own()})

    @model_serializer(mode="wrap")
    def _without_open_options(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Runs from before an option existed keep their JSON and with it their fingerprint.
        written: dict[str, Any] = write(self)
        return {k: v for k, v in written.items() if k in COMMON or v is not None}


COMMON = ("method", "rank", "alpha", "dropout", "targets")
OWN = tuple(name for name in AdapterSpec.model_fields if name not in (*COMMON, "imported"))
"""Fields that only some methods support (see ``core.models.tuning.registry``)."""
