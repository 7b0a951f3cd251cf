"""Which methods a backbone supports, and what each of them trains."""

from __future__ import annotations

import pytest

from core.models.backbones.registry import backbone_card
from core.models.tuning.applicability import defaults, offers
from core.models.tuning.registry import TUNING_METHODS


@pytest.mark.slow
def test_each_method_has_a_count_or_a_reason_why_it_does_not_fit() -> None:
    by_method = {
        offer.method.name: offer for offer in offers(backbone_card("timm:densenet121"), 3, 64)
    }
    assert list(by_method) == list(TUNING_METHODS)
    for offer in by_method.values():
        assert (offer.count is None) == bool(offer.why)
    assert by_method["lora"].targets == ("all",)
    assert by_method["lora"].spec.targets == "all"
    assert "it adapts linear layers, and this layer is a Conv2d" in by_method["pissa"].why
    assert "added to the patch tokens" in by_method["vpt"].why


def test_a_transformer_supports_all_methods() -> None:
    on_vit = offers(backbone_card("embedded-mae"), 14)
    assert all(offer.count for offer in on_vit)
    counts = {offer.method.name: offer.count.trainable for offer in on_vit if offer.count}
    assert counts["lora"] == 24 * 4 * 2 * 192 + 3086
    assert counts["lora-fa"] == 24 * 4 * 192 + 3086
    assert counts["vpt"] == 12 * 10 * 192 + 3086
    assert (counts["logistic"], counts["knn"]) == (14 * 193, 0)  # without fc_norm; none trains
    assert counts["attentive"] == 14 * (2 * 192 + 1) + 2 * 192
    assert counts["pixels"] == 14 * (32 * 32 + 1) + 2 * 14
    trained = [name for name in counts if not TUNING_METHODS[name].closed_form]
    assert min(trained, key=lambda name: counts[name]) == "linear"


def test_settings_have_defaults() -> None:
    assert defaults(TUNING_METHODS["adalora"])["initial_rank"] == 6
    assert defaults(TUNING_METHODS["vpt"]) == {
        "prompts": 10, "prompt_depth": "deep", "head": "linear",
    }  # fmt: skip
    assert "largest" in defaults(TUNING_METHODS["oft"])["block_size"]
