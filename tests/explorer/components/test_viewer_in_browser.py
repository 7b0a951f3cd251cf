"""The viewer's scripts in a browser: drawing, keyboard, pointer and saved files."""

import io
from xml.etree import ElementTree

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from core.data.base import Box
from core.data.images.radiograph import Radiograph
from core.formatting import DISCLAIMER
from explorer.components import viewer
from explorer.components.viewer import View

pytestmark = pytest.mark.browser
SIDE = 64


def example_image():
    """Dark on the patient's right, bright on the left, a white corner at the upper left."""
    image = np.repeat(np.linspace(20, 220, SIDE).astype(np.uint8)[None], SIDE, axis=0)
    image[:8, :8] = 255
    return image


def shown(count):
    heat = np.zeros((SIDE, SIDE), np.float32)
    heat[40:56, 40:56] = 0.5
    image = example_image()
    return viewer.viewer_value(
        [
            View(image, f"run {i}", map=heat * (i + 1), unit="share",
                 boxes=[Box("Mass", 8, 40, 16, 16)], facts=[("Mass", "0.7")])
            for i in range(count)
        ],
        study="a study.png", heading="A study", steps=True,
    )  # fmt: skip


@pytest.fixture
def page(chromium):
    """Two views on a bare page that gives the script what Gradio would."""
    page = chromium.new_page(viewport={"width": 1280, "height": 800})
    faults = []
    page.on("pageerror", lambda fault: faults.append(str(fault)))
    component = viewer.radiographs(elem_id="viewer", label="Test images")
    page.set_content(
        f'<style>#viewer {{ {component.css_template} }}</style><div id="viewer">'
        f"{component.html_template}</div>"
    )
    page.evaluate(
        """([script, value]) => {
            const watched = [], props = { value, region: 'Test images' };
            window.asked = [];
            new Function('element', 'trigger', 'props', 'server', 'upload', 'watch', script)(
                document.getElementById('viewer'), (name) => window.asked.push(name), props,
                {}, null, (_, act) => watched.push(act));
            window.give = (next) => { props.value = next; watched.forEach((act) => act()); };
        }""",
        [component.js_on_load, viewer.viewer_value([])],
    )
    assert "Choose a study" in page.locator("#viewer .rv-empty").inner_text()
    give(page, shown(2))
    page.locator("#viewer canvas").first.hover(position={"x": 5, "y": 5})
    settle(page)
    yield page
    page.close()
    assert faults == []


def give(page, value):
    page.evaluate("(value) => window.give(value)", value)
    page.locator("#viewer canvas").first.wait_for()
    settle(page)


def settle(page):
    page.evaluate("() => new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")


def press(page, key):
    page.keyboard.press(key)
    settle(page)


def at(page, x, y, view=0):
    """RGB drawn at a point of the image, in its pixels."""
    return page.evaluate(
        """([x, y, view, side]) => {
            const canvas = document.querySelectorAll('#viewer canvas')[view];
            const scale = Math.min(canvas.width, canvas.height) / side;
            const left = (canvas.width - side * scale) / 2 + x * scale;
            const top = (canvas.height - side * scale) / 2 + y * scale;
            return [...canvas.getContext('2d').getImageData(left, top, 1, 1).data].slice(0, 3);
        }""",
        [x, y, view, SIDE],
    )


def test_the_image_is_neither_mirrored_nor_changed(page):
    press(page, "o")
    image = example_image()
    for x, y in ((4, 4), (20, 30), (60, 4), (32, 60)):
        expected = int(image[y, x])
        assert at(page, x + 0.5, y + 0.5) == pytest.approx([expected] * 3, abs=3), (x, y)


def test_overlay_truth_invert_and_the_original(page):
    grey = [(v := int(example_image()[48, 48])), v, v]
    tinted = at(page, 48.5, 48.5)
    assert max(tinted) - min(tinted) > 20
    page.keyboard.down(" ")
    settle(page)
    assert at(page, 48.5, 48.5) == pytest.approx(grey, abs=3)
    page.keyboard.up(" ")
    settle(page)
    assert at(page, 48.5, 48.5) == tinted
    press(page, "o")
    assert at(page, 48.5, 48.5) == pytest.approx(grey, abs=3)
    assert page.get_by_role("button", name="Overlay").get_attribute("aria-pressed") == "false"
    press(page, "i")
    assert at(page, 48.5, 48.5) == pytest.approx([255 - v] * 3, abs=3)
    press(page, "i")
    before = at(page, 8, 48)
    press(page, "g")
    assert at(page, 8, 48) != before
    assert page.locator("#viewer .rv-said").inner_text() == "Truth on"


def test_opacity_and_shared_scale(page):
    full = at(page, 48.5, 48.5)
    for _ in range(6):
        press(page, "[")
    assert at(page, 48.5, 48.5) == pytest.approx([int(example_image()[48, 48])] * 3, abs=3)
    for _ in range(6):
        press(page, "]")
    assert at(page, 48.5, 48.5) == full
    assert "0.50" in page.locator("#viewer .rv-bar").first.inner_text()
    press(page, "s")
    bar = page.locator("#viewer .rv-bar").first.inner_text()
    assert "1.0" in bar
    assert "shared" in bar
    assert at(page, 48.5, 48.5) != full
    assert at(page, 48.5, 48.5, view=1) == full


