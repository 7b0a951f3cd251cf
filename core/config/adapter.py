"""Section ``adapter`` of a specification: the tuning method and its settings."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from core.config.defaults import METHOD_DEFAULTS
from core.config.section import Section

PromptDepth = Literal["shallow", "deep"]
Head = Literal["linear", "attentive"]

TARGETS = ("qv", "qkv", "attn", "mlp", "all")
"""Named choices of target modules; any other text is a regular expression for module names."""


class AdapterSpec(Section):
    """Tuning method of a run and its settings. Full fine-tuning is a method of its own."""

    method: str = Field("lora", description="Name of the tuning method: lora, full, linear, ….")
    rank: int = Field(4, ge=1, le=1024, description="Rank r of the low-rank update.")
    alpha: float = Field(32.0, gt=0, le=4096, description="Scale of the update is alpha / rank.")
    dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Dropout on the adapter's input; by default 0.1 (the published value), 0 for "
        "the embedded backbones.",
    )
    targets: str = Field(
        "qv",
        description="Target modules in every block: qv (query and value), qkv, attn, mlp, all, or "
        "a regular expression that matches whole module names.",
    )
    blocks: str | None = Field(
        None, description="Blocks to adapt, counted from 0: 8-11 or 0,2,5-7; by default all."
    )
    last_blocks: int | None = Field(
        None, ge=1, le=1000, description="last-k: number of last blocks that train; by default 2."
    )
    rate_ratio: float | None = Field(
        None,
        gt=0,
        le=1000,
        description="lora+: learning rate of B divided by that of A; by default 16.",
    )
    initial_rank: int | None = Field(
        None,
        ge=2,
        le=1024,
        description="adalora: initial rank of each layer; by default 1.5 times the rank.",
    )
    orthogonality: float | None = Field(
        None,
        ge=0,
        le=100,
        description="adalora: weight of the orthogonality penalty; by default 0.5.",
    )
    vectors: int | None = Field(
        None,
        ge=2,
        le=65_536,
        description="vblora: vectors in the shared vector bank; by default 90.",
    )
    vector_length: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="vblora: length of a vector; by default the largest up to 256 that divides "
        "the width of every target module.",
    )
    block_size: int | None = Field(
        None,
        ge=2,
        le=1024,
        description="oft, boft: size of the rotation blocks; by default the largest up to 32 "
        "(boft: 8) that fits every target module.",
    )
    butterflies: int | None = Field(
        None, ge=1, le=8, description="boft: butterfly factors per rotation; by default 2."
    )
    frequencies: int | None = Field(
        None, ge=1, description="fourierft: trainable coefficients per layer; by default 1000."
    )
    scaling: float | None = Field(
        None, gt=0, le=100_000, description="fourierft: scale of the update; by default 150."
    )
    prompts: int | None = Field(
        None, ge=1, le=1000, description="vpt: prompt tokens per block; by default 10."
    )
    prompt_depth: PromptDepth | None = Field(
        None,
        description="vpt: new prompts before every block (deep, the default) or only before the "
        "first one (shallow).",
    )
    head: Head | None = Field(
        None,
        description="Classification head: linear, on the pooled features (the default), or "
        "attentive, a learnt query per finding that pools the tokens by cross-attention.",
    )

    imported: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{16}$",
        description="Hash of an imported adapter: the run evaluates it and does not train.",
        json_schema_extra={"chosen": False},
    )

    combined: str | None = Field(
        None,
        pattern=r"^(ensemble|soup)( [0-9a-f]{8})+$",
        description="An ensemble or soup of other runs, with their ids; it does not train.",
        json_schema_extra={"chosen": False},
    )

    @field_validator("targets")
    @classmethod
    def _targets_can_match(cls, targets: str) -> str:
        try:
            re.compile(targets)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(
                f"the targets are neither one of {', '.join(TARGETS)} nor a valid regular "
                f"expression ({error})"
            ) from error
        return targets

    @field_validator("head")
    @classmethod
    def _linear_head_is_the_default(cls, head: Head | None) -> Head | None:
        return None if head == "linear" else head

    @field_validator("blocks")
    @classmethod
    def _blocks_are_numbers(cls, blocks: str | None) -> str | None:
        if blocks is not None and not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", blocks):
            raise ValueError("blocks must be numbers and ranges, such as 8-11 or 0,2,5-7")
        return blocks

    def members(self) -> tuple[str, ...]:
        """Ids of the runs that an ensemble or soup combines; none for other runs."""
        return tuple((self.combined or "").split()[1:])

    def kind(self) -> str:
        """``ensemble of 3`` or ``soup from 3``; empty for other runs."""
        name = (self.combined or "").partition(" ")[0]
        return f"{name} {'of' if name == 'ensemble' else 'from'} {len(self.members())}" * bool(name)

    def own(self) -> dict[str, Any]:
        """Method-specific settings that were chosen, by name."""
        chosen = {name: getattr(self, name) for name in OWN}
        return {name: value for name, value in chosen.items() if value is not None}

    def filled(self) -> AdapterSpec:
        """The same section with the method's own defaults filled in."""
        defaults = METHOD_DEFAULTS.get(self.method, {})
        if self.method == "adalora":
            defaults = {**defaults, "initial_rank": min(1024, -(-3 * self.rank // 2))}
        return self.model_copy(update={**defaults, **self.own()})

    @model_serializer(mode="wrap")
    def _without_open_options(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # An option that is not set is left out, so that runs stored before the option existed keep
        # their JSON and their fingerprint.
        written: dict[str, Any] = write(self)
        return {k: v for k, v in written.items() if k in COMMON or v is not None}


COMMON = ("method", "rank", "alpha", "dropout", "targets")
NOT_CHOSEN = ("imported", "combined")
OWN = tuple(name for name in AdapterSpec.model_fields if name not in (*COMMON, *NOT_CHOSEN))
"""Fields that only some methods support (see ``core.models.tuning.registry``)."""
