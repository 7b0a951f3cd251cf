"""Pictures for pre-training a small foundation model, and the readout it is watched by.

The pictures of ``core.data`` and the training of ``core.models`` meet here, since neither knows the
other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from core.data.base import ChestDataset
from core.data.cache import ImageCache
from core.data.phantom import Phantom
from core.data.transforms import cache_side

if TYPE_CHECKING:
    from torch import nn

POPULATION = 20_240_112
"""Seed of the phantom patients that pre-training sees: none of them is in a shipped data set."""

PROBE_STUDIES = 400


def phantoms(count: int) -> Phantom:
    """Phantom patients for pre-training, disjoint from those of the shipped data sets."""
    return Phantom("phantom-14", seed=POPULATION, train=count, val=1, test=1)


def gather(
    dataset: ChestDataset,
    ids: Sequence[str],
    cache: Path,
    input_size: int,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.uint8]:
    """Read pictures as one array, each cut to the square in its middle.

    Args:
        dataset: Where they come from.
        ids: Which ones.
        cache: Folder of decoded images.
        input_size: Side of the model's input, in pixels; the pictures are kept a little larger.
        progress: Told how many of how many are there.

    Returns:
        Grey pictures of shape (studies, side, side).
    """
    side = cache_side(input_size)
    pictures = ImageCache(cache, dataset, side)
    pictures.ensure(list(ids), progress=progress)
    squares = np.empty((len(ids), side, side), np.uint8)
    for i, one in enumerate(ids):
        picture = pictures.get(one)
        top, left = ((length - side) // 2 for length in picture.shape)
        squares[i] = picture[top : top + side, left : left + side]
    return squares


def readout(cache: Path, input_size: int) -> Callable[[nn.Module], float]:
    """A linear probe on the findings of ``phantom-14``: training against validation studies.

    Args:
        cache: Folder of decoded images.
        input_size: Side of the model's input, in pixels.
    """
    from core.models.pretraining import linear_probe

    dataset = Phantom("phantom-14")
    parts = []
    for split in ("train", "val"):
        ids = dataset.ids(split)[:PROBE_STUDIES]
        parts.append((gather(dataset, ids, cache, input_size), dataset.labels(ids)))
    return linear_probe(parts[0], parts[1], input_size=input_size)
