"""Groups of studies: who is in them, what is averaged, and the gap with its interval."""

import math
from dataclasses import replace

import numpy as np
import pytest

from core.evaluation.predictions import Predictions
from core.evaluation.subgroups import all_subgroups, subgroups
from core.metrics.auroc import per_finding
from core.metrics.patient_intervals import auroc_interval


def predictions(studies: int = 600, penalty: float = 0.0) -> Predictions:
    """Studies of which those of men are harder by ``penalty``."""
    generator = np.random.default_rng(0)
    patients = generator.integers(0, studies // 2, studies)
    sex = np.where(patients % 2 == 0, "F", "M")
    labels = (generator.random((studies, 3)) < 0.3).astype(np.float32)
    skill = np.where(sex == "M", 2.0 - penalty, 2.0)[:, None]
    logits = skill * labels + generator.normal(size=labels.shape)
    return Predictions(
        np.array([f"s{i}" for i in range(studies)]),
        np.array([f"P{i:04d}" for i in patients]),
        ("Edema", "Mass", "Hernia"),
        labels,
        (1 / (1 + np.exp(-logits))).astype(np.float32),
        sex,
        generator.integers(20, 95, studies).astype(np.float32),
        np.where(generator.random(studies) < 0.3, "AP", ""),
    )


def test_a_gap_that_is_there_is_found_with_its_direction() -> None:
    found = subgroups(predictions(penalty=1.5), "sex")
    assert found is not None
    assert [one.name for one in found.groups] == ["female", "male"]
    assert found.between == ("female", "male")
    assert found.gap.low > 0.05
    assert found.gap.low < found.gap.value < found.gap.high
    for one in found.groups:
        assert one.auroc.low < one.auroc.value < one.auroc.high
    female, male = found.groups
    assert found.gap.value == pytest.approx(female.auroc.value - male.auroc.value)
    assert female.studies + male.studies == 600


def test_no_gap_is_not_invented() -> None:
    found = subgroups(predictions(), "sex")
    assert found is not None
    assert found.gap.low < 0.02


def test_a_group_is_scored_as_if_it_were_alone() -> None:
    one = predictions()
    found = subgroups(one, "sex")
    assert found is not None
    men = one.sex == "M"
    alone = auroc_interval(one.labels[men], one.scores[men], one.patients[men])
    assert found.groups[1].auroc == alone


def test_a_finding_that_one_group_lacks_is_averaged_in_none() -> None:
    one = predictions()
    assert one.sex is not None
    labels = one.labels.copy()
    labels[one.sex == "M", 2] = 0
    found = subgroups(replace(one, labels=labels), "sex")
    assert found is not None
    assert found.findings == ("Edema", "Mass")
    women = one.sex == "F"
    each = per_finding(labels[women], one.scores[women])
    assert found.groups[0].auroc.value == pytest.approx(each[:2].mean())


def test_ages_come_in_bands_and_small_groups_are_named_but_not_scored() -> None:
    one = predictions()
    age = np.full(600, 50, np.float32)
    age[:200], age[200:210], age[210:250] = 25, 90, math.nan
    found = subgroups(replace(one, age=age), "age")
    assert found is not None
    assert [(g.name, g.studies) for g in found.groups] == [
        ("under 40", 200),
        ("40 to 59", 350),
        ("80 and over", 10),
    ]
    assert found.unknown == 40
    assert math.isnan(found.groups[2].auroc.value)
    assert not math.isnan(found.gap.value)
    assert set(found.between) == {"under 40", "40 to 59"}


def test_what_is_not_known_is_left_out() -> None:
    one = replace(predictions(), sex=None, age=None)
    assert all_subgroups(one) == ()  # one view alone is named
    assert subgroups(replace(one, age=np.full(600, np.nan, np.float32)), "age") is None


def test_more_groups_make_the_gap_less_sure() -> None:
    one = predictions()
    age = np.where(one.sex == "F", 30, 50).astype(np.float32)
    two = subgroups(replace(one, age=age), "age")
    age[:100], age[100:200] = 70, 85
    four = subgroups(replace(one, age=age), "age")
    assert two is not None
    assert four is not None
    assert len(four.groups) == 4
    assert four.gap.high - four.gap.low > two.gap.high - two.gap.low
