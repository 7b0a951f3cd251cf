"""Search spaces of the tuning methods: the values of their settings that ``tune`` tries.

A range of learning rates is relative to the default rate of the method on the backbone, so that the
embedded and the published backbones, AdamW and SGD and every batch size have a suitable range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

RATE = "lr"
"""Name of the learning rate; all names are those of ``RunSpec`` fields without their section."""

ALPHA_OVER_RANK = "alpha_over_rank"
"""Name of the setting that stands for alpha: alpha is this value times the rank."""


@dataclass(frozen=True)
class Search:
    """Values of one setting that ``tune`` tries.

    Attributes:
        low: Lowest value of a range.
        high: Highest value of a range.
        log: Whether the range is sampled on a logarithmic scale.
        choices: The values, if it is not a range.
        relative: Whether the values are factors of the default value.
        source: Where the values come from.
    """

    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[float | int | str, ...] = ()
    relative: bool = False
    source: str = ""


Searches = Mapping[str, Search]

VARIANTS = "Lee et al. 2026 (arXiv 2602.04998)"
"""Nine variants of LoRA score alike at their own best rates, which differ."""
NO_REGRET = "Schulman et al. 2025 (LoRA Without Regret)"
"""The best rate of LoRA is about ten times that of full fine-tuning, fifteen times below 100 steps,
and nearly the same for every rank; all layers are better than attention alone."""
VPT_GRID = "Jia et al. 2022 (arXiv 2203.12119), grid of the authors' code"
"""Full fine-tuning 0.0001 to 0.005; linear probe and prompts 0.05 to 50; weight decay 0 to 0.01."""
STUDY = "Lian et al. 2024 (arXiv 2401.12215), settings of the tasks"
"""Ranks 4 to 32 with alpha 32, chosen per task; weight decay 0 (SGD) or 0.05 (AdamW)."""

_WIDE = "few parameters train, so that the best rate is far above LoRA's"


def _space(low: float, high: float, source: str, **others: Search) -> Searches:
    """A learning rate between two factors of the default, weight decay, and other settings."""
    rate = Search(low, high, log=True, relative=True, source=source)
    return {RATE: rate, **others, "weight_decay": _DECAY}


_DECAY = Search(choices=(0.0, 0.001, 0.01, 0.05), source=f"{VPT_GRID}; {STUDY}")
_RANK = Search(choices=(2, 4, 8, 16, 32), source=STUDY)
_TARGETS = Search(choices=("qv", "attn", "all"), source=NO_REGRET)
_LOW_RANK = {
    ALPHA_OVER_RANK: Search(choices=(1.0, 2.0, 4.0, 8.0), source=f"{STUDY}: alpha / rank 1 to 8"),
    "rank": _RANK,
    "targets": _TARGETS,
}

FULL = _space(
    1 / 10,
    10,
    f"{VPT_GRID}; {NO_REGRET}",
    layer_decay=Search(
        choices=(0.65, 0.75, 1.0),
        source="Bao et al. 2022 (arXiv 2106.08254); He et al. 2022 (arXiv 2111.06377)",
    ),
)
LAST_BLOCKS = _space(
    1 / 10,
    10,
    VPT_GRID,
    last_blocks=Search(choices=(1, 2, 4), source="Jia et al. 2022: partial fine-tuning"),
)
LINEAR = _space(1 / 30, 30, VPT_GRID)
ATTENTIVE = _space(1 / 30, 30, f"{VPT_GRID}: range of the linear probe")
LORA = _space(1 / 10, 20, f"{NO_REGRET}; {VARIANTS}", **_LOW_RANK)
RSLORA = _space(
    1 / 10,
    20,
    VARIANTS,
    rank=Search(choices=(4, 8, 16, 32, 64), source="Kalajdzievski 2023 (arXiv 2312.03732)"),
    targets=_TARGETS,
)
INITIALISED = _space(1 / 50, 20, f"{VARIANTS}: initial matrices change the best rate", **_LOW_RANK)
LORA_PLUS = _space(
    1 / 10,
    20,
    "Hayou et al. 2024 (arXiv 2402.12354)",
    rate_ratio=Search(choices=(4.0, 8.0, 16.0, 32.0), source="Hayou et al. 2024: about 16"),
    **_LOW_RANK,
)
ADALORA = _space(
    1 / 10,
    20,
    "Zhang et al. 2023 (arXiv 2303.10512)",
    orthogonality=Search(choices=(0.1, 0.3, 0.5), source="Zhang et al. 2023"),
    epochs=Search(
        choices=(1.0, 2.0),
        relative=True,
        source="Zhang et al. 2023: the rank budget falls over the steps of the run",
    ),
    **_LOW_RANK,
)
PRODUCT = _space(1 / 10, 20, VARIANTS, **_LOW_RANK)
VERA = _space(
    1 / 10,
    100,
    f"Kopiczko et al. 2024 (arXiv 2310.11454): {_WIDE}",
    rank=Search(choices=(4, 16, 64, 256), source="Kopiczko et al. 2024: high ranks cost little"),
    targets=_TARGETS,
)
VBLORA = _space(
    1 / 10, 100, f"Li et al. 2024 (arXiv 2405.15179): {_WIDE}", rank=_RANK, targets=_TARGETS
)
ROTATION = _space(1 / 10, 20, "Liu et al. 2024 (arXiv 2311.06243)", targets=_TARGETS)
FOURIER = _space(
    1 / 10, 100, f"Gao et al. 2024 (arXiv 2405.03003): {_WIDE}",
    frequencies=Search(choices=(200, 500, 1000), source="Gao et al. 2024"), targets=_TARGETS,
)  # fmt: skip
FEW = _space(1 / 10, 100, f"Ben Zaken et al. 2022 (arXiv 2106.10199): {_WIDE}")
PROMPTS = _space(
    1 / 10,
    100,
    f"{VPT_GRID}: {_WIDE}",
    prompts=Search(choices=(1, 5, 10, 50, 100), source="Jia et al. 2022 (arXiv 2203.12119)"),
)
