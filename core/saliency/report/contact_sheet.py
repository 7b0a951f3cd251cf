"""A contact sheet: the same studies by each run, with map, contour of the region and score."""

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
"""Longest side of a drawn image, in pixels."""

TITLE_WIDTH = 18
"""Letters per line of a row's title, which is as long as a tile is high."""

REGION_COLOUR = "#56B4E9"


@dataclass(frozen=True)
class Tile:
    """One study by one run.

    Attributes:
        image: Greyscale image of shape (height, width), 0 to 255.
        map: Of the same shape, NaN outside of the network's input.
        region: The marked region, of the same shape.
        title: A line above the tile.
    """

    image: NDArray[np.uint8]
    map: NDArray[np.float32]
    region: NDArray[np.bool_]
    title: str


@dataclass(frozen=True)
class Row:
    """The tiles of one run, with a title to the left of them."""

    title: str
    tiles: tuple[Tile, ...]


def draw(rows: Sequence[Row], title: str) -> bytes:
    """Draw a contact sheet as a PNG.

    Each map is coloured from 0 to its own peak; with a map of zeros the image stays grey.
    """
    from matplotlib.figure import Figure

    columns = max(len(row.tiles) for row in rows)
    size = (TILE * columns + 0.9, TILE * 1.14 * len(rows) + 0.55)
    figure = Figure(figsize=size, facecolor="black", layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes_of_row, row in zip(grid, rows, strict=True):
        for axes in axes_of_row:
            axes.set_axis_off()
        for axes, tile in zip(axes_of_row, row.tiles, strict=False):
            _draw_tile(axes, tile)
        axes_of_row[0].text(
            -0.06, 0.5, fill(row.title, TITLE_WIDTH), color="white", fontsize=6, rotation=90,
            ha="right", va="center", transform=axes_of_row[0].transAxes,
        )  # fmt: skip
    figure.suptitle(title, color="white", fontsize=9)
    figure.supxlabel(f"{DISCLAIMER}. Blue: the marked region.", color="#aaaaaa", fontsize=6)
    out = io.BytesIO()
    # Without the name of the software: the same report gives the same bytes.
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
        axes.contour(region.astype(float), levels=[0.5], colors=REGION_COLOUR, linewidths=0.8)
    axes.set_title(tile.title, color="white", fontsize=6, pad=2)
