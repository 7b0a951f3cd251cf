"""A contact sheet: the same studies under each run, with map, contour of what was marked, score."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.formatting import DISCLAIMER

TILE = 1.25
"""Side of a tile in inches."""

DPI = 100
SIDE = 160
"""Longest side of a drawn picture, in pixels."""

LETTERS = 18
"""Of a row's title in a line: the height of a tile."""

MARKED = "#56B4E9"


@dataclass(frozen=True)
class Tile:
    """One study under one run.

    Attributes:
        image: Grey picture of shape (height, width), 0 to 255.
        map: Of the same shape, NaN where the network saw nothing.
        region: What was marked, of the same shape.
        title: A line above it.
    """

    image: NDArray[np.uint8]
    map: NDArray[np.float32]
    region: NDArray[np.bool_]
    title: str


@dataclass(frozen=True)
class Row:
    """Tiles side by side, of one run.

    Attributes:
        title: Stands at the left.
        tiles: As many as the other rows have, or fewer.
    """

    title: str
    tiles: tuple[Tile, ...]


def draw(rows: Sequence[Row], title: str) -> bytes:
    """Draw a contact sheet as a PNG.

    Each map is coloured from 0 to its own peak; a map of zeros leaves the picture grey.

    Args:
        rows: From the top down.
        title: Above all of it.
    """
    from matplotlib.figure import Figure

    columns = max(len(row.tiles) for row in rows)
    size = (TILE * columns + 0.9, TILE * 1.14 * len(rows) + 0.55)
    figure = Figure(figsize=size, facecolor="black", layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for line, row in zip(grid, rows, strict=True):
        for axes in line:
            axes.set_axis_off()
        for axes, tile in zip(line, row.tiles, strict=False):
            _draw_tile(axes, tile)
        line[0].text(
            -0.06, 0.5, fill(row.title, LETTERS), color="white", fontsize=6, rotation=90,
            ha="right", va="center", transform=line[0].transAxes,
        )  # fmt: skip
    figure.suptitle(title, color="white", fontsize=9)
    figure.supxlabel(f"{DISCLAIMER}. Blue: what was marked.", color="#aaaaaa", fontsize=6)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI, metadata={"Software": None})
    return out.getvalue()


def _draw_tile(axes: Any, tile: Tile) -> None:
    step = max(1, -(-max(tile.image.shape) // SIDE))
    image, values = tile.image[::step, ::step], np.nan_to_num(tile.map[::step, ::step])
    region = tile.region[::step, ::step]
    peak = float(values.max())
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    if peak > 0:
        share = np.clip(values / peak, 0, 1)
        axes.imshow(share, cmap="inferno", vmin=0, vmax=1, alpha=0.65 * share)
    if region.any() and not region.all():
        axes.contour(region.astype(float), levels=[0.5], colors=MARKED, linewidths=0.8)
    axes.set_title(tile.title, color="white", fontsize=6, pad=2)
