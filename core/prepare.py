"""Pictures made ready before anybody waits for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from core.data import splits
from core.data.cache import ImageCache
from core.data.catalogue import open_data
from core.data.transforms import cache_side
from core.models import catalogue
from core.spec import RunSpec


def prepare(
    spec: RunSpec, cache: Path, progress: Callable[[int, int], None] | None = None
) -> dict[str, int]:
    """Decode (or draw) the pictures that a run needs, in the order it needs them.

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
    assert spec.data.subset_seed is not None
    first = splits.subset(dataset, spec.data.label_fraction, spec.data.subset_seed)
    first = first + dataset.ids("val")
    ids = first + dataset.ids("test")
    size = spec.model.input_size or catalogue.card(spec.model.backbone).input_size
    pictures = ImageCache(cache, dataset, cache_side(size))
    missing = len(pictures.missing(ids))
    pictures.ensure(first)  # what a run asks for before its first AUROC
    pictures.ensure(ids, progress=progress)
    return {"pictures": len(ids), "made": missing}
