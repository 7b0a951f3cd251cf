"""Reports of phantoms: they name exactly what was drawn, where and how marked it is."""

from __future__ import annotations

import re

import numpy as np
import pytest

from core.data.phantoms import report_text
from core.data.phantoms.anatomy import LEFT, RIGHT
from core.data.phantoms.dataset import Phantom
from core.data.phantoms.report_text import GRADES, TERMS, Remark, compose
from core.data.phantoms.scene import MASK_LEVEL


@pytest.fixture(scope="module")
def many() -> Phantom:
    return Phantom("phantom-14", seed=3, train=400, val=1, test=1)


@pytest.fixture(scope="module")
def written(many: Phantom) -> dict[str, str]:
    """The report of each training study."""
    return {one: many.report(one) for one in many.ids("train")}


def read(report: str) -> tuple[set[str], set[str]]:
    """Findings that a report asserts and denies, as a labeller by rules would find them."""
    asserted: set[str] = set()
    denied: set[str] = set()
    for sentence in re.split(r"(?<=\.)\s", report.lower()):
        named = {
            finding
            for finding, terms in TERMS.items()
            if any(re.search(rf"\b{term}\b", sentence) for term in terms)
        }
        (denied if sentence.startswith("no ") else asserted).update(named)
    return asserted, denied


def test_a_report_names_exactly_the_findings(many: Phantom, written: dict[str, str]) -> None:
    for one, report in written.items():
        there = {name for name in many.findings if many.table.loc[one, name]}
        asserted, denied = read(report)
        assert asserted == there
        assert len(denied) >= 2 or len(there) > len(TERMS) - 2
        assert not denied & there


def test_no_word_of_one_finding_is_part_of_another() -> None:
    for finding, terms in TERMS.items():
        for term in terms:
            assert read(f"There is {term}.")[0] == {finding}


def test_the_wording_varies_and_follows_from_the_seed(
    many: Phantom, written: dict[str, str]
) -> None:
    again = Phantom("phantom-14", seed=3, train=400, val=1, test=1)
    for one in list(written)[:40]:
        assert again.report(one) == written[one]
    assert len(set(written.values())) > 0.95 * len(written)
    healthy = [one for one in written if not many.table.loc[one, list(many.findings)].any()]
    assert len({written[one].split(".")[1] for one in healthy}) >= 3
    calls = " ".join(written.values()).lower()
    for terms in TERMS.values():
        assert all(term in calls for term in terms)


def test_the_view_is_that_of_the_study(many: Phantom, written: dict[str, str]) -> None:
    for one in list(written)[:60]:
        view = many.study(one).view
        other = {"PA": "AP", "AP": "PA"}[view]
        assert re.search(rf"\b{view}\b", written[one])
        assert not re.search(rf"\b{other}\b", written[one])


def test_the_side_is_where_the_mask_is(many: Phantom, written: dict[str, str]) -> None:
    calls = 0
    for one, report in written.items():
        sentences = report.lower().split(". ")
        if not many.table.loc[one, "Pneumothorax"]:
            continue
        mask = many.mask(one, "Pneumothorax")
        assert mask is not None
        # The patient's right is on the left of the image.
        columns = np.nonzero(mask)[1]
        side = RIGHT if columns.mean() < mask.shape[1] / 2 else LEFT
        sentence = next(s for s in sentences if "pneumothorax" in s or "air in the pleural" in s)
        assert {RIGHT: "right", LEFT: "left"}[side] in sentence
        assert {RIGHT: "left", LEFT: "right"}[side] not in sentence
        calls += 1
    assert calls > 10
    assert 0 < MASK_LEVEL < 1


@pytest.mark.parametrize(("marked", "grade"), [(0.0, 0), (0.5, 1), (1.0, 2)])
def test_severity_is_said(marked: float, grade: int) -> None:
    said = compose("AP", [Remark("Mass", marked, ("left",), "upper")], np.random.default_rng(0))
    assert any(word in said.lower() for word in GRADES[grade])
    assert not any(w in said.lower() for i in range(3) if i != grade for w in GRADES[i])
    assert "left" in said
    assert "upper" in said


def test_findings_of_the_whole_chest_have_no_side() -> None:
    for finding in report_text.WHOLE:
        remark = Remark(finding, 0.5, ("left", "right"), "lower")
        said = compose("PA", [remark], np.random.default_rng(1)).lower()
        assert "left" not in said
        assert "bilateral" not in said
