"""Small networks of several architectures, on which every tuning method is tested."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.classifier.trained import load_trained
from core.data.datasets.registry import open_dataset
from core.models.backbones.card import BackboneCard
from core.models.tuning.registry import TUNING_METHODS

LINEAR_ONLY = {"pissa", "olora", "vera", "vblora", "fourierft"}
UNSUPPORTED = {
    "vit": set[str](),
    "eva": set[str](),
    "convnext": LINEAR_ONLY | {"vpt"},
    "densenet": LINEAR_ONLY | {"vpt", "ia3"},
}
"""Methods that cannot tune a network: it has convolutions, no tokens, or no MLP."""

NETWORKS: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "vit": ("vit_tiny_patch16_224", {"depth": 2}, 32, "qv"),
    "eva": ("eva02_tiny_patch14_224", {"depth": 2}, 56, "qv"),
    "convnext": ("convnext_atto", {"depths": (1, 1, 1, 1)}, 32, "mlp"),
    "densenet": ("densenet121", {"block_config": (2, 2, 2, 2)}, 32, "all"),
}
"""timm's architecture, arguments that make it shallow, side of the input in pixels, targets."""

SUPPORTED = [
    (network, method)
    for network in NETWORKS
    for method in TUNING_METHODS
    if method not in UNSUPPORTED[network]
]


TRAINED = [pair for pair in SUPPORTED if not TUNING_METHODS[pair[1]].closed_form]
"""Those that train in epochs."""


def cards() -> dict[str, BackboneCard]:
    """Cards of the networks, for ``BACKBONES``."""
    return {
        name: BackboneCard(
            name=name, title=name, architecture=architecture, arguments=arguments, input_size=size,
            mean=0.5, std=0.25, source="timm", licence="", pretraining="", paper="", url="",
        )
        for name, (architecture, arguments, size, _) in NETWORKS.items()
    }  # fmt: skip


def probabilities(run: Path, radiographs: Path) -> NDArray[np.float32]:
    """Probabilities of the test split by a run's saved weights."""
    trained = load_trained(run)
    dataset = open_dataset("folder", radiographs)
    images = [dataset.read(study, trained.side) for study in dataset.ids("test")]
    return trained.probabilities(images)
