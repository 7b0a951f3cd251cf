"""Label-efficiency and reliability curves: drawing, values in words, escaping."""

import math
import re

from core.metrics.calibration import reliability as bins_of
from core.metrics.label_efficiency import curve
from explorer.figures.label_efficiency import efficiency, reliability
from explorer.figures.palette import method_style


def test_curves_have_bands_marks_and_words() -> None:
    lora = curve("lora", {0.01: [0.7, 0.72], 0.1: [0.8, 0.81], 1.0: [0.85, 0.86]})
    full = curve("full", {0.01: [0.6], 0.1: [0.75]})
    html = efficiency([lora, full], title="A & B")
    assert html.count("<polyline") == 2
    assert html.count("<polygon") >= 1
    assert "LoRA with 1% of the labels: 0.710" in html
    assert "A &amp; B" in html
    assert "nan" not in html


def test_names_are_at_the_ends_of_their_curves_without_overlap() -> None:
    alike = [curve(name, {0.1: [0.6], 1.0: [0.8]}) for name in ("lora", "full", "linear")]
    html = efficiency(alike, title="Named", named=True)
    places = re.findall(r'y="([\d.]+)" style="fill:(#\w+)">([^<]+)<', html)
    assert [one[2] for one in places] == ["LoRA", "full fine-tuning", "linear probe"]
    assert [one[1] for one in places] == [
        method_style(n).colour for n in ("lora", "full", "linear")
    ]
    heights = [float(one[0]) for one in places]
    gaps = heights[1] - heights[0], heights[2] - heights[1]
    assert min(gaps) > 12.8
    assert "linear probe</text>" not in efficiency(alike, title="Named")


def test_a_single_level_is_drawn() -> None:
    html = efficiency([curve("full", {0.1: [0.75]})], title="One")
    assert "10%" in html


def test_reliability_shows_each_bin_with_its_interval() -> None:
    labels, scores = [0, 0, 1, 0, 1, 1], [0.1, 0.2, 0.3, 0.4, 0.8, 0.9]
    html = reliability(bins_of(labels, scores, 3), method_style("lora"), title="Reliability")
    assert html.count("<title>predicted") == 3
    assert "observed 1.000" in html
    empty = reliability(bins_of([math.nan], [0.5]), method_style("lora"), title="Nothing")
    assert "0 groups" in empty
