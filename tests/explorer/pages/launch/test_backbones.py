"""The launch form lists every backbone with its terms, its leaks and where its weights are."""

from html import escape

import pytest

from core.models.backbones.registry import BACKBONES
from explorer.pages.launch import backbones


def test_the_list_says_where_the_weights_come_from() -> None:
    listed = backbones.choices()
    assert listed[0][1] == "embedded-mae"
    names = [name for _, name in listed]
    assert set(BACKBONES) < set(names)
    assert len(set(names)) == len(names)
    shown = {name: text for text, name in listed}
    assert shown["mrm"].endswith("a file you fetch")
    assert shown["rad-dino"].endswith("from the hub, or a file")
    assert shown["timm:resnet50.a1_in1k"].endswith("photographs, from timm")


@pytest.mark.parametrize("name", BACKBONES)
def test_a_card_tells_terms_and_leaks(name: str) -> None:
    html = backbones.about(name)
    one = BACKBONES[name]
    for told in (one.licence, one.leaks, one.paper, one.pretraining):
        assert escape(told) in html
    assert (one.url.split()[0] in html) if one.url else "Weights" not in html


def test_of_an_unknown_name_nothing_is_told() -> None:
    assert backbones.about("embeded-mae") == ""
    assert "apache-2.0" in backbones.about("timm:resnet50.a1_in1k")
