"""Label-efficiency curves, and the share of labels that is read off them."""

import math

import pytest
from scipy.stats import t

from core.metrics.intervals import Interval
from core.metrics.label_efficiency import curve, labels_needed, sentence


def test_a_band_over_seeds_is_that_of_the_mean() -> None:
    found = curve("full", {0.1: [0.7, 0.72, 0.74], 0.01: [0.6, 0.62], 1.0: []})
    assert [level.fraction for level in found.levels] == [0.01, 0.1]
    level = found.at(0.1)
    assert level is not None
    half = t.ppf(0.975, 2) * 0.02 / math.sqrt(3)
    assert level.auroc.value == pytest.approx(0.72)
    assert (level.auroc.low, level.auroc.high) == pytest.approx((0.72 - half, 0.72 + half))
    assert (level.seeds, level.over) == (3, "seeds")
    assert found.at(1.0) is None


def test_one_seed_takes_the_band_over_patients_if_there_is_one() -> None:
    found = curve("full", {0.01: [0.6], 0.1: [0.7]}, {0.01: Interval(0.6, 0.55, 0.65)})
    assert [level.over for level in found.levels] == ["patients", "nothing"]
    assert found.levels[0].auroc == Interval(0.6, 0.55, 0.65)
    assert math.isnan(found.levels[1].auroc.low)


def test_the_share_is_read_off_between_two_levels() -> None:
    full = curve("full", {0.01: [0.60, 0.60], 0.1: [0.70, 0.70], 1.0: [0.80, 0.80]})
    half_way = labels_needed(full, Interval(0.65, 0.65, 0.65))
    assert half_way is not None
    assert half_way.fraction.value == pytest.approx(10**-1.5)
    exact = labels_needed(full, Interval(0.70, 0.65, 0.75))
    assert exact is not None
    assert exact.fraction.value == pytest.approx(0.1)
    assert exact.fraction.low == pytest.approx(10**-1.5)
    assert exact.fraction.high == pytest.approx(10**-0.5)
    assert "needs 10% of the labels" in sentence(exact, "full fine-tuning", "LoRA", 0.01)
    assert "LoRA with 1% (AUROC 0.700)" in sentence(exact, "full fine-tuning", "LoRA", 0.01)


def test_what_lies_outside_of_what_was_measured_is_said() -> None:
    full = curve("full", {0.01: [0.60], 0.1: [0.70]})
    below = labels_needed(full, Interval(0.5, math.nan, math.nan))
    above = labels_needed(full, Interval(0.9, math.nan, math.nan))
    assert below is not None
    assert above is not None
    assert below.fraction.value == 0.01
    assert math.isinf(above.fraction.value)
    assert "or fewer" in sentence(below, "full fine-tuning", "LoRA", 0.01)
    assert "even with all labels" in sentence(above, "full fine-tuning", "LoRA", 0.01)
    assert "without a band" in sentence(above, "full fine-tuning", "LoRA", 0.01)
    assert labels_needed(curve("full", {0.1: [0.7]}), Interval(0.6, 0.5, 0.7)) is None


def test_wide_bands_allow_more() -> None:
    full = curve("full", {0.01: [0.55, 0.65], 0.1: [0.65, 0.75]})
    found = labels_needed(full, Interval(0.65, 0.6, 0.7))
    assert found is not None
    assert found.fraction.low == 0.01
    assert math.isinf(found.fraction.high)
    assert "1% or fewer to more than all" in sentence(found, "full fine-tuning", "LoRA", 0.01)


def test_no_band_leaves_the_scale() -> None:
    (level,) = curve("full", {0.1: [0.6, 0.95]}).levels
    assert (level.auroc.low, level.auroc.high) == (0.0, 1.0)
