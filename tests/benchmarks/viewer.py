"""Speed of the viewer: frames per second while dragging, and the time to show a large image.

Run with ``python -m tests.benchmarks.viewer``; it takes about two minutes and needs Chromium, which
draws in software. The aim is 60 frames per second (30 without a GPU) while the window is dragged on
an image of 1024 px, and no fewer on one of 4,000 px.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from explorer.components import viewer
from explorer.components.viewer import View
from tests.support import chromium

FRAMES = int(os.environ.get("CXR_FRAMES", "120"))
VIEWPORT = {"width": 1280, "height": 900}
PREPARE = """([script, empty]) => {
    const watched = [], props = { value: empty, region: 'Benchmark' };
    new Function('element', 'trigger', 'props', 'server', 'upload', 'watch', script)(
        document.getElementById('viewer'), () => {}, props, {}, null,
        (_, act) => watched.push(act));
    window.give = (next) => { props.value = next; watched.forEach((act) => act()); };
}"""
SHOW = """async ([value, views]) => {
    const start = performance.now();
    window.give(value);
    for (;;) {
        await new Promise(requestAnimationFrame);
        const found = [...document.querySelectorAll('#viewer canvas')];
        if (found.length === views && found.every((one) => one.width > 300)) break;
    }
    await new Promise(requestAnimationFrame);
    return performance.now() - start;
}"""
DRAG = """async ([shift, frames]) => {
    const canvas = document.querySelector('#viewer canvas'), box = canvas.getBoundingClientRect();
    const send = (kind, i) => canvas.dispatchEvent(new PointerEvent(kind, { pointerId: 1,
        bubbles: true, shiftKey: shift, clientX: box.x + 150 + 60 * Math.sin(i / 9),
        clientY: box.y + 150 + 60 * Math.cos(i / 7) }));
    canvas.setPointerCapture = () => {};
    send('pointerdown', 0);
    const gaps = [];
    let last = performance.now();
    for (let i = 1; i <= frames; i++) {
        send('pointermove', i);
        await new Promise(requestAnimationFrame);
        canvas.getContext('2d').getImageData(5, 5, 1, 1);  // waits until the frame is drawn
        const now = performance.now();
        gaps.push(now - last);
        last = now;
    }
    send('pointerup', 0);
    gaps.sort((a, b) => a - b);
    return { seconds: gaps.reduce((a, b) => a + b, 0) / 1000,
             slowest: gaps[Math.floor(0.95 * gaps.length)] };
}"""


def radiograph(side: int, deep: bool) -> NDArray[Any]:
    """Noise on a slope, which takes as long to pack and to window as a radiograph."""
    draw = np.random.default_rng(0)
    slope = np.linspace(0, 3000, side)[None, :] + np.linspace(0, 800, side)[:, None]
    values = slope + draw.normal(0, 40, (side, side))
    found = values.clip(0, 4095)
    return found.astype(np.uint16) if deep else (found / 16.1).astype(np.uint8)


def views(image: NDArray[Any], count: int) -> list[View]:
    """The image with a number of maps."""
    x, y = np.meshgrid(np.linspace(-1, 1, 320), np.linspace(-1, 1, 320))
    heat = np.exp(-4 * (x**2 + y**2)).astype(np.float32)
    full = np.asarray(
        np.kron(heat, np.ones((image.shape[0] // 320 + 1,) * 2, np.float32)), np.float32
    )[: image.shape[0], : image.shape[1]]
    return [View(image, f"run {i}", map=full) for i in range(count)]


def spent() -> float:
    """Processor's time of the browser so far, in seconds, all of its processes together.

    On a crowded machine it tells what a frame costs, where frames a second tell of the neighbours.
    """
    total = 0.0
    for one in psutil.Process().children(recursive=True):
        times = one.cpu_times()
        total += times.user + times.system
    return total


def main() -> None:
    """Print the results as JSON."""
    results: dict[str, Any] = {
        "machine": f"{platform.machine()}, {psutil.cpu_count()} cores",
        "load before": round(os.getloadavg()[0], 2),
    }
    component = viewer.radiographs(elem_id="viewer", label="Benchmark")
    with chromium.launched() as browser:
        results["browser"] = f"Chromium {browser.version}, without a GPU"
        page = browser.new_page(viewport=VIEWPORT)
        page.set_default_timeout(120_000)
        page.set_content(
            f'<style>#viewer {{ {component.css_template} }}</style><div id="viewer">'
            f"{component.html_template}</div>"
        )
        page.evaluate(PREPARE, [component.js_on_load, viewer.viewer_value([])])
        for side, deep, count in ((1024, False, 1), (1024, True, 2), (1024, True, 6),
                                  (4000, True, 2), (6000, True, 1)):  # fmt: skip
            start = time.perf_counter()
            value = viewer.viewer_value(views(radiograph(side, deep), count), study=str(side))
            packed = time.perf_counter() - start
            shown = page.evaluate(SHOW, [value, count])
            result: dict[str, Any] = {
                "packed, s": round(packed, 2),
                "sent, MB": round(len(value) / 1e6, 1),
                "shown after, s": round(shown / 1000, 2),
            }
            for name, shift in (("window", False), ("pan", True)):
                before = spent()
                drag = page.evaluate(DRAG, [shift, FRAMES])
                work = spent() - before
                result[f"{name}, frames/s"] = round(FRAMES / drag["seconds"], 1)
                result[f"{name}, slowest of 20, ms"] = round(drag["slowest"], 1)
                result[f"{name}, processor time per frame, ms"] = round(1000 * work / FRAMES, 1)
            print(side, deep, count, json.dumps(result), file=sys.stderr, flush=True)
            results[f"{side} px, {16 if deep else 8} bit, {count} view(s)"] = result
    results["load after"] = round(os.getloadavg()[0], 2)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
