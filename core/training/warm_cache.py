"""Decode images into the cache before a run needs them."""

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
class CacheSummary:
    """Decoded images of a data set.

    Attributes:
        pictures: Number of images in the data set.
        made: Number of images that were decoded now.
        side: Shorter side of the decoded images, in pixels.
        folder: Folder of the decoded images.
        bytes: Size of this folder.
        unreadable: Reasons why images could not be decoded, by study.
    """

    pictures: int
    made: int
    side: int
    folder: Path
    bytes: int
    unreadable: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The summary as plain values."""
        return asdict(self) | {"folder": str(self.folder)}


def prepare(spec: RunSpec, cache: Path, progress: Progress | None = None) -> dict[str, int]:
    """Decode (or draw) the images that a run needs.

    Returns:
        ``pictures``, the number of images of the run, and ``made``, of those decoded now.

    Raises:
        DataError: The data set is incomplete, images cannot be read, or the disk is full.
    """
    resolved = spec.resolved()
    dataset = open_data(resolved.data)
    ids = subsets.labelled(dataset, resolved.data) + dataset.ids("val") + dataset.ids("test")
    size = resolved.model.input_size or backbone_card(resolved.model.backbone).input_size
    images = ImageCache(cache, dataset, cache_side(size))
    missing = len(images.missing(ids))
    unreadable: dict[str, str] | None = {} if resolved.data.skip_bad else None
    images.ensure(ids, progress, faults=unreadable)
    return {"pictures": len(ids), "made": missing - len(unreadable or {})}


def prepare_all(
    data: DataSpec, cache: Path, side: int | None = None, progress: Progress | None = None
) -> CacheSummary:
    """Decode (or draw) every image of a data set.

    Args:
        data: The data set.
        cache: Folder of decoded images.
        side: Shorter side of the decoded images; by default that for the default backbone.
        progress: Receives the numbers of finished and of all images.

    Raises:
        DataError: The data set cannot be opened, or the disk is full. Unreadable images are not an
            error; they are listed in the result.
    """
    dataset = open_data(data.source())
    chosen = side or cache_side(backbone_card(ModelSpec().backbone).input_size)
    images = ImageCache(cache, dataset, chosen)
    ids = [str(study) for study in dataset.table.index]
    unreadable: dict[str, str] = {}
    missing = len(images.missing(ids))
    images.ensure(ids, progress, faults=unreadable)
    made = missing - len(unreadable)
    return CacheSummary(len(ids), made, chosen, images.folder, images.size(), unreadable)
