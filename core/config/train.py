"""Section ``train`` of a specification: optimizer, schedule, augmentation and device."""

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
Loss = Literal["bce", "focal", "asymmetric"]
ClassWeight = Literal["none", "balanced"]

SHARE = 0.2
"""Default share of a run's work for validation by budget."""

TRACKERS = ("tensorboard", "mlflow", "wandb", "trackio")
"""Experiment trackers that a run's curves can be sent to (see ``core.training.trackers``)."""


LATER = (
    "augmented_copies", "accumulation", "activation_checkpointing", "compile", "loss",
    "class_weight", "crop", "flip", "erase",
)  # fmt: skip
"""Settings that are left out of the JSON where they have their default."""


class TrainSpec(Section):
    """Training settings of a run. ``None`` selects the default of the method and optimizer."""

    epochs: int = Field(6, ge=1, le=10_000, description="Passes over the labelled subset.")
    batch_size: int = Field(16, ge=1, le=4096, description="Images per step.")
    optimizer: Optimizer = Field("adamw", description="AdamW (CXR-MAE) or SGD (MRM).")
    lr: float | None = Field(
        None, gt=0, le=10, description="Peak learning rate; by default base × batch / 256."
    )
    min_lr: float = Field(
        1e-6, ge=0, description="Learning rate at the end of the cosine schedule."
    )
    weight_decay: float | None = Field(
        None, ge=0, le=1, description="Weight decay; by default 0.05 with AdamW and 0 with SGD."
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of SGD.")
    layer_decay: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Layer-wise learning-rate decay; by default 0.65 for full with AdamW, else 1.",
    )
    warmup_epochs: float | None = Field(
        None,
        ge=0,
        description="Epochs of linear warm-up; by default 5, at most a tenth of the epochs.",
    )
    drop_path: float = Field(
        0.1, ge=0, lt=1, description="Rate of stochastic depth in the backbone."
    )
    augmentation: Augmentation | None = Field(
        None,
        description="crop-flip (random resized crop and flip), randaugment (RandAugment in "
        "addition) or none. By default crop-flip; none for linear, so that its features are "
        "computed only once, and for the embedded backbones, whose few steps gain less from crops "
        "than they cost.",
    )
    crop: bool = Field(
        True, description="Crop at random where the augmentation crops; otherwise take the centre."
    )
    flip: bool = Field(
        True,
        description="Mirror half of the images where the augmentation flips. A mirrored chest has "
        "its heart on the right.",
    )
    erase: bool = Field(
        True, description="Erase a random rectangle in a quarter of the images, with randaugment."
    )
    augmented_copies: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="Number of fixed augmented copies of each training image, used in turn by the "
        "epochs, so that a frozen prefix of the network is computed once per copy; by default each "
        "epoch draws new augmentations.",
    )
    loss: Loss = Field(
        "bce",
        description="Training loss: bce (binary cross-entropy), focal (Lin et al. 2017) or "
        "asymmetric (Ridnik et al. 2021). The validation loss is always bce.",
    )
    class_weight: ClassWeight = Field(
        "none",
        description="balanced: weight both classes of each finding equally, by their numbers in "
        "the labelled subset.",
    )
    seed: int = Field(
        0, ge=0, le=2**31 - 1, description="Seed of the labelled subset, head, order and crops."
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="Device: auto, cpu, cuda or cuda:N.",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="Precision; auto selects bf16 where the GPU or CPU supports it."
    )

    accumulation: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="Micro-batches per batch (gradient accumulation), to save memory; the "
        "optimizer step is that of the whole batch. By default as few as fit the device.",
    )
    activation_checkpointing: bool = Field(
        False,
        description="Keep only the block inputs and recompute the other activations in the "
        "backward pass: far less memory, a third more computation.",
    )
    compile: bool = Field(
        False,
        description="Compile the network with torch.compile: takes up to a minute, worthwhile for "
        "long runs.",
    )

    validation: Validation = Field(
        "every-epoch",
        description="every-epoch: score the whole validation split after each epoch, as in the "
        "paper; budget: if that takes more than its share of the work, score a fixed part of the "
        "split after each epoch, and the whole split only for the best epochs.",
    )
    validation_share: float = Field(
        SHARE, gt=0, le=0.9, description="Share of a run's work that validation by budget may use."
    )

    track: str | None = Field(
        None,
        description="Also send the curves to tensorboard, mlflow, wandb (offline) or trackio, "
        "where installed: comma-separated names.",
    )

    @field_validator("track")
    @classmethod
    def _trackers_are_known(cls, track: str | None) -> str | None:
        names = (track or "").replace(",", " ").split()
        unknown = [name for name in names if name not in TRACKERS]
        if unknown:
            raise ValueError(f"“{unknown[0]}” is not one of {', '.join(TRACKERS)}")
        return ",".join(name for name in TRACKERS if name in names) or None

    @model_serializer(mode="wrap")
    def _without_later_options(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # An option that is not set is left out, so that runs stored before the option existed keep
        # their JSON and their fingerprint.
        written: dict[str, Any] = write(self)
        closed = {"track"} if self.track is None else set()
        for name in LATER:
            if written[name] == type(self).model_fields[name].default:
                closed.add(name)
        if self.validation == "every-epoch":
            closed.add("validation")
            if self.validation_share == SHARE:
                closed.add("validation_share")
        return {k: v for k, v in written.items() if k not in closed}

    @model_validator(mode="after")
    def _micro_batches_fit(self) -> TrainSpec:
        if self.accumulation is not None and self.accumulation > self.batch_size:
            raise ValueError(
                f"a batch of {self.batch_size} cannot be divided into {self.accumulation} "
                "micro-batches; give a smaller accumulation or a larger batch size"
            )
        return self

    @model_validator(mode="after")
    def _copies_differ(self) -> TrainSpec:
        plain = not (self.crop or self.flip) and self.augmentation != "randaugment"
        if plain and self.augmentation == "crop-flip":
            raise ValueError(
                "without crop and flip nothing of crop-flip is left; choose the augmentation none"
            )
        if self.augmented_copies is not None and (plain or self.augmentation == "none"):
            raise ValueError(
                "without augmentation all augmented copies are the same; choose an augmentation or "
                "leave out the copies"
            )
        return self

    @model_validator(mode="after")
    def _schedule_fits(self) -> TrainSpec:
        if self.warmup_epochs is not None and self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"{self.warmup_epochs:g} warm-up epochs are too many for {self.epochs} epochs; "
                "give fewer warm-up epochs or more epochs"
            )
        return self


class ResolvedTrainSpec(TrainSpec):
    """Training settings with every default filled in; made by ``RunSpec.resolved``."""

    lr: float
    weight_decay: float
    layer_decay: float
    warmup_epochs: float
    augmentation: Augmentation
