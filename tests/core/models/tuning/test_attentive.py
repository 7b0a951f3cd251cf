"""The attentive head: its attention, its start, and the networks that it fits."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from core.config.run import AdapterSpec, RunSpec
from core.errors import ConfigurationError
from core.models.backbones.build import network
from core.models.backbones.model_map import map_model
from core.models.backbones.registry import backbone_card
from core.models.tuning import attentive
from core.models.tuning.apply import (
    apply_method,
    count_parameters,
    load_trainable_state,
    trainable_state,
)
from core.models.tuning.attentive import AttentiveHead, attentive_head

SIZES = {
    "timm:test_vit": 32, "timm:eva02_tiny_patch14_224": 56, "timm:convnext_atto": 64,
    "timm:densenet121": 64, "timm:resnet18": 64, "timm:swin_tiny_patch4_window7_224": 224,
}  # fmt: skip


def model_of(name: str, **settings: Any) -> Any:
    torch.manual_seed(0)
    plain = network(backbone_card(name), 3, SIZES[name])
    return apply_method(plain, AdapterSpec(**{"method": "attentive", **settings})).eval()


def pixels(name: str, count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, SIZES[name], SIZES[name], generator=generator)


@pytest.mark.parametrize("name", SIZES)
def test_the_attention_of_each_finding_sums_to_one(name: str) -> None:
    model = model_of(name)
    head = model.get_classifier()
    assert isinstance(head, AttentiveHead)
    nn.init.normal_(head.queries)
    seen: list[torch.Tensor] = []
    head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        logits = model(pixels(name))
        attention = head.attention(seen[0])
        normal = head.norm(seen[0])
    assert logits.shape == (2, 3)
    assert attention.shape == (2, 3, seen[0].shape[1])
    assert (attention > 0).all()
    torch.testing.assert_close(attention.sum(-1), torch.ones(2, 3))
    # The definition: pool the tokens by attention, then one linear output per finding.
    pools = torch.einsum("bfn,bnd->bfd", attention, normal)
    expected = (pools * head.weight).sum(-1) + head.bias
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)


def test_it_starts_with_the_mean_of_the_patch_tokens() -> None:
    model = model_of("timm:test_vit")
    head = model.get_classifier()
    tokens = torch.randn(2, 5, model.num_features)
    torch.testing.assert_close(head.attention(tokens), torch.full((2, 3, 5), 0.2))


def test_only_the_head_trains_and_other_methods_may_have_it_too() -> None:
    frozen, tuned = (
        model_of("timm:test_vit"),
        model_of("timm:test_vit", method="linear", head="attentive"),
    )
    names = [n for n, p in frozen.named_parameters() if p.requires_grad]
    assert names == [n for n, p in tuned.named_parameters() if p.requires_grad]
    assert all(n.startswith("head.") for n in names)
    lora = model_of("timm:test_vit", method="lora", rank=2, head="attentive")
    assert attentive_head(lora) is not None
    assert {n.split(".")[0] for n, p in lora.named_parameters() if p.requires_grad} == {
        "blocks", "head",
    }  # fmt: skip
    nn.init.normal_(lora.head.queries)
    again = model_of("timm:test_vit", method="lora", rank=2, head="attentive")
    load_trainable_state(again, trainable_state(lora))
    with torch.inference_mode():
        assert torch.equal(again(pixels("timm:test_vit")), lora(pixels("timm:test_vit")))
        assert torch.equal(
            copy.deepcopy(lora)(pixels("timm:test_vit")), lora(pixels("timm:test_vit"))
        )


def test_a_network_without_tokens_and_feature_map_is_rejected() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 2)

        def get_classifier(self) -> nn.Module:
            return self.head

    with pytest.raises(ConfigurationError, match="neither tokens nor a feature map") as caught:
        attentive.install(map_model(Flat()))
    assert caught.value.field == "adapter.method"
    assert "linear or logistic" in caught.value.remedy


@pytest.mark.parametrize("method", ["attentive", "logistic", "knn", "pixels"])
def test_methods_with_a_head_of_their_own_have_no_setting_head(method: str) -> None:
    adapter = AdapterSpec(method=method, head="attentive")
    with pytest.raises(ConfigurationError, match="has no setting head") as caught:
        count_parameters(backbone_card("timm:test_vit"), adapter, 2, 32)
    assert caught.value.field == "adapter.head"


def test_a_linear_head_is_left_out_of_the_specification() -> None:
    plain, named = RunSpec(), RunSpec.of(**{"adapter.head": "linear"})
    assert named == plain
    assert named.fingerprint() == plain.fingerprint()
    assert "head" not in named.adapter.model_dump_json()
    attentive_run = RunSpec.of(**{"adapter.head": "attentive"})
    assert attentive_run.fingerprint() != plain.fingerprint()
    assert RunSpec.from_json(attentive_run.to_json()) == attentive_run
    assert attentive_run.title().startswith("LoRA r 4, attentive head · ")
