"""The explorer's shell in a real browser: offline, its theme, its address, its live tables."""

import csv
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.config.run import RunSpec
from core.runs.run import RunState
from core.runs.store import Store, open_store
from core.workspace import Workspace, open_workspace
from explorer import app
from explorer.server import change_events
from explorer.server.store_version import StoreVersion
from tests.support.served import polls, settle

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Store, Workspace]]:
    """The explorer on a workspace with a completed run; nothing starts queued runs."""
    workspace = open_workspace(tmp_path_factory.mktemp("shell"))
    blocks = app.build(workspace)
    store = open_store(workspace, create=False)
    done = store.create(RunSpec(), name="finished")
    advance(store, done.id, epochs=4)
    scores = {"auroc": 0.81, "per_finding": {"Edema": 0.83, "Hernia": None}, "studies": 50}
    store.transition(done.id, RunState.COMPLETED, scores={"test": scores}, best_auroc=0.8)
    beside, port = [change_events.route(StoreVersion(store))], app.free_port("127.0.0.1", 7960)
    url = app.show(blocks, host="127.0.0.1", port=port, routes=beside)
    yield url, store, workspace
    blocks.close(verbose=False)


def advance(store: Store, run_id: str, epochs: int) -> None:
    """Take a queued run through its first epochs."""
    store.transition(run_id, RunState.STARTING)
    store.transition(run_id, RunState.RUNNING)
    for epoch in range(1, epochs + 1):
        store.log_metrics(
            run_id,
            [
                ("train/loss", 1 / epoch, epoch, epoch),
                ("val/auroc", 0.6 + epoch / 20, epoch, epoch),
            ],
        )


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """A fresh browser that notes what it asks for and what goes wrong."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.asked, page.faults = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("pageerror", lambda fault: page.faults.append(str(fault)))
    yield page
    assert not page.faults
    context.close()


def open_page(page: Any, url: str) -> None:
    page.goto(url)
    page.wait_for_selector("[role=tabpanel]:visible")


def test_nothing_is_loaded_from_another_host(
    page: Any, served: tuple[str, Store, Workspace]
) -> None:
    url, *_ = served
    for tab in app.PAGES:
        open_page(page, f"{url}?tab={tab}")
        settle(page)
    outside = [one for one in page.asked if not one.startswith((url, "data:", "blob:"))]
    assert not outside


def test_it_is_dark_until_light_is_chosen_and_stays_so(
    page: Any, served: tuple[str, Store, Workspace]
) -> None:
    open_page(page, served[0])
    assert "dark" in page.evaluate("document.body.className")
    page.click("[data-theme-toggle]")
    page.reload()
    page.wait_for_selector(".cxr-top")
    assert "dark" not in page.evaluate("document.body.className")


@pytest.mark.parametrize("width", [1280, 1024, 390])
def test_no_page_scrolls_sideways(
    page: Any, served: tuple[str, Store, Workspace], width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    for tab in ("launch", "runs") if width < 1000 else app.PAGES:
        open_page(page, f"{served[0]}?tab={tab}")
        settle(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab


def test_the_address_keeps_the_run_over_a_refresh(
    page: Any, served: tuple[str, Store, Workspace]
) -> None:
    url, store, _ = served
    store.create(RunSpec(), name="another")
    open_page(page, f"{url}?tab=runs")
    page.click("tr:has-text('finished')")
    page.wait_for_selector("#runs-detail h2:has-text('finished')")
    before = page.url
    assert store.get("finished").id in before
    page.reload()
    page.wait_for_selector("#runs-detail h2:has-text('finished')")
    assert page.url == before
    store.delete(store.get("another").id)


def test_the_page_that_opens_first_leaves_the_address_to_the_one_it_names(
    page: Any, served: tuple[str, Store, Workspace]
) -> None:
    """A slow server reads the address late: the default page must not have written itself in."""
    held: list[Any] = []
    page.route("**/queue/join*", lambda route: held.append(route))
    open_page(page, f"{served[0]}?tab=paper")
    polls(page, 3)  # by then a page that is wrong has written its own name
    assert held
    assert "tab=paper" in page.url
    for route in held:
        route.continue_()
    page.unroute("**/queue/join*")
    page.wait_for_selector("#paper-board .cxr-cells")
    page.click("role=tab[name='Launch']")
    page.wait_for_function("location.search.includes('tab=launch')")


def test_a_page_enters_the_queue_only_after_a_change(
    page: Any, served: tuple[str, Store, Workspace]
) -> None:
    url, store, _ = served
    open_page(page, f"{url}?tab=runs")
    page.wait_for_selector("tr:has-text('finished')")
    assert comes_to_rest(page)
    entered: list[str] = []
    page.on("request", lambda one: "/queue/join" in one.url and entered.append(one.url))
    polls(page, 4)
    assert entered == []
    new = store.create(RunSpec(), name="fresh")
    page.wait_for_selector("tr:has-text('fresh')")
    assert entered
    store.delete(new.id)


def test_a_running_run_is_shown_live_and_keeps_what_the_user_touches(
    page: Any, served: tuple[str, Store, Workspace]
) -> None:
    url, store, _ = served
    run = store.create(RunSpec(), name="live")
    advance(store, run.id, epochs=1)
    open_page(page, f"{url}?run={run.id}")
    page.wait_for_selector("#runs-detail .js-plotly-plot .main-svg")
    page.click("#runs-detail summary")
    page.evaluate("window.before = document.querySelector('#runs-detail .main-svg')")
    store.log_metrics(run.id, [("val/auroc", 0.777, 2, 2)])
    store.update(run.id, best_auroc=0.777, progress=0.4)
    page.wait_for_selector(f"#row-{run.id}:has-text('0.777')")
    page.wait_for_function("document.querySelector('#runs-detail').innerText.includes('40%')")
    assert page.evaluate("document.querySelector('#runs-detail details').open")
    assert page.evaluate("document.querySelector('#runs-detail .main-svg') === window.before")
    assert comes_to_rest(page)
    entered: list[str] = []
    page.on("request", lambda one: "/queue/join" in one.url and entered.append(one.post_data))
    store.update(run.id, progress=0.41)
    page.wait_for_function("document.querySelector('#runs-detail').innerText.includes('41%')")
    polls(page)
    assert len(entered) == 1, "the browser computes on the run's cores: one handler, of this page"
    store.transition(run.id, RunState.COMPLETED)
    store.delete(run.id)


def test_a_chart_keeps_zoom_and_choices_and_saves_its_values(
    page: Any, served: tuple[str, Store, Workspace]
) -> None:
    url, store, _ = served
    plot = "document.querySelector('#runs-detail .js-plotly-plot')"
    run = store.create(RunSpec(), name="charted")
    advance(store, run.id, epochs=0)

    def log(epoch: int) -> None:
        names = ("val/auroc", "val/auroc/Edema", "val/auroc/Mass")
        value = 0.6 + epoch / 100
        store.log_metrics(run.id, [(name, value, float(epoch), 20 * epoch) for name in names])

    for epoch in range(1, 5):
        log(epoch)
    open_page(page, f"{url}?run={run.id}")
    page.wait_for_function(f"{plot}?.data?.length === 3")
    page.locator("#runs-detail .nsewdrag").first.scroll_into_view_if_needed()
    area = page.locator("#runs-detail .nsewdrag").first.bounding_box()
    middle = area["y"] + area["height"] / 2
    page.mouse.move(area["x"] + 50, middle)
    page.mouse.down()
    page.mouse.move(area["x"] + 150, middle, steps=5)
    page.mouse.up()
    page.wait_for_function(f"{plot}.layout.xaxis.range[0] > 0")
    zoomed = page.evaluate(f"{plot}.layout.xaxis.range")
    page.evaluate(f"window.before = {plot}.querySelector('.main-svg')")
    log(5)
    page.wait_for_function(f"{plot}.data[0].x.length === 5")
    assert page.evaluate(f"{plot}.querySelector('.main-svg') === window.before")
    assert page.evaluate(f"{plot}.layout.xaxis.range") == zoomed

    page.select_option("#runs-detail [data-chart=axis]", "images")
    page.wait_for_function(f"{plot}.data[0].x[4] === 5 * 20 * 16")
    page.locator("#runs-detail [data-chart=smoothing]").fill("0.9")
    page.wait_for_function(f"{plot}.data[0].y[4] < 0.64")
    log(6)
    page.wait_for_function(f"{plot}.data[0].x.length === 6")
    assert page.input_value("#runs-detail [data-chart=smoothing]") == "0.9"
    assert page.evaluate(f"{plot}.data[0].y[5] < 0.64")

    page.hover("#runs-detail .js-plotly-plot")
    with page.expect_download() as download:
        page.click("#runs-detail .modebar-btn[data-title='Download values as CSV'] >> nth=0")
    rows = list(csv.DictReader(download.value.path().read_text().splitlines()))
    assert len(rows) == 3 * 6
    assert rows[5] == {"name": "mean", "x": "6", "step": "120", "y": "0.66"}
    store.transition(run.id, RunState.COMPLETED)
    store.delete(run.id)


def test_the_keyboard_reaches_and_opens_a_run(
    page: Any, served: tuple[str, Store, Workspace]
) -> None:
    open_page(page, f"{served[0]}?tab=runs")
    row = page.locator("tr:has-text('finished')")
    row.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("location.search.includes('run=')")


def test_a_fault_stands_beside_its_field(page: Any, served: tuple[str, Store, Workspace]) -> None:
    open_page(page, served[0])
    page.locator("#f-adapter-rank input").fill("0")
    page.wait_for_selector("#f-adapter-rank .cxr-fault")
    page.locator("#f-adapter-rank input").fill("8")
    page.wait_for_selector("#f-adapter-rank .cxr-fault", state="detached")


def test_new_from_this_run_fills_the_form(
    page: Any, served: tuple[str, Store, Workspace], tmp_path: Path
) -> None:
    url, store, _ = served
    spec = RunSpec.of(**{"adapter.method": "full", "train.lr": 0.0123, "data.label_fraction": 0.07})
    run = store.create(spec, name="to repeat")
    open_page(page, f"{url}?run={run.id}")
    page.click("#runs-detail [data-act=new]")
    page.wait_for_selector("#launch-command:has-text('--label-fraction 0.07')")
    assert page.locator("#f-percent").locator("input, textarea").input_value() == "7"
    assert not page.locator("#f-adapter-rank").is_visible()
    store.delete(run.id)


def test_what_is_left_open_stays_open_when_it_comes_to_sight(
    page: Any, served: tuple[str, Store, Workspace]
) -> None:
    open_page(page, served[0])
    plain = page.inner_text("#launch-command")
    page.get_by_text("Advanced: empty fields").click()
    rate = page.locator("#f-train-lr").locator("input, textarea")
    assert (rate.input_value(), rate.get_attribute("placeholder")) == ("", "0.002")
    rate.fill("fast")
    page.wait_for_selector("#f-train-lr .cxr-fault")
    rate.fill("0.003")
    page.wait_for_selector("#launch-command:has-text('--lr 0.003')")
    rate.fill("")
    page.wait_for_function("text => document.querySelector('#launch-command').innerText === text",
                           arg=plain)  # fmt: skip

    page.locator("#f-data-label-fraction").get_by_text("other", exact=True).click()
    percent = page.locator("#f-percent").locator("input, textarea")
    percent.wait_for(state="visible")
    assert percent.input_value() == ""
    percent.fill("33.3")
    page.wait_for_selector("#launch-command:has-text('--label-fraction 0.333')")


def test_a_method_is_chosen_from_the_table_and_shows_its_own_settings(
    page: Any, served: tuple[str, Store, Workspace]
) -> None:
    open_page(page, served[0])
    page.click("#all-methods summary")
    page.locator("#all-methods tr[data-method=adalora] td").first.click()
    page.wait_for_selector("#launch-command:has-text('--method adalora')")
    own = page.locator("#f-adapter-initial-rank").locator("input, textarea")
    assert own.get_attribute("placeholder") == "6"
    own.fill("8")
    page.wait_for_selector("#launch-command:has-text('--initial-rank 8')")
    assert not page.locator("#f-adapter-rate-ratio").is_visible()


def test_a_recipe_says_what_it_set_or_which_there_are(
    page: Any, served: tuple[str, Store, Workspace]
) -> None:
    open_page(page, served[0])
    page.locator("#f-recipe").get_by_text("the paper's recipe").click()
    page.wait_for_selector("#recipe-note:has-text('It has: mrm, cxr-mae')")
    page.locator("#f-model-backbone input").click()
    page.get_by_role("option").filter(has_text="MRM ViT-B/16").first.click()
    page.locator("#f-data-name input").click()
    page.get_by_role("option").filter(has_text="NIH").first.click()
    page.locator("#f-data-label-fraction").get_by_text("1%", exact=True).click()
    page.wait_for_selector("#recipe-note:has-text('Set for mrm-nih-1')")
    page.wait_for_function("document.querySelector('#f-train-epochs input').value === '100'")
    page.wait_for_selector("#recipe-note:has-text('Your values')", state="detached")
    assert comes_to_rest(page), "the form keeps asking though nothing is touched"


def comes_to_rest(page: Any, most: int = 15) -> bool:
    """Whether the page enters the queue no more while it asks for the version twice."""
    for _ in range(most):
        before = sum("/queue/join" in url for url in page.asked)
        polls(page)
        if before == sum("/queue/join" in url for url in page.asked):
            return True
    return False


def test_two_browsers_do_not_disturb_each_other(
    chromium: Any, served: tuple[str, Store, Workspace]
) -> None:
    url, store, _ = served
    other = store.create(RunSpec(), name="second")
    pages = [chromium.new_page() for _ in range(2)]
    for page, name in zip(pages, ("finished", "second"), strict=True):
        page.goto(f"{url}?run={store.get(name).id}")
    writer = threading.Thread(
        target=lambda: [store.update(other.id, phase=str(i)) for i in range(5)]
    )
    writer.start()
    for page, name in zip(pages, ("finished", "second"), strict=True):
        page.wait_for_selector(f"#runs-detail h2:has-text('{name}')")
        page.close()
    writer.join()
    store.delete(other.id)
