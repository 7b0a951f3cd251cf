"""What each method would do to a backbone, said before anything is trained."""

from __future__ import annotations

from core.models.backbones.registry import backbone_card
from core.models.tuning.applicability import defaults, offers
from core.models.tuning.registry import TUNING_METHODS


def test_each_method_tells_what_trains_or_why_it_does_not_fit() -> None:
    found = {one.method.name: one for one in offers(backbone_card("timm:densenet121"), 3, 64)}
    assert list(found) == list(TUNING_METHODS)
    for one in found.values():
        assert (one.count is None) == bool(one.why)
    assert found["lora"].targets == ("all",)
    assert found["lora"].spec.targets == "all"
    assert "it adapts linear layers, and that is a Conv2d" in found["pissa"].why
    assert "tokens beside the patches" in found["vpt"].why


def test_a_transformer_takes_them_all() -> None:
    found = offers(backbone_card("embedded-mae"), 14)
    assert all(one.count for one in found)
    counts = {one.method.name: one.count.trainable for one in found if one.count}
    assert counts["lora"] == 24 * 4 * 2 * 192 + 3086
    assert counts["lora-fa"] == 24 * 4 * 192 + 3086
    assert counts["vpt"] == 12 * 10 * 192 + 3086
    assert min(counts, key=lambda name: counts[name]) == "linear"


def test_settings_are_told_with_their_defaults() -> None:
    assert defaults(TUNING_METHODS["adalora"])["initial_rank"] == 6
    assert defaults(TUNING_METHODS["vpt"]) == {"prompts": 10, "prompt_depth": "deep"}
    assert "largest" in defaults(TUNING_METHODS["oft"])["block_size"]
