"""The radiograph viewer: one to six linked views with window/level, zoom, overlay and truth.

Python packs images and maps; the scripts in ``assets/viewer`` draw them on canvases. Example::

    component = viewer.radiographs(elem_id="saliency-viewer", label="Where the model looks")
    value = viewer.viewer_value([viewer.View(image, title="LoRA r 4", map=explanation.map)])

A handler returns ``value`` for ``component``. The keys N and P trigger the component's events
``next_study`` and ``previous_study``.

Format of the value (JSON): ``images`` and the ``map`` of each view are base64 of zlib-packed bytes.
Rows of images are stored as differences between neighbours (modulo the range of the samples): this
compresses radiographs about as well as PNG, supports 16 bits and is unpacked exactly.
"""

from __future__ import annotations

import base64
import functools
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from core.data.base import Box
from core.data.images.radiograph import Levels, Radiograph
from core.errors import DataError
from core.formatting import DISCLAIMER
from core.workspace import ASSETS
from explorer.templates import render

MAX_VIEWS = 6
MAP_SIDE = 320
COLOUR_MAP, SIGNED_COLOUR_MAP = "inferno", "managua"
SCRIPTS = ("elements", "value", "input", "drawing", "saving")

MAX_PIXELS = 4096 * 4096
"""Largest image that is sent to a page; a larger one is reduced to a half or a third of its size,
and the page says so. Maps, boxes and measurements refer to the full size."""

Image = Levels | Radiograph


@dataclass(frozen=True)
class View:
    """One image with its overlays and text.

    Attributes:
        image: Grey levels of shape (height, width), 8 or 16 bit, black is air; or a radiograph,
            which adds the initial window and the pixel spacing.
        title: Line above the image.
        colour: CSS colour of the dot next to the title; no dot if empty.
        alt: Alternative text; made from title and facts if empty.
        map: Saliency of shape (height, width), NaN outside of the network's input. A map with
            negative values is a difference, and its colour scale has 0 in the middle.
        unit: Unit of the map's values, for the colour bar.
        boxes: Marked rectangles in pixels of the image.
        masks: Marked pixels by finding, each of shape (height, width).
        facts: Names and values below the image.
        notes: Sentences below the facts.
    """

    image: Image
    title: str = ""
    colour: str = ""
    alt: str = ""
    map: NDArray[np.float32] | None = None
    unit: str = ""
    boxes: Sequence[Box] = ()
    masks: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    facts: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()


