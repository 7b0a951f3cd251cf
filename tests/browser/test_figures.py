"""Charts of a tuning and of test scores are drawn in a real browser, in both themes."""

from collections.abc import Iterator
from typing import Any

import pytest

from core.config.run import RunSpec
from core.experiments.tune.tune import Tuning
from core.runs.store import open_store
from core.workspace import open_workspace
from explorer import app
from explorer.server import change_events
from explorer.server.store_version import StoreVersion
from tests.support.completed import completed
from tests.support.served import settle
from tests.support.tuned_run import plan
from tests.support.tuned_run import served as runs_executed

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, list[str]]]:
    """The explorer on a tuning; its address, a scored run, and the final runs of the tuning."""
    workspace = open_workspace(tmp_path_factory.mktemp("figures"))
    store = open_store(workspace, create=True)
    tuning = Tuning(plan(trials=3, final_seeds=(1,)), store, workspace)
    with runs_executed(store, workspace):
        tuning.run()
    finals = [run.id for each in tuning.methods for run in tuning.final_runs(each.study).values()]
    run = completed(store, workspace, RunSpec.of(**{"data.label_fraction": 1.0}), skill=2.0)
    blocks = app.build(workspace)
    routes, port = [change_events.route(StoreVersion(store))], app.free_port("127.0.0.1", 7990)
    url = app.show(blocks, host="127.0.0.1", port=port, routes=routes)
    yield url, run.id, finals
    blocks.close(verbose=False)


@pytest.fixture(params=["dark", "light"])
def page(chromium: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A page in one theme that notes faults and messages of the console."""
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.add_init_script(f"localStorage.setItem('cxr-theme', '{request.param}')")
    faults: list[str] = []
    page.on("pageerror", lambda fault: faults.append(str(fault)))
    page.on("console", lambda text: faults.append(text.text) if text.type == "error" else None)
    yield page
    page.close()
    assert not faults


def names(page: Any, region: str) -> list[str]:
    """Names of the traces that Plotly has drawn in a region."""
    drawn: list[str] = page.evaluate(
        """(region) => [...document.querySelectorAll(`${region} .js-plotly-plot`)].flatMap(
          (plot) => plot.calcdata.map((points) => points[0].trace.name))""",
        region,
    )
    return drawn


def test_a_tuning_is_drawn_below_the_verdict(page: Any, served: tuple[str, str, list[str]]) -> None:
    url, _, finals = served
    page.goto(f"{url}?compare={','.join(finals)}")
    page.wait_for_selector("#compare-body .cxr-rates .scatterlayer path.point", state="attached")
    settle(page)
    assert names(page, ".cxr-rates") == ["LoRA", "Full fine-tuning", "default settings", "chosen"]
    assert page.locator(".cxr-rates .scatterlayer path.point").count() == 2 * 3 + 2 + 2
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280


def test_a_decision_curve_is_drawn_at_a_stated_prevalence(
    page: Any, served: tuple[str, str, list[str]]
) -> None:
    url, run, _ = served
    page.goto(f"{url}?run={run}")
    page.wait_for_selector("#runs-sheet .js-plotly-plot .scatterlayer path", state="attached")
    settle(page)
    assert names(page, "#runs-sheet")[-3:] == ["model", "call all", "call none"]
    field = page.locator("#runs-prevalence").locator("input, textarea")
    field.fill("2")
    field.press("Enter")
    page.wait_for_selector("#runs-sheet:has-text('PPV and NPV at a prevalence of 2%')")
    field.fill("200")
    field.blur()
    page.wait_for_selector("#runs-prevalence .cxr-beside:has-text('not a possible prevalence')")
    page.click("#runs-curve-finding input")
    page.get_by_role("option", name="Mass").click()
    page.wait_for_selector("#runs-sheet figcaption:has-text('Decision curve, Mass')")
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
