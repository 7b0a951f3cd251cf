"""The radiograph viewer: one to six linked pictures with window/level, zoom, overlay and truth.

Python packs pictures and maps; the scripts in ``assets/viewer`` draw them on canvases. Use::

    component = viewer.radiographs(elem_id="saliency-viewer", label="Where the model looks")
    value = viewer.viewer_value([viewer.View(image, title="LoRA r 4", map=explanation.map)])

A handler returns ``value`` for ``component``. The user's N and P keys arrive as the component's
events ``next_study`` and ``previous_study``.

Format of the value (JSON): ``pictures`` and each view's ``map`` hold base64 of zlib-packed bytes.
Rows of pictures are stored as differences between neighbours (modulo the sample's range), which
packs radiographs about as well as PNG, holds 16 bits and lets the script unpack them exactly.
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

MAX_VIEWS = 6
MAP_SIDE = 320
COLOUR_MAP, SIGNED_COLOUR_MAP = "inferno", "managua"
SCRIPTS = ("elements", "value", "input", "drawing", "saving")

MOST_PIXELS = 4096 * 4096
"""Pixels that a page gets of a picture; a larger one is sent at a half or a third of its size, and
the page says so. Maps, boxes and measures stay those of the whole picture."""

Picture = Levels | Radiograph


@dataclass(frozen=True)
class View:
    """One picture with what is drawn over it and said below it.

    Attributes:
        image: Grey levels of shape (height, width), 8 or 16 bit, black is air; or a plate, which
            adds the window to begin with and the pixels' spacing.
        title: Line over the picture.
        colour: Colour of the dot beside the title, as CSS; none if empty.
        alt: Alternative text; made from title and facts if empty.
        map: Saliency of shape (height, width), NaN where the network saw nothing. A map with
            negative values is a difference and gets colours and a scale with 0 in the middle.
        unit: Unit of the map's values, said beside the colour bar.
        boxes: Marked rectangles in pixels of the picture.
        masks: Marked pixels by finding, each of shape (height, width).
        facts: Names and values under the picture.
        notes: Sentences under the facts.
    """

    image: Picture
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
        **options: Passed on to ``gr.HTML``.

    Returns:
        An output component; besides Gradio's events it has ``next_study`` and ``previous_study``.
    """
    return gr.HTML(
        value=viewer_value([]),
        html_template='<div class="rv" tabindex="0" role="region"></div>',
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
        views: None to six views; their pictures share zoom, pan and window.
        study: What is shown. While it stays the same, so do zoom, pan and window.
        heading: Line over all views, also in the saved panel.
        steps: Whether to offer the previous and the next study.
        truth: Whether boxes and masks are drawn at first.
        overlay: Whether maps are drawn at first.
        empty: What is said when there are no views.

    Returns:
        JSON, the component's value.

    Raises:
        DataError: There are too many views, or a picture, map or mask has the wrong shape.
    """
    if len(views) > MAX_VIEWS:
        raise DataError(
            f"{len(views)} views do not fit side by side.", f"Choose at most {MAX_VIEWS}."
        )
    pictures: list[dict[str, Any]] = []
    places: dict[int, int] = {}
    packed = []
    for view in views:
        _check(view)
        if id(view.image) not in places:
            places[id(view.image)] = len(pictures)
            pictures.append(pack_picture(view.image))
        packed.append(_pack_view(view) | {"picture": places[id(view.image)]})
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
            "pictures": pictures,
            "views": packed,
        },
        allow_nan=False,
    )


def pack_picture(image: Picture) -> dict[str, Any]:
    """Pack grey levels without loss: what is known of them, and their bytes.

    Returns:
        ``width``, ``height`` and ``bits`` of what is packed, ``full`` (width and height of the
        picture), ``depth`` (bits of its source), ``top`` (the highest level it could have),
        ``window``, ``spacing`` (down, across, in mm), ``detector``, ``slope``, ``intercept``, and
        ``data``: base64 of zlib-packed row differences.
    """
    plate = _plate(image)
    levels = _shrunk(plate.levels)
    little = np.ascontiguousarray(levels, dtype=levels.dtype.newbyteorder("<"))
    steps = little.copy()
    np.subtract(little[:, 1:], little[:, :-1], out=steps[:, 1:])
    # Differences of neighbours repeat no strings: to look for them costs time and gains nothing.
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_HUFFMAN_ONLY)
    packed = packer.compress(steps.tobytes()) + packer.flush()
    eight = levels.dtype == np.uint8
    return {
        "width": int(levels.shape[1]),
        "height": int(levels.shape[0]),
        "full": [int(plate.levels.shape[1]), int(plate.levels.shape[0])],
        "bits": levels.dtype.itemsize * 8,
        "depth": plate.bits,
        "top": 255 if eight else max(int(plate.levels.max()), 1),
        "window": plate.window,
        "spacing": plate.spacing,
        "detector": plate.at_detector,
        "slope": plate.slope,
        "intercept": plate.intercept,
        "data": _base64(packed),
    }


def _plate(image: Picture) -> Radiograph:
    if isinstance(image, Radiograph):
        return image
    # What is known is the levels alone; ``grey`` is what models get, and none is asked here.
    return Radiograph(image, image, bits=8 * image.dtype.itemsize)  # type: ignore[arg-type]


def _shrunk(levels: Levels) -> Levels:
    """Means of blocks of pixels, as small as needed for ``MOST_PIXELS``."""
    by = math.ceil(math.sqrt(levels.size / MOST_PIXELS))
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
        values: Shape (height, width), NaN where nothing was seen.
        side: Longest side of the packed map; maps are smooth, so a larger one is sampled.

    Returns:
        Size, ``peak`` (the highest absolute value), ``signed`` (whether there are values below 0),
        ``seen`` (left, top, right, bottom of what is not NaN, as shares of the picture) and the
        bytes: 0 not seen, 1…255 for 0…peak, or for −peak…peak.
    """
    height, width = values.shape
    step = max(1.0, max(height, width) / side)
    rows = ((np.arange(max(1, round(height / step))) + 0.5) * step).astype(int).clip(0, height - 1)
    columns = ((np.arange(max(1, round(width / step))) + 0.5) * step).astype(int)
    small = values[np.ix_(rows, columns.clip(0, width - 1))]
    seen = np.isfinite(values)
    lowest = float(values[seen].min()) if seen.any() else 0.0
    peak = max(float(values[seen].max()), -lowest) if seen.any() else 0.0
    levels = np.zeros(small.shape, np.uint8)
    finite = np.isfinite(small)
    if lowest < 0:
        levels[finite] = 128 + np.rint(127 * small[finite] / peak)
    else:
        levels[finite] = 1 + np.rint(254 * small[finite] / peak) if peak > 0 else 1
    down, across = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    frame = (
        [across[0] / width, down[0] / height, (across[-1] + 1) / width, (down[-1] + 1) / height]
        if seen.any()
        else [0, 0, 0, 0]
    )
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
        Closed lines, each a list of (x, y) in pixels of the picture, one decimal.
    """
    from contourpy import contour_generator

    padded = np.pad(mask.astype(np.float32), 1)
    lines = contour_generator(z=padded).lines(0.5)
    # A pixel's centre lies half a pixel inside its edge; the padding moved all by one.
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
    image = _plate(view.image).levels
    if image.ndim != 2 or image.dtype not in (np.uint8, np.uint16) or 0 in image.shape:
        raise DataError(
            f"A picture of shape {image.shape} and type {image.dtype} cannot be shown.",
            "Give grey levels of shape (height, width) with 8 or 16 bit.",
        )
    for name, other in [("map", view.map), *view.masks.items()]:
        if other is not None and other.shape != image.shape:
            raise DataError(
                f"The {name} has the shape {other.shape}, its picture {image.shape}.",
                "Bring both into the coordinates of the original picture.",
            )


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
