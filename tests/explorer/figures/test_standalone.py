"""Charts outside the explorer: well-formed, with title and alternative text, without scripts."""

import base64
import re
import xml.etree.ElementTree as ET

import pytest

from core.metrics.label_efficiency import curve
from explorer.figures.label_efficiency import efficiency
from explorer.figures.standalone import picture, svg

CHART = efficiency([curve("lora", {0.1: [0.7, 0.8], 1.0: [0.9, 0.92]})], title="A & B")


def test_the_document_is_well_formed_and_keeps_every_mark() -> None:
    root = ET.fromstring(svg(CHART))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "A & B" in texts
    assert "share of the labels" in texts
    assert len(list(root.iter("{http://www.w3.org/2000/svg}polyline"))) == 1
    assert "script" not in svg(CHART)


def test_images_have_alternative_texts_and_are_side_by_side() -> None:
    html = picture(CHART, CHART, scale=0.5)
    assert html.count("<img ") == 2
    assert 'width="180"' in html
    assert "LoRA 0.750 with 10%" in html
    packed = re.findall(r"base64,([^\"]+)", html)
    assert base64.b64decode(packed[0]).decode() == svg(CHART)


def test_html_without_a_drawing_is_an_error() -> None:
    with pytest.raises(ValueError, match="SVG"):
        svg("<p>none</p>")
