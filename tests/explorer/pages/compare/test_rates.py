"""Charts of tunings on the Compare page."""

from typing import Any

import pytest

from core.config.run import RunSpec
from core.experiments.tune.result import RatePoint, rate_points
from core.experiments.tune.tune import Tuning
from core.runs.store import Store
from core.workspace import Workspace
from explorer.context import Context
from explorer.figures.palette import METHODS
from explorer.pages.compare.page import ComparePage
from explorer.pages.compare.rates import rate_chart, rate_charts
from tests.support.figures import figures, traces
from tests.support.tuned_run import BASE, plan, served

pytestmark = pytest.mark.filterwarnings("ignore:The value passed into gr.Dropdown")


def test_stopped_trials_are_open_and_default_and_choice_are_marked() -> None:
    html = rate_chart(
        "mine",
        {
            "lora": (
                RatePoint(1e-3, 0.70, complete=True, default=True, chosen=False),
                RatePoint(3e-3, 0.55, complete=False, default=False, chosen=False),
                RatePoint(1e-2, 0.80, complete=True, default=False, chosen=True),
            ),
            "full": (RatePoint(1e-4, 0.75, complete=True, default=True, chosen=True),),
        },
    )
    (figure,) = figures(html)
    drawn = {trace["name"]: trace for trace in figure["data"]}
    assert list(drawn) == [
        "LoRA", "LoRA, stopped early", "Full fine-tuning", "default settings", "chosen",
    ]  # fmt: skip
    assert figure["layout"]["xaxis"]["type"] == "log"
    assert (drawn["LoRA"]["x"], drawn["LoRA"]["y"]) == ([1e-3, 1e-2], [0.7, 0.8])
    assert drawn["LoRA"]["marker"]["color"] == METHODS["lora"].colour
    assert drawn["LoRA, stopped early"]["marker"]["symbol"] == f"{METHODS['lora'].marker}-open"
    assert drawn["default settings"]["x"] == [1e-3, 1e-4]
    assert drawn["chosen"]["y"] == [0.8, 0.75]
    assert "LoRA, chosen: learning rate 0.01, validation AUROC 0.800" in html
    assert "LoRA has 0.800 at its chosen rate 0.01" in html
    assert "no values yet" in rate_chart("mine", {"lora": ()})


def test_the_page_shows_the_tuning_of_the_compared_methods(
    store: Store, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.experiments.tune.tune.POLL_SECONDS", 0.02)
    tuning = Tuning(plan(trials=3, final_seeds=(1,)), store, workspace)
    with served(store, workspace):
        tuning.run()
    nothing: Any = None
    page = ComparePage(Context(workspace, store, nothing, nothing, {}, {}))
    ids = [run.id for method in tuning.methods for run in tuning.final_runs(method.study).values()]
    html = page.show(ids, None, "")[2]
    points = rate_points(workspace, tuning.name)
    drawn = traces(html)
    for title, method in (("LoRA", "lora"), ("Full fine-tuning", "full")):
        assert drawn[title]["x"] == [point.rate for point in points[method]]
    assert f"Validation AUROC over learning rate, {tuning.name}" in html
    assert html.index("cxr-verdict") < html.index("cxr-rates") < html.index("cxr-findings")

    alone = "".join(rate_charts(workspace, [BASE]))
    assert "LoRA" in traces(alone)
    assert "Full fine-tuning" not in traces(alone)
    elsewhere = RunSpec.of(**{"data.label_fraction": 1.0})
    assert rate_charts(workspace, [elsewhere]) == []
