"""Models that have learnt nothing, and phantoms small enough for a test."""

from collections.abc import Callable

import pytest
import timm
import torch

from core.classifier.trained import Trained
from core.config.run import RunSpec
from core.data.phantoms.dataset import Phantom
from core.data.transforms import EvalTransform
from core.models.backbones.registry import backbone_card

SIDE = 32


@pytest.fixture(scope="session")
def phantoms() -> Phantom:
    """Sixty test studies of 64 px; tests must not change them."""
    return Phantom(train=4, val=4, test=60, size=64)


@pytest.fixture
def untrained(phantoms: Phantom) -> Callable[..., Trained]:
    """Make the model of a run that has learnt nothing, by the seed of its weights."""

    def make(seed: int = 0, name: str = "test_vit", **settings: object) -> Trained:
        torch.manual_seed(seed)
        sized = {"img_size": SIDE} if "vit" in name else {}
        model = timm.create_model(name, num_classes=14, **sized, **settings).eval()
        transform = EvalTransform(SIDE, 0.5, 0.25, 3)
        return Trained(
            model,
            backbone_card(f"timm:{name}"),
            RunSpec().resolved(),
            phantoms.findings,
            transform,
            SIDE,
        )

    return make
