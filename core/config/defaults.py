"""Default values of a run's settings: published values, and values chosen in this project."""

from __future__ import annotations

from typing import Any

BASE_RATES: dict[tuple[str, str], float] = {
    ("lora", "adamw"): 3e-3,
    ("full", "adamw"): 5e-4,
    ("linear", "adamw"): 4e-3,
    ("lora", "sgd"): 0.2,
    ("full", "sgd"): 0.04,
    ("linear", "sgd"): 0.4,
}
"""Base learning rates for a batch of 256, by method and optimizer; ``lr = base × batch / 256``.

The rates of ``lora`` and ``full`` are published (AdamW: CXR-MAE; SGD: MRM, NIH 1%, given there for
batches of 64). The paper has no linear probe; its rates were chosen in this project.
"""

EMBEDDED = "embedded-"
"""Prefix of the names of the shipped backbones."""

EMBEDDED_RATES = {"lora": 0.032, "full": 0.016, "linear": 0.16}
"""Base learning rates of the embedded backbones with AdamW, for a batch of 256 as above.

There are no published values. These were chosen on validation studies of ``phantom-14`` with 10% of
the labels, where a few hundred steps with the published rates learn almost nothing.
"""

DROPOUT = 0.1
"""Published dropout on an adapter's input. The embedded backbones use none: without it a training
step on a CPU is a quarter faster (67 instead of 54 images per second on two cores)."""


RATES_LIKE = {"last-k": "full", "attentive": "linear"}
"""Methods whose base learning rate is that of another method than LoRA."""

FROZEN_BACKBONE = frozenset({"linear", "attentive", "logistic", "knn"})
"""Methods that train or fit only the head; their backbone is always in evaluation mode."""

CLOSED_FORM = frozenset({"logistic", "knn", "pixels"})
"""Methods that are fitted once, without epochs and without an optimizer."""

WITHOUT_BACKBONE = frozenset({"pixels"})
"""Methods that use no backbone: their runs are the same for every backbone."""

RATE_FACTORS = {"lora+": 0.25}
"""Factor between a method's base learning rate and LoRA's. LoRA+ trains A with this rate and B with
sixteen times this rate, so that the geometric mean of the two is LoRA's own rate."""

METHOD_DEFAULTS: dict[str, dict[str, Any]] = {
    "lora+": {"rate_ratio": 16.0},
    "adalora": {"orthogonality": 0.5},
    "vblora": {"vectors": 90},
    "boft": {"butterflies": 2},
    "fourierft": {"frequencies": 1000, "scaling": 150.0},
    "vpt": {"prompts": 10, "prompt_depth": "deep"},
    "last-k": {"last_blocks": 2},
}
"""Defaults of a method's own settings that do not depend on the model: the values of its paper, and
for FourierFT those of peft."""

RANKED = frozenset(
    {"lora", "rslora", "dora", "pissa", "olora", "lora+", "lora-fa", "adalora", "loha", "lokr",
     "vera", "vblora"}
)  # fmt: skip
"""Methods whose title includes the rank."""

EVALUATION_BATCH = 128
"""Studies per batch when a model predicts."""
