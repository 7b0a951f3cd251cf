"""The function that builds a run's classifier, and the transform of evaluation."""

from typing import Any

import pytest
import torch

from core.classifier import build, weights
from core.config.run import RunSpec
from core.data.transforms import crop_geometry
from core.models.backbones.registry import backbone_card


def test_the_centre_crop_keeps_its_share_at_any_input_size() -> None:
    card = backbone_card("cxr-mae")
    seen = []
    for size in (112, 224, 448):
        transform = build.evaluation_transform(card, size)
        geometry = crop_geometry(1024, 1024, size, transform.resize)
        seen.append(size / geometry.scale)
    assert seen == pytest.approx([1024 * 224 / 256] * 3)
    assert build.evaluation_transform(backbone_card("mrm"), 128).resize == 128


@pytest.mark.slow
@pytest.mark.parametrize("adapted", [True, False])
def test_random_weights_are_drawn_from_the_seed_and_not_changed_by_drop_path(adapted: bool) -> None:
    def digest(seed: int, **changes: Any) -> str:
        settings = {"model.backbone": "timm:test_vit", "model.pretrained": False}
        spec = RunSpec.of(**settings, **{"train.seed": seed})
        built = build.build_classifier(spec, 2, adapted=adapted, **changes)
        assert built.loaded.sha256 is None
        return weights.digest(built.model.state_dict())

    assert digest(3) == digest(3) == digest(3, drop_path=0.3)
    assert digest(4) != digest(3)


def test_a_model_on_the_meta_device_has_the_same_shapes_and_sets_no_seed() -> None:
    spec = RunSpec.of(**{"model.backbone": "timm:test_vit", "adapter.method": "lora"})
    torch.manual_seed(123)
    meta = build.build_classifier(spec, 2, weights=False, meta=True).model
    assert torch.initial_seed() == 123
    real = build.build_classifier(spec, 2, weights=False).model
    assert all(tensor.is_meta for tensor in meta.state_dict().values())
    shapes = {name: tensor.shape for name, tensor in real.state_dict().items()}
    assert {name: tensor.shape for name, tensor in meta.state_dict().items()} == shapes
    trains = {name for name, one in real.named_parameters() if one.requires_grad}
    assert {name for name, one in meta.named_parameters() if one.requires_grad} == trains
