"""The launch form lists every backbone with its licence, known overlaps and weights."""

import pytest
from markupsafe import escape

from core.models.backbones.registry import BACKBONES
from explorer.pages.launch import backbones


def test_the_list_says_where_the_weights_come_from() -> None:
    listed = backbones.choices()
    assert listed[0][1] == "embedded-mae"
    names = [name for _, name in listed]
    assert set(BACKBONES) < set(names)
    assert len(set(names)) == len(names)
    shown = {name: text for text, name in listed}
    assert shown["mrm"].endswith("local file")
    assert shown["rad-dino"].endswith("hub or local file")
    assert shown["timm:resnet50.a1_in1k"].endswith("photographs, from timm")


@pytest.mark.parametrize("name", BACKBONES)
def test_a_card_shows_licence_and_overlaps(name: str) -> None:
    html = backbones.card(name)
    backbone = BACKBONES[name]
    for text in (backbone.licence, backbone.leaks, backbone.paper, backbone.pretraining):
        assert escape(text) in html
    assert (backbone.url.split()[0] in html) if backbone.url else "Weights" not in html


def test_the_card_of_an_unknown_name_is_empty() -> None:
    assert backbones.card("embeded-mae") == ""
    assert "apache-2.0" in backbones.card("timm:resnet50.a1_in1k")
