"""How a run is optimised."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from core.config.section import Section

Optimizer = Literal["adamw", "sgd"]
Augmentation = Literal["none", "crop-flip", "randaugment"]
Validation = Literal["every-epoch", "budget"]

SHARE = 0.2
"""Share of a run's work that validation by budget takes by default."""

TRACKERS = ("tensorboard", "mlflow", "wandb", "trackio")
"""Programs that a run's curves can be mirrored to; ``core.training.trackers`` says how."""


class TrainSpec(Section):
    """How a run is optimised. ``None`` means: the published value for the method and optimizer."""

    epochs: int = Field(6, ge=1, le=10_000, description="Passes over the labelled subset.")
    batch_size: int = Field(16, ge=1, le=4096, description="Images a step.")
    optimizer: Optimizer = Field("adamw", description="AdamW (CXR-MAE) or SGD (MRM).")
    lr: float | None = Field(
        None, gt=0, le=10, description="Peak learning rate; by default base × batch / 256."
    )
    min_lr: float = Field(1e-6, ge=0, description="Learning rate at the end of the cosine.")
    weight_decay: float | None = Field(
        None, ge=0, le=1, description="Weight decay; by default 0.05 with AdamW, 0 with SGD."
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of SGD.")
    layer_decay: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Layer-wise decay of the rate; by default 0.65 for full with AdamW, else 1.",
    )
    warmup_epochs: float | None = Field(
        None, ge=0, description="Linear warm-up; by default 5, and at most a tenth of the epochs."
    )
    drop_path: float = Field(0.1, ge=0, lt=1, description="Stochastic depth of the backbone.")
    augmentation: Augmentation | None = Field(
        None,
        description="Random resized crop and flip, RandAugment on top, or none; by default "
        "crop-flip; none for linear, whose features are then computed once, and for the embedded "
        "backbones, whose few steps crops would cost more than they give.",
    )
    augmented_copies: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="Augmented copies of each training picture, which the epochs take in turn, so "
        "that a frozen part of the network is computed once a copy; by default each epoch draws "
        "new ones.",
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of subset, head, order, crops.")
    device: str = Field(
        "auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="Mixed precision; auto is bf16 where the GPU or processor has it."
    )

    accumulation: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="Parts in which a batch goes through the network, one after the other, to save "
        "memory; the step is the whole batch's. By default as few as fit the device.",
    )
    activation_checkpointing: bool = Field(
        False,
        description="Keep only what enters each block and compute the rest again on the way back: "
        "far less memory, a third more work.",
    )
    compile: bool = Field(
        False,
        description="Compile the network with torch.compile, which takes up to a minute and pays "
        "in long runs.",
    )

    validation: Validation = Field(
        "every-epoch",
        description="every-epoch: the whole validation split after each epoch, the paper's way; "
        "budget: a fixed part of it, and the whole for those that may be the best, where the whole "
        "would take more than its share.",
    )
    validation_share: float = Field(
        SHARE,
        gt=0,
        le=0.9,
        description="Share of a run's work that validation by budget may take.",
    )

    track: str | None = Field(
        None,
        description="Mirror the curves to tensorboard, mlflow, wandb (offline) or trackio, where "
        "they are installed: names with commas between them.",
    )

    @field_validator("track")
    @classmethod
    def _trackers_are_known(cls, track: str | None) -> str | None:
        names = (track or "").replace(",", " ").split()
        unknown = [name for name in names if name not in TRACKERS]
        if unknown:
            raise ValueError(f"“{unknown[0]}” is none of {', '.join(TRACKERS)}")
        return ",".join(name for name in TRACKERS if name in names) or None

    @model_serializer(mode="wrap")
    def _without_later_options(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Runs from before an option existed keep their JSON and with it their fingerprint.
        written: dict[str, Any] = write(self)
        closed = {"track"} if self.track is None else set()
        for name in ("augmented_copies", "accumulation", "activation_checkpointing", "compile"):
            if written[name] == type(self).model_fields[name].default:
                closed.add(name)
        if self.validation == "every-epoch":
            closed.add("validation")
            if self.validation_share == SHARE:
                closed.add("validation_share")
        return {k: v for k, v in written.items() if k not in closed}

    @model_validator(mode="after")
    def _parts_fit(self) -> TrainSpec:
        if self.accumulation is not None and self.accumulation > self.batch_size:
            raise ValueError(
                f"a batch of {self.batch_size} has no {self.accumulation} parts; give a smaller "
                "accumulation or a larger batch size"
            )
        return self

    @model_validator(mode="after")
    def _copies_differ(self) -> TrainSpec:
        if self.augmented_copies is not None and self.augmentation == "none":
            raise ValueError(
                "without augmentation all augmented copies would be the same; choose an "
                "augmentation or leave out the copies"
            )
        return self

    @model_validator(mode="after")
    def _schedule_fits(self) -> TrainSpec:
        if self.warmup_epochs is not None and self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"{self.warmup_epochs:g} warm-up epochs leave none of {self.epochs} to train; "
                "give fewer warm-up epochs or more epochs"
            )
        return self