def test_drag_moves_the_window_of_all_views_and_fit_resets(page):
    press(page, "o")
    first = page.locator("#viewer canvas").first
    before = at(page, 32.5, 32.5, view=1)
    box = first.bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 100, box["y"] + 140, steps=4)
    page.mouse.up()
    settle(page)
    assert at(page, 32.5, 32.5)[0] < before[0] - 20
    assert at(page, 32.5, 32.5) == at(page, 32.5, 32.5, view=1)
    press(page, "0")
    assert at(page, 32.5, 32.5, view=1) == before


def test_the_wheel_zooms_to_the_pointer_in_all_views(page):
    press(page, "o")
    for view in (0, 1):
        assert at(page, 4, 4, view)[0] == pytest.approx(255, abs=3)
    box = page.locator("#viewer canvas").first.bounding_box()
    scale = min(box["width"], box["height"]) / SIDE
    left = box["x"] + (box["width"] - SIDE * scale) / 2
    top = box["y"] + (box["height"] - SIDE * scale) / 2
    page.mouse.move(left + 4 * scale, top + 4 * scale)
    page.mouse.wheel(0, -700)
    settle(page)
    for view in (0, 1):
        for spot in ((3, 3), (4, 4), (12, 12)):
            assert at(page, *spot, view)[0] == pytest.approx(255, abs=3)
    assert "zoom 4" in page.locator("#viewer .rv-status").inner_text()


def test_a_new_map_of_the_same_study_keeps_zoom_and_window(page):
    for _ in range(3):
        press(page, "+")
    press(page, "Shift+ArrowRight")
    status = page.locator("#viewer .rv-status").inner_text()
    assert "zoom 195%" in status
    give(page, shown(3))
    assert page.locator("#viewer .rv-status").inner_text() == status
    give(page, shown(1).replace("a study.png", "another.png"))
    assert "zoom 100%" in page.locator("#viewer .rv-status").inner_text()
    assert page.locator("#viewer canvas").count() == 1


def test_a_damaged_value_is_reported_and_the_next_one_is_displayed(page):
    page.evaluate("(value) => window.give(value)", shown(1).replace('"data": "eJ', '"data": "xx'))
    page.locator("#viewer .rv-empty").filter(visible=True).wait_for()
    assert "could not be displayed" in page.locator("#viewer .rv-empty").inner_text()
    give(page, shown(1))
    assert page.locator("#viewer canvas").first.is_visible()


def test_keys_request_the_next_study_but_not_while_typing(page):
    press(page, "n")
    press(page, "p")
    assert page.evaluate("() => window.asked") == ["next_study", "previous_study"]
    page.evaluate("() => document.body.append(document.createElement('input'))")
    field = page.locator("body > input")
    field.focus()
    page.locator("#viewer canvas").first.hover()
    page.keyboard.type("noi")
    assert field.input_value() == "noi"
    assert page.get_by_role("button", name="Invert").get_attribute("aria-pressed") == "false"
    assert len(page.evaluate("() => window.asked")) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*future.no_silent_downcasting")  # gradio 6.31 on pandas 3
def test_gradio_shows_the_value_and_receives_the_keys(chromium):
    with gr.Blocks(analytics_enabled=False) as blocks:
        moved = gr.Textbox(elem_id="moved")
        images = viewer.radiographs(elem_id="viewer", label="Test images")
        blocks.load(lambda: shown(6), None, images)
        images.next_study(lambda: "next", None, moved)
    _, url, _ = blocks.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    page = chromium.new_page(viewport={"width": 1280, "height": 800})
    try:
        page.goto(url)
        page.locator("#viewer canvas").nth(5).wait_for()
        page.locator("#viewer .rv").focus()
        settle(page)
        tinted = at(page, 48.5, 48.5, view=5)
        assert max(tinted) - min(tinted) > 20
        page.keyboard.press("n")
        page.wait_for_function("() => document.querySelector('#moved :is(textarea, input)').value")
        assert page.locator("#moved :is(textarea, input)").input_value() == "next"
    finally:
        page.close()
        blocks.close(verbose=False)


def test_everything_is_named_and_reached_by_keyboard(page):
    region = page.get_by_role("region", name="Test images")
    assert region.get_attribute("tabindex") == "0"
    named = page.evaluate(
        """() => [...document.querySelectorAll('#viewer .rv-tools > :not([hidden])')].map(
            (one) => [one.tabIndex, one.getAttribute('aria-label') || one.innerText])"""
    )
    assert len(named) >= 10
    assert all(index == 0 and name for index, name in named)
    images = page.get_by_role("img").filter(visible=True)
    assert "run 1" in images.nth(1).get_attribute("aria-label")
    assert "Mass 0.7" in images.nth(1).get_attribute("aria-label")


