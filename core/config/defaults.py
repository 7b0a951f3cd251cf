"""What a run takes where a setting is left open: published values, and those chosen here."""

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

Those of ``lora`` and ``full`` are the published ones (AdamW: CXR-MAE; SGD: MRM, NIH 1%, given there
for batches of 64). The study has no linear probe; its rates were chosen here.
"""

EMBEDDED = "embedded-"
"""What the names of the shipped backbones begin with."""

EMBEDDED_RATES = {"lora": 0.032, "full": 0.016, "linear": 0.16}
"""Base learning rates of the embedded backbones with AdamW, for a batch of 256 as above.

Nothing is published for them. They were chosen on validation studies of ``phantom-14`` at 10% of
the labels, where the published rates had learnt next to nothing within a few hundred steps.
"""

DROPOUT = 0.1
"""Published dropout on an adapter's input. The embedded backbones take none, which makes its steps
a quarter faster on a processor (67 instead of 54 images a second on two cores)."""


RATES_LIKE = {"last-k": "full"}
"""Methods that start from the rate of another one than LoRA."""

RATE_FACTORS = {"lora+": 0.25}
"""What a method's rate is of LoRA's. LoRA+ trains A with it and B with sixteen times as much, so
that the geometric mean of the two is LoRA's own rate."""

METHOD_DEFAULTS: dict[str, dict[str, Any]] = {
    "lora+": {"rate_ratio": 16.0},
    "adalora": {"orthogonality": 0.5},
    "vblora": {"vectors": 90},
    "boft": {"butterflies": 2},
    "fourierft": {"frequencies": 1000, "scaling": 150.0},
    "vpt": {"prompts": 10, "prompt_depth": "deep"},
    "last-k": {"last_blocks": 2},
}
"""What a method takes where one of its own settings is left open and does not depend on the model:
the values of its paper, and of peft for FourierFT."""

RANKED = frozenset(
    {"lora", "rslora", "dora", "pissa", "olora", "lora+", "lora-fa", "adalora", "loha", "lokr",
     "vera", "vblora"}
)  # fmt: skip
"""Methods whose title names the rank."""


EVALUATION_BATCH = 128
