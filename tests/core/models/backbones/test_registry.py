"""Cards are complete, and looking them up does not load torch."""

from __future__ import annotations

import pytest

from core.errors import ConfigurationError
from core.models.backbones.registry import BACKBONES, backbone_card
from core.models.backbones.timm_cards import SUGGESTED
from tests.support.programs import output_of


def test_names_and_cards_load_no_torch() -> None:
    code = (
        "import sys; from core.models.backbones.registry import backbone_card, provenance; "
        "from core.models.tuning import apply, registry; backbone_card('mrm'); "
        "provenance('mrm'); registry.tuning_method('lora'); "
        "print([m for m in ('torch', 'timm', 'peft', 'transformers') if m in sys.modules])"
    )
    assert output_of(code) == "[]\n"


@pytest.mark.parametrize("name", BACKBONES)
def test_every_card_is_complete(name: str) -> None:
    card = BACKBONES[name]
    assert card.name == name
    for text in (card.title, card.licence, card.pretraining, card.paper, card.leaks):
        assert text
    assert (card.weights is not None) == (card.source == "embedded")
    assert card.url or card.source == "embedded"
    assert bool(card.hub) == (card.source == "hub")
    assert card.channels in (1, 3)
    for statistic in (card.mean, card.std):
        assert isinstance(statistic, float) or len(statistic) == card.channels


def test_cards_name_known_leaks() -> None:
    for name, card in BACKBONES.items():
        if "NIH ChestX-ray14" in card.pretraining:
            assert "RSNA" in card.leaks, name
            assert "NIH ChestX-ray14" in card.leaks, name
        if card.pretraining.startswith("Supervised"):
            assert "labels of NIH ChestX-ray14, CheXpert and RSNA" in card.leaks, name


def test_torchxrayvision_input_ranges_from_minus_to_plus_1024() -> None:
    for name in ("xrv-densenet121", "xrv-resnet50"):
        card = BACKBONES[name]
        assert isinstance(card.mean, float)
        assert isinstance(card.std, float)
        assert [(grey - card.mean) / card.std for grey in (0, 1)] == [-1024, 1024]
        assert card.channels == 1


def test_the_papers_backbones_are_normalised_as_published() -> None:
    mrm, mae = BACKBONES["mrm"], BACKBONES["cxr-mae"]
    assert (mrm.mean, mrm.std, mrm.input_size) == (0.4978, 0.2449, 224)
    assert (mae.mean, mae.std, mae.input_size) == (0.4785, 0.2834, 224)


def test_a_timm_model_has_a_card() -> None:
    card = backbone_card("timm:vit_base_patch16_224.mae")
    assert card.architecture == "vit_base_patch16_224.mae"
    assert (card.input_size, card.channels) == (224, 3)
    assert card.mean == (0.485, 0.456, 0.406)
    assert card.licence == "cc-by-nc-4.0"
    assert "timm/vit_base_patch16_224.mae" in card.url


@pytest.mark.parametrize(
    ("name", "size", "mean", "licence"),
    [
        ("vit_base_patch14_dinov2.lvd142m", 518, 0.485, "apache-2.0"),
        ("vit_small_patch16_dinov3.lvd1689m", 256, 0.485, "dinov3-license"),
        ("vit_base_patch16_224.augreg_in21k", 224, 0.5, "apache-2.0"),
        ("convnext_tiny.fb_in22k", 224, 0.485, "apache-2.0"),
        ("swin_base_patch4_window7_224.ms_in22k", 224, 0.485, "mit"),
        ("resnet50.a1_in1k", 224, 0.485, "apache-2.0"),
        ("densenet121.ra_in1k", 224, 0.485, "apache-2.0"),
    ],
)
def test_cards_come_from_timms_configuration(
    name: str, size: int, mean: float, licence: str
) -> None:
    card = backbone_card(f"timm:{name}")
    assert (card.input_size, card.licence, card.hub) == (size, licence, f"timm/{name}")
    assert isinstance(card.mean, tuple)
    assert card.mean[0] == mean


def test_the_suggested_models_exist() -> None:
    for name in SUGGESTED.values():
        assert backbone_card(name).hub


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("embeded-mae", "embedded-mae"),
        ("MRM", "mrm"),
        ("timm:vit_tiny_patch16_225", "timm:vit_tiny_patch16_224"),
        ("timm:vit_base_patch16_224.mea", "timm:vit_base_patch16_224.mae"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        backbone_card(name)
    assert f"Did you mean {nearest}?" in str(caught.value)
    assert caught.value.field == "model.backbone"
    assert len(str(caught.value)) < 500