def radiographs(*, elem_id: str, label: str = "Radiographs", **options: Any) -> gr.HTML:
    """Make the viewer's component.

    Args:
        elem_id: The element's id, unique on the page.
        label: Name of the region for screen readers.
        **options: Options of ``gr.HTML``.

    Returns:
        An output component with the additional events ``next_study`` and ``previous_study``.
    """
    return gr.HTML(
        value=viewer_value([]),
        html_template=str(render("components/viewer.html.j2")),
        css_template=(ASSETS / "viewer" / "viewer.css").read_text(encoding="utf-8"),
        js_on_load="".join(
            (ASSETS / "viewer" / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS
        ),
        apply_default_css=False,
        elem_id=elem_id,
        region=label,
        **options,
    )


def viewer_value(
    views: Sequence[View],
    *,
    study: str = "",
    heading: str = "",
    steps: bool = False,
    truth: bool = False,
    overlay: bool = True,
    empty: str = "Choose a study to see it here.",
) -> str:
    """Pack views for the viewer.

    Args:
        views: Zero to six views; their images share zoom, pan and window.
        study: Identifies what is shown. Zoom, pan and window are kept while it stays the same.
        heading: Line above all views, also in the saved figure.
        steps: Whether the viewer has buttons for the previous and the next study.
        truth: Whether boxes and masks are drawn initially.
        overlay: Whether maps are drawn initially.
        empty: Text if there are no views.

    Returns:
        JSON, the component's value.

    Raises:
        DataError: There are too many views, or an image, map or mask has the wrong shape.
    """
    if len(views) > MAX_VIEWS:
        raise DataError(
            f"{len(views)} views do not fit side by side.", f"Choose at most {MAX_VIEWS}."
        )
    images: list[dict[str, Any]] = []
    positions: dict[int, int] = {}  # by identity: views of one study share one packed image
    packed = []
    for view in views:
        _check(view)
        if id(view.image) not in positions:
            positions[id(view.image)] = len(images)
            images.append(pack_image(view.image))
        packed.append(_pack_view(view) | {"image": positions[id(view.image)]})
    return json.dumps(
        {
            "study": study,
            "heading": heading,
            "steps": steps,
            "truth": truth,
            "overlay": overlay,
            "empty": empty,
            "disclaimer": DISCLAIMER,
            "colours": colours(COLOUR_MAP) if views else "",
            "signed": colours(SIGNED_COLOUR_MAP) if views else "",
            "images": images,
            "views": packed,
        },
        allow_nan=False,
    )


def pack_image(image: Image) -> dict[str, Any]:
    """Pack grey levels without loss, with their attributes.

    Returns:
        ``width``, ``height`` and ``bits`` of the packed image, ``full`` (width and height of the
        original), ``depth`` (bits of its source), ``top`` (the end of the range of levels),
        ``window``, ``spacing`` (rows, columns, in mm), ``detector``, ``slope``, ``intercept``, and
        ``data``: base64 of zlib-packed row differences.
    """
    radiograph = _radiograph(image)
    levels = _reduced(radiograph.levels)
    little = np.ascontiguousarray(levels, dtype=levels.dtype.newbyteorder("<"))
    steps = little.copy()
    np.subtract(little[:, 1:], little[:, :-1], out=steps[:, 1:])
    # Differences of neighbours contain no repeated strings, so that searching for them only takes
    # time: Huffman codes alone.
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_HUFFMAN_ONLY)
    packed = packer.compress(steps.tobytes()) + packer.flush()
    return {
        "width": int(levels.shape[1]),
        "height": int(levels.shape[0]),
        "full": [int(radiograph.levels.shape[1]), int(radiograph.levels.shape[0])],
        "bits": levels.dtype.itemsize * 8,
        "depth": radiograph.bits,
        "top": 255 if levels.dtype == np.uint8 else max(int(radiograph.levels.max()), 1),
        "window": radiograph.window,
        "spacing": radiograph.spacing,
        "detector": radiograph.at_detector,
        "slope": radiograph.slope,
        "intercept": radiograph.intercept,
        "data": _base64(packed),
    }


def _radiograph(image: Image) -> Radiograph:
    if isinstance(image, Radiograph):
        return image
    # The viewer does not use ``grey``, the input of models.
    return Radiograph(image, image, bits=8 * image.dtype.itemsize)  # type: ignore[arg-type]


