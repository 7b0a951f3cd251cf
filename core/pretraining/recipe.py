"""Settings of a pre-training, and the origin of its data for the weights' card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import ConfigurationError


@dataclass(frozen=True)
class PretrainSettings:
    """Settings of a pre-training.

    Attributes:
        architecture: Name of a timm ViT with a class token and without registers.
        input_size: Side of the crops in pixels, a multiple of the patch size.
        steps: Number of optimizer steps, at which the cosine schedule ends. None: as many as
            ``minutes`` allows.
        minutes: Time budget, summed over interruptions. If both are given, the schedule follows
            whichever has progressed further, so that it always ends at a rate of zero.
        batch_size: Images per step. After 29,000 images, at the same learning rate, batches of 64
            reached a loss of 0.76 and batches of 128 a loss of 0.83.
        lr: Peak learning rate.
        weight_decay: Weight decay of AdamW (betas 0.9 and 0.95), on matrices only.
        warmup: Share of the steps (or of the time) in which the learning rate rises linearly.
        masked: Share of the patches that are masked for the encoder.
        predicted: Share of all patches that the decoder predicts, a part of the masked patches.
        decoder_width: Width of the decoder, a multiple of 32.
        decoder_depth: Number of blocks of the decoder.
        words_masked: Share of a report's words that are masked and predicted.
        dense_weight: Weight of the loss of the dense targets, where there are any.
        crop: Smallest and largest area of a crop as a share of the image. The published lower end
            is 0.2, but a fifth of a radiograph shows little more than one rib, so it is 0.4.
        variance_floor: Added to the variance of a target patch before dividing by its square root:
            about two grey levels, so that noise in air is not a target.
        precision: ``fp32``, or ``bf16`` for mixed precision. ``auto`` selects bf16 on a GPU that
            supports it and on a CPU with AMX or AVX-512 bf16, where a step takes 0.57 of the time.
        device: ``auto``, ``cpu`` or ``cuda``.
        seed: Seed of weights, order, crops and masks.
        checkpoint_seconds: Seconds between checkpoints.
    """

    architecture: str = "vit_tiny_patch16_224"
    input_size: int = 128
    steps: int | None = 8_000
    minutes: float | None = None
    batch_size: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.05
    masked: float = 0.75
    predicted: float = 0.375
    decoder_width: int = 128
    decoder_depth: int = 2
    words_masked: float = 0.5
    dense_weight: float = 1.0
    crop: tuple[float, float] = (0.4, 1.0)
    variance_floor: float = 1e-3
    precision: str = "auto"
    device: str = "auto"
    seed: int = 0
    checkpoint_seconds: float = 180.0

    def __post_init__(self) -> None:
        precisions, devices = ("auto", "fp32", "bf16"), ("auto", "cpu", "cuda")
        checks = [
            (self.precision not in precisions, "precision must be auto, fp32 or bf16", "precision"),
            (self.device not in devices, "device must be auto, cpu or cuda", "device"),
            (self.steps is None and self.minutes is None, "give steps or minutes", "steps"),
            (self.steps is not None and self.steps < 1, "steps must be at least 1", "steps"),
            (self.minutes is not None and self.minutes <= 0, "minutes must be above 0", "minutes"),
            (not 0 < self.masked < 1, "masked must be between 0 and 1", "masked"),
            (
                not 0 < self.predicted <= self.masked,
                "predicted must be above 0 and at most the value of masked",
                "predicted",
            ),
            (not 0 < self.words_masked < 1, "words_masked must be between 0 and 1", "words_masked"),
            (
                not 0 < self.crop[0] <= self.crop[1] <= 1,
                "the two values of crop must increase, within (0, 1]",
                "crop",
            ),
        ]
        for failed, sentence, field in checks:
            if failed:
                raise ConfigurationError(f"Pre-training: {sentence}.", field=field)


@dataclass(frozen=True)
class Origin:
    """Origin of the images and the initial weights, for the card only.

    Attributes:
        data: Description of the images.
        sets: One record per data set.
        start: Name of the initial weights; empty for random weights.
        command: Command that repeats the pre-training.
    """

    data: str = ""
    sets: Sequence[Mapping[str, Any]] = ()
    start: str = ""
    command: str = ""
