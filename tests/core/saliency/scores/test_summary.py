import pandas as pd
import pytest

from core.saliency.scores import summary
from core.saliency.scores.summary import MEAN


def row(run, method, finding, study, energy, hit=0.0, border=0.1):
    return {
        "run": run, "method": method, "finding": finding, "study": study,
        "patient": study.split("-")[0], "split": "test", "probability": 0.5, "area": 0.2,
        "hit": hit, "energy": energy, "iou": 0.0, "best_iou": 0.0, "on border": border,
    }  # fmt: skip


@pytest.fixture
def rows():
    """Two runs and the baseline on three studies with Mass, one of them with Hernia too."""
    studies = [("Mass", "a-1"), ("Mass", "a-2"), ("Mass", "b-1"), ("Hernia", "b-1")]
    of = {("lora", "grad-cam"): (0.4, 0.2, 0.6, 1.0), ("full", "grad-cam"): (0.3, 0.1, 0.2, 0.5),
          ("lora", "centre-gaussian"): (0.2, 0.2, 0.2, 0.2),
          ("full", "centre-gaussian"): (0.2, 0.2, 0.2, 0.2)}  # fmt: skip
    return pd.DataFrame(
        row(run, method, *study, energy)
        for (run, method), energies in of.items()
        for study, energy in zip(studies, energies, strict=True)
    )


def test_scores_are_means_by_finding_and_over_findings(rows):
    found = {(c.run, c.method, c.finding): c for c in summary.cells(rows, draws=200)}
    mass = found["lora", "grad-cam", "Mass"]
    assert (mass.studies, mass.patients) == (3, 2)
    assert mass.area == pytest.approx(0.2)
    assert mass.scores["energy"].value == pytest.approx(0.4)
    # Two patients: both of a (0.3), both of b (0.6), or one of each.
    assert mass.scores["energy"].low == pytest.approx(0.3)
    assert mass.scores["energy"].high == pytest.approx(0.6)
    mean = found["lora", "grad-cam", MEAN]
    assert mean.studies == 4
    assert mean.scores["energy"].value == pytest.approx((0.4 + 1.0) / 2)


def test_differences_are_first_minus_second_on_the_same_studies(rows):
    found = {(c.first, c.second, c.finding): c for c in summary.contrasts(rows, draws=200)}
    gap = found[("lora", "grad-cam"), ("full", "grad-cam"), "Mass"].scores["energy"]
    assert gap.difference.value == pytest.approx((0.1 + 0.1 + 0.4) / 3)
    assert (gap.first, gap.second) == (pytest.approx(0.4), pytest.approx(0.2))
    over = found[("full", "grad-cam"), ("full", "centre-gaussian"), MEAN].scores["energy"]
    assert over.difference.value == pytest.approx((0.0 + 0.3) / 2)
    assert (("lora", "centre-gaussian"), ("full", "centre-gaussian"), "Mass") not in found
    fewer = rows[~((rows["run"] == "full") & (rows["study"] == "b-1"))]
    cut = [c for c in summary.contrasts(fewer, draws=50) if c.second == ("full", "grad-cam")]
    assert [(c.finding, c.studies) for c in cut] == [("Mass", 2)]
    assert cut[0].scores["energy"].difference.value == pytest.approx(0.1)


def test_distractor_shares_are_means_over_the_studies_that_have_them(rows):
    rows["on tubes"] = [0.3, float("nan"), float("nan"), float("nan")] * 4
    found = summary.distractor_shares(rows).loc["grad-cam", "lora"]
    assert found["on border"] == pytest.approx(0.1)
    assert found["on border studies"] == 4
    assert (found["on tubes"], found["on tubes studies"]) == (pytest.approx(0.3), 1)