def _reduced(levels: Levels) -> Levels:
    """Means of blocks of pixels, so that there are at most ``MAX_PIXELS``."""
    by = math.ceil(math.sqrt(levels.size / MAX_PIXELS))
    if by < 2:
        return levels
    height, width = (side - side % by for side in levels.shape)
    total = np.zeros((height // by, width // by), np.uint32)
    for row in range(by):
        for column in range(by):
            total += levels[row:height:by, column:width:by]
    means = (total + by * by // 2) // (by * by)
    return means.astype(np.uint8) if levels.dtype == np.uint8 else means.astype(np.uint16)


def pack_map(values: NDArray[np.float32], side: int = MAP_SIDE) -> dict[str, Any]:
    """Pack a saliency map in 8 bit with its scale.

    Args:
        values: Shape (height, width), NaN outside of the network's input.
        side: Longest side of the packed map; maps are smooth, so that a larger one is sampled.

    Returns:
        Size, ``peak`` (the highest absolute value), ``signed`` (whether there are values below 0),
        ``seen`` (left, top, right, bottom of the values that are not NaN, as shares of the image)
        and the bytes: 0 for NaN, 1…255 for 0…peak, or for −peak…peak.
    """
    height, width = values.shape
    step = max(1.0, max(height, width) / side)
    rows = ((np.arange(max(1, round(height / step))) + 0.5) * step).astype(int).clip(0, height - 1)
    columns = ((np.arange(max(1, round(width / step))) + 0.5) * step).astype(int)
    small = values[np.ix_(rows, columns.clip(0, width - 1))]
    known = np.isfinite(values)
    lowest = float(values[known].min()) if known.any() else 0.0
    peak = max(float(values[known].max()), -lowest) if known.any() else 0.0
    levels = np.zeros(small.shape, np.uint8)
    finite = np.isfinite(small)
    if lowest < 0:
        levels[finite] = 128 + np.rint(127 * small[finite] / peak)
    else:
        levels[finite] = 1 + np.rint(254 * small[finite] / peak) if peak > 0 else 1
    frame = [0.0] * 4
    if known.any():
        y, x = np.flatnonzero(known.any(axis=1)), np.flatnonzero(known.any(axis=0))
        frame = [x[0] / width, y[0] / height, (x[-1] + 1) / width, (y[-1] + 1) / height]
    return {
        "width": small.shape[1],
        "height": small.shape[0],
        "peak": peak,
        "signed": lowest < 0,
        "seen": [round(float(edge), 5) for edge in frame],
        "data": _base64(zlib.compress(levels.tobytes(), level=6)),
    }


def outlines(mask: NDArray[np.bool_]) -> list[list[list[float]]]:
    """Trace the borders of a mask.

    Returns:
        Closed lines, each a list of (x, y) in pixels of the image, rounded to one decimal.
    """
    from contourpy import contour_generator

    padded = np.pad(mask.astype(np.float32), 1)
    lines = contour_generator(z=padded).lines(0.5)
    # A pixel's centre is half a pixel inside of its edge, and the padding moved all by one.
    return [np.round(np.asarray(line) - 0.5, 1).tolist() for line in lines]


@functools.cache
def colours(name: str = COLOUR_MAP) -> str:
    """A colour map as 256 RGB triples in base64; by default sequential, perceptually uniform."""
    import matplotlib

    table = matplotlib.colormaps[name](np.arange(256), bytes=True)
    return _base64(np.asarray(table)[:, :3].tobytes())


def _pack_view(view: View) -> dict[str, Any]:
    facts = "; ".join(f"{name} {value}" for name, value in view.facts)
    shown = "Frontal radiograph with saliency map" if view.map is not None else "Radiograph"
    return {
        "title": view.title,
        "colour": view.colour,
        "alt": view.alt or ". ".join(part for part in (shown, view.title, facts) if part),
        "map": None if view.map is None else pack_map(view.map),
        "unit": view.unit,
        "boxes": [
            {"finding": box.finding, "x": box.x, "y": box.y, "w": box.width, "h": box.height}
            for box in view.boxes
        ],
        "masks": [
            {"finding": finding, "lines": outlines(mask)} for finding, mask in view.masks.items()
        ],
        "facts": [list(fact) for fact in view.facts],
        "notes": list(view.notes),
    }


def _check(view: View) -> None:
    image = _radiograph(view.image).levels
    if image.ndim != 2 or image.dtype not in (np.uint8, np.uint16) or 0 in image.shape:
        raise DataError(
            f"An image of shape {image.shape} and type {image.dtype} cannot be displayed.",
            "Give grey levels of shape (height, width) with 8 or 16 bit.",
        )
    for name, other in [("map", view.map), *view.masks.items()]:
        if other is not None and other.shape != image.shape:
            raise DataError(
                f"The {name} has the shape {other.shape}, its image {image.shape}.",
                "Give both in the coordinates of the original image.",
            )


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