def save(page, name):
    with page.expect_download() as download:
        page.get_by_role("button", name=name).click()
    return download.value


def test_the_saved_panel_shows_all_views_and_carries_the_disclaimer(page):
    saved = save(page, "Save PNG")
    assert saved.suggested_filename == "a_study.png"
    image = np.asarray(Image.open(io.BytesIO(saved.path().read_bytes())).convert("L"))
    assert image.shape[1] > 2 * 1000
    bottom = image[-int(0.04 * image.shape[0]) - 12 :]
    assert (bottom > 150).sum() > 200


def test_the_saved_drawing_is_valid_svg_with_lines_and_text(page):
    press(page, "g")
    press(page, "c")
    saved = save(page, "Save SVG")
    assert saved.suggested_filename == "a_study.svg"
    root = ElementTree.fromstring(saved.path().read_bytes())
    space = "{http://www.w3.org/2000/svg}"
    words = " ".join(one.text or "" for one in root.iter(f"{space}text"))
    for part in ("A study", "run 0", "run 1", "Mass", "share", DISCLAIMER.split(",")[0]):
        assert part in words, part
    assert len(list(root.iter(f"{space}image"))) == 2
    assert len(list(root.iter(f"{space}path"))) >= 2 * (2 + 6)
    assert not [one for one in root.iter() if "http" in str(one.attrib.get("href", ""))[:8]]


DEEP = Radiograph(
    levels=np.repeat(np.linspace(0, 4095, SIDE).astype(np.uint16)[None], SIDE, axis=0),
    grey=np.zeros((SIDE, SIDE), np.uint8),
    bits=12,
    window=(2000.0, 2400.0),
    spacing=(2.0, 1.0),
    at_detector=True,
    slope=2,
    intercept=-100,
)


def test_sixteen_bits_have_the_window_and_values_of_the_file(page):
    give(page, viewer.viewer_value([View(DEEP)], study="deep"))
    x = 33
    level = int(DEEP.levels[0, x])
    assert at(page, x + 0.5, 20)[0] == pytest.approx(255 * (level - 2000) / 400, abs=4)
    status = page.locator("#viewer .rv-status").inner_text()
    assert "Window 3900 to 4700" in status
    assert "12-bit" in status
    page.get_by_label("Window preset").select_option("full")
    settle(page)
    assert at(page, x + 0.5, 20)[0] == pytest.approx(255 * level / 4095, abs=4)
    give(page, shown(1))
    assert "limited to its 256 grey levels" in page.locator("#viewer .rv-status").inner_text()
    assert not page.get_by_role("button", name="Measure").is_visible()


def test_a_drag_measures_in_millimetres_where_the_spacing_is_known(page):
    give(page, viewer.viewer_value([View(DEEP)], study="deep"))
    press(page, "r")
    box = page.locator("#viewer canvas").bounding_box()
    scale = min(box["width"], box["height"]) / SIDE
    left = box["x"] + (box["width"] - SIDE * scale) / 2
    top = box["y"] + (box["height"] - SIDE * scale) / 2
    page.mouse.move(left + 10 * scale, top + 10 * scale)
    page.mouse.down()
    page.mouse.move(left + 40 * scale, top + 30 * scale, steps=3)
    page.mouse.up()
    settle(page)
    status = page.locator("#viewer .rv-said").inner_text()  # 30 px of 1 mm, 20 px of 2 mm: 50 mm
    assert float(status.split()[1]) == pytest.approx(50, abs=1.5)
    press(page, "Escape")
    assert page.get_by_role("button", name="Measure").get_attribute("aria-pressed") == "false"


def test_contours_and_differences_are_drawn(page):
    heat = np.zeros((SIDE, SIDE), np.float32)
    heat[:, :32], heat[:, 32:] = -1, 0.5
    grey = np.full((SIDE, SIDE), 100, np.uint8)
    give(page, viewer.viewer_value([View(grey, "a − b", map=heat, unit="share")], study="d"))
    left, right = at(page, 10, 20), at(page, 50, 20)
    assert left[0] > left[2] + 20  # yellow
    assert right[2] > right[0] + 20  # blue
    bar = page.locator("#viewer .rv-bar").inner_text()
    assert "−1.0" in bar
    assert "scale" not in bar
    give(page, shown(1))
    before = at(page, 40, 48)
    press(page, "c")
    assert at(page, 40, 48) != before
    assert page.get_by_role("button", name="Contours").get_attribute("aria-pressed") == "true"


def test_boxes_stay_in_place_on_a_reduced_image(page, monkeypatch):
    monkeypatch.setattr(viewer, "MAX_PIXELS", SIDE * SIDE // 4)
    view = View(example_image(), boxes=[Box("Mass", 8, 40, 16, 16)])
    give(page, viewer.viewer_value([view], study="small", truth=True))
    assert "reduced to 32 × 32" in page.locator("#viewer .rv-status").inner_text()
    assert at(page, 8, 48)[2] > at(page, 12, 48)[2] + 60
