"""Pictures made ready before anybody waits for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from core.config.model import ModelSpec
from core.config.run import DataSpec, RunSpec
from core.data import subsets
from core.data.cache.image_cache import ImageCache, cache_side
from core.data.datasets.registry import open_data
from core.models.backbones.registry import backbone_card

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Made:
    """What became of a data set's pictures.

    Attributes:
        pictures: How many the data set has.
        made: How many of them were decoded now.
        side: Shorter side of the copies, in pixels.
        folder: Where the copies are.
        bytes: What the folder takes.
        unreadable: Why there is no copy of a picture, by study.
    """

    pictures: int
    made: int
    side: int
    folder: Path
    bytes: int
    unreadable: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self) | {"folder": str(self.folder)}


def prepare(spec: RunSpec, cache: Path, progress: Progress | None = None) -> dict[str, int]:
    """Decode (or draw) the pictures that a run needs.

    Args:
        spec: The run.
        cache: Folder of decoded images.
        progress: Told how many of how many are there.

    Returns:
        Pictures of the run, and those of them that were made now.

    Raises:
        DataError: The data set is incomplete, pictures cannot be read, or the disk is full.
    """
    spec = spec.resolved()
    dataset = open_data(spec.data)
    ids = subsets.labelled(dataset, spec.data) + dataset.ids("val") + dataset.ids("test")
    size = spec.model.input_size or backbone_card(spec.model.backbone).input_size
    pictures = ImageCache(cache, dataset, cache_side(size))
    missing = len(pictures.missing(ids))
    bad: dict[str, str] | None = {} if spec.data.skip_bad else None
    pictures.ensure(ids, progress, faults=bad)
    return {"pictures": len(ids), "made": missing - len(bad or {})}


def whole(
    data: DataSpec, cache: Path, side: int | None = None, progress: Progress | None = None
) -> Made:
    """Decode (or draw) every picture of a data set, whatever run may ask for it.

    Args:
        data: The data set.
        cache: Folder of decoded images.
        side: Shorter side of the copies; by default what runs of the default backbone read.
        progress: Told how many of how many are there.

    Raises:
        DataError: The data set cannot be opened, or the disk is full. Pictures that cannot be read
            are no error here, but part of the result.
    """
    dataset = open_data(data.source())
    short = side or cache_side(backbone_card(ModelSpec().backbone).input_size)
    copies = ImageCache(cache, dataset, short)
    ids = [str(one) for one in dataset.table.index]
    unreadable: dict[str, str] = {}
    missing = len(copies.missing(ids))
    copies.ensure(ids, progress, faults=unreadable)
    made = missing - len(unreadable)
    return Made(len(ids), made, short, copies.folder, copies.size(), unreadable)
