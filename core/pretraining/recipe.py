"""How a backbone is pre-trained, and what is told of where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import ConfigurationError


@dataclass(frozen=True)
class PretrainSettings:
    """How a backbone is pre-trained.

    Attributes:
        architecture: Name of a timm ViT without registers and with a class token.
        input_size: Side of the crops in pixels, a multiple of the patch size.
        steps: Steps of the optimizer; the cosine ends there. None: as many as ``minutes`` allow.
        minutes: Time budget, summed over interruptions. Where both are given, whichever is
            further ahead drives the cosine, so that it always ends at zero.
        batch_size: Images a step. After 29,000 images, at the same rate, batches of 64 had come to
            a loss of 0.76 and batches of 128 to one of 0.83.
        lr: Peak learning rate.
        weight_decay: Of AdamW (betas 0.9 and 0.95), on matrices only.
        warmup: Share of the steps (or of the time) with a linearly rising rate.
        masked: Share of the patches that the encoder does not see.
        predicted: Share of all patches that the decoder has to draw, taken from the masked ones.
        decoder_width: Width of the decoder, a multiple of 32.
        decoder_depth: Blocks of the decoder.
        words_masked: Share of a report's words that have to be guessed.
        crop: Smallest and largest area of a crop as a share of the picture. Radiographs are framed
            alike, and a fifth of one (the published lower end) shows one rib, so it is 0.4.
        variance_floor: Added to the variance of a patch's normalised pixels before its target is
            divided by it: two grey levels' worth, so that noise in air is not a target.
        precision: ``fp32``, or ``bf16`` for mixed precision. ``auto`` is bf16 on a GPU that has it
            and on a processor with AMX or AVX-512's bf16, where a step takes 0.57 of the time.
        device: ``auto``, ``cpu`` or ``cuda``.
        seed: Seed of weights, order, crops and masks.
        checkpoint_seconds: Time between checkpoints.
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
    crop: tuple[float, float] = (0.4, 1.0)
    variance_floor: float = 1e-3
    precision: str = "auto"
    device: str = "auto"
    seed: int = 0
    checkpoint_seconds: float = 180.0

    def __post_init__(self) -> None:
        precisions, devices = ("auto", "fp32", "bf16"), ("auto", "cpu", "cuda")
        faults = [
            (self.precision not in precisions, "precision is auto, fp32 or bf16", "precision"),
            (self.device not in devices, "device is auto, cpu or cuda", "device"),
            (self.steps is None and self.minutes is None, "give steps or minutes", "steps"),
            (self.steps is not None and self.steps < 1, "steps must be at least 1", "steps"),
            (self.minutes is not None and self.minutes <= 0, "minutes must be above 0", "minutes"),
            (not 0 < self.masked < 1, "masked must lie between 0 and 1", "masked"),
            (
                not 0 < self.predicted <= self.masked,
                "predicted must be above 0 and at most masked",
                "predicted",
            ),
            (
                not 0 < self.words_masked < 1,
                "words_masked must lie between 0 and 1",
                "words_masked",
            ),
            (not 0 < self.crop[0] <= self.crop[1] <= 1, "crop must rise within (0, 1]", "crop"),
        ]
        for wrong, sentence, field in faults:
            if wrong:
                raise ConfigurationError(f"Pre-training: {sentence}.", field=field)


@dataclass(frozen=True)
class Origin:
    """Where pictures and first weights come from: for the card, nothing is computed from it.

    Attributes:
        data: What the pictures are, in a sentence.
        sets: What is known of each set of pictures.
        start: Name of the weights that training starts from; empty for random ones.
        command: How to make the weights again.
    """

    data: str = ""
    sets: Sequence[Mapping[str, Any]] = ()
    start: str = ""
    command: str = ""
