"""The decision curve of a finding as a chart."""

import numpy as np
import pytest

from core.evaluation import evaluate
from explorer.figures.palette import METHODS
from explorer.pages.runs.decision_curve import decision_chart
from tests.core.conftest import predict
from tests.support.figures import figures

__all__ = ["predict"]


@pytest.mark.parametrize("prevalence", [None, 0.02])
def test_the_curve_lies_between_calling_all_and_none(predict, prevalence: float | None) -> None:
    finding = evaluate.evaluate_run(predict("a", skill=2.0), prevalence=prevalence).findings[0]
    html = decision_chart(finding, METHODS["lora"])
    (figure,) = figures(html)
    model, every, none = figure["data"]
    assert [trace["name"] for trace in figure["data"]] == ["model", "call all", "call none"]
    assert model["y"] == pytest.approx([p.model for p in finding.net_benefit], abs=1e-5)
    assert every["y"][0] == pytest.approx(finding.net_benefit[0].treat_all, abs=1e-5)
    assert not any(none["y"])
    better = np.array(model["y"]) > np.maximum(every["y"], 0)
    assert 0 < better.sum() < len(better)
    assert f"at {better.sum()} of {len(better)} thresholds" in html
    low, high = figure["layout"]["yaxis"]["range"]
    assert low < 0 < max(model["y"]) < high
