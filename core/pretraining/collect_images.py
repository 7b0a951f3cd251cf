"""Collecting the images of several data sets for pre-training, and the images of linear probes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core.data.base import ChestDataset
from core.data.cache.image_cache import ImageCache, cache_side
from core.data.checks import image_scan
from core.data.phantoms.dataset import Phantom
from core.errors import ConfigurationError
from core.pretraining.dense_targets import collect_dense

if TYPE_CHECKING:
    from core.pretraining.trainer import Probe

POPULATION = 20_240_112
"""Seed of the phantom patients for pre-training: none of them is in the phantom data sets."""

CROPS = {False: (0.4, 1.0), True: (0.6, 1.0)}
"""Smallest and largest area of a crop as a share of the image, without and with reports. Crops are
larger with reports, so that they contain what the report mentions."""

DENSE_SIDE = 96
"""Side of the maps of dense targets, in pixels."""

PROBE_STUDIES = 400
REAL_SHARE = 0.5

HELD_OUT = ("val", "test")
"""Splits that pre-training does not use; training images similar to theirs are left out too."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Collection:
    """Images of several data sets in one array.

    Attributes:
        images: Grey images, uint8 of shape (images, side, side).
        times: How often an epoch contains each image.
        reports: The report of each image, an empty text if it has none; None if not requested.
        dense: Dense targets of the phantoms, which are the first images; None if not requested.
        sets: For the card: name, title, licence, split, counts and share of each data set.
    """

    images: NDArray[np.uint8]
    times: NDArray[np.int64]
    reports: tuple[str, ...] | None
    dense: NDArray[np.uint8] | None
    sets: tuple[dict[str, Any], ...]

    def sentence(self) -> str:
        """Description of the images, such as ``16,000 images of Phantom-14``."""
        return ", ".join(
            f"{record['pictures']:,} images of {record['title']}"
            for record in self.sets
            if record["pictures"]
        )


def phantoms(count: int) -> Phantom:
    """Phantom patients for pre-training, none of whom is in the phantom data sets."""
    return Phantom("phantom-14", seed=POPULATION, train=count, val=1, test=1)


def image_side(input_size: int, reports: bool = False) -> int:
    """Side of the collected images; masked record modelling predicts at twice the input size."""
    return 2 * input_size if reports else cache_side(input_size)


def collect(
    phantom: Phantom | None,
    real: Sequence[ChestDataset],
    cache: Path,
    side: int,
    *,
    share: float = REAL_SHARE,
    reports: bool = False,
    dense: bool = False,
    progress: Progress | None = None,
) -> Collection:
    """Mix the training images of several data sets.

    Only training splits are used. An image is left out if it is similar to a validation or test
    image of any of the sets (two sets can contain the same radiographs), or to an image that was
    already added. ``share`` determines how often each image is repeated; among real data sets the
    share is divided by the square root of their sizes, so that small sets keep some weight.

    Args:
        phantom: Phantoms, or None.
        real: Data sets of real radiographs.
        cache: Folder of decoded images.
        side: Side of the images in pixels.
        share: Share of real images in an epoch, if there are phantoms.
        reports: Whether to write the phantoms' reports; real images have no report.
        dense: Whether to make the phantoms' dense targets; real images have none.
        progress: Called for each data set with the number of images that are ready and the total.

    Raises:
        ConfigurationError: There is no data set, or the share is not between 0 and 1.
    """
    if phantom is None and not real:
        raise ConfigurationError(
            "Pre-training needs images.",
            "Give a number of phantoms (--images) or a data set (--data).",
        )
    if not 0 < share < 1:
        raise ConfigurationError("The share of real images must be between 0 and 1.")
    parts: list[NDArray[np.uint8]] = []
    sets: list[dict[str, Any]] = []
    if phantom is not None:
        parts.append(gather(phantom, phantom.ids("train"), cache, side, progress, side))
        sets.append(_record(phantom, len(parts[0]), left_out=0))
    known = _held_out_hashes(real, cache, side, progress)
    for dataset in real:
        images = gather(dataset, dataset.ids("train"), cache, side, progress, side)
        hashes = _hashes(images)
        new = image_scan.distinct(hashes, known)
        known += [hashes[i] for i in new]
        parts.append(images[new])
        sets.append(_record(dataset, len(new), left_out=len(images) - len(new)))
    counts = np.array([len(part) for part in parts], np.int64)
    times = np.ones(len(parts), np.int64)
    first = 0 if phantom is None else 1
    if real:
        wanted = counts[0] * share / (1 - share) if first else 0
        times[first:] = _repetitions(counts[first:], wanted)
    for record, count, repetitions in zip(sets, counts, times, strict=True):
        record["times_an_epoch"] = int(repetitions)
        record["share"] = round(float(count * repetitions / int(counts @ times)), 3)
    texts = _reports(phantom, int(counts.sum())) if reports else None
    maps = None
    if dense and phantom is not None:
        maps = collect_dense(phantom, phantom.ids("train"), cache, DENSE_SIDE, progress)
    return Collection(np.concatenate(parts), np.repeat(times, counts), texts, maps, tuple(sets))


def _reports(phantom: Phantom | None, images: int) -> tuple[str, ...]:
    """The phantoms' reports, followed by empty texts for the real images."""
    written = [] if phantom is None else [phantom.report(i) for i in phantom.ids("train")]
    return (*written, *[""] * (images - len(written)))


def _record(dataset: ChestDataset, images: int, left_out: int) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "title": dataset.title,
        "licence": dataset.licence,
        "citation": dataset.citation,
        "split": f"train of: {dataset.split_name}",
        "pictures": images,
        "left_out": left_out,
    }


def _held_out_hashes(
    real: Sequence[ChestDataset], cache: Path, side: int, progress: Progress | None
) -> list[bytes]:
    hashes: list[bytes] = []
    for dataset in real:
        ids = [study for split in HELD_OUT for study in dataset.ids(split)]
        hashes += _hashes(gather(dataset, ids, cache, side, progress, side))
    return hashes


def _hashes(images: NDArray[np.uint8]) -> list[bytes]:
    return [image_scan.perceptual_hash(image) for image in images]


def _repetitions(counts: NDArray[np.int64], wanted: float) -> NDArray[np.int64]:
    """How often the images of each data set are repeated, for ``wanted`` images in total."""
    roots = np.sqrt(counts)
    least = float(roots.max() * roots.sum())  # with which the largest set is not repeated
    times = max(wanted, least) * roots / max(roots.sum(), 1) / np.maximum(counts, 1)
    return np.where(counts, np.maximum(1, np.round(times)), 0).astype(np.int64)


def gather(
    dataset: ChestDataset,
    ids: Sequence[str],
    cache: Path,
    input_size: int,
    progress: Progress | None = None,
    side: int | None = None,
) -> NDArray[np.uint8]:
    """Read images into one array, each cropped to its central square.

    Args:
        dataset: The data set.
        ids: The studies.
        cache: Folder of decoded images.
        input_size: Side of the model's input in pixels; by default the images are a little larger.
        progress: Called with the number of images that are ready and the total.
        side: Side of the images in pixels; by default it follows from ``input_size``.

    Returns:
        Grey images, uint8 of shape (studies, side, side).
    """
    side = side or cache_side(input_size)
    images = ImageCache(cache, dataset, side)
    images.ensure(list(ids), progress=progress)
    squares = np.empty((len(ids), side, side), np.uint8)
    for i, study in enumerate(ids):
        image = images.get(study)
        top, left = ((length - side) // 2 for length in image.shape)
        squares[i] = image[top : top + side, left : left + side]
    return squares


def make_probe(cache: Path, input_size: int, dataset: ChestDataset | None = None) -> Probe:
    """A linear probe for a data set's findings: fitted on training, scored on validation studies.

    Args:
        cache: Folder of decoded images.
        input_size: Side of the model's input in pixels.
        dataset: The data set; by default ``phantom-14``.
    """
    from core.pretraining.linear_probe import linear_probe

    dataset = dataset or Phantom("phantom-14")
    parts = []
    for split in ("train", "val"):
        # Shuffled, because some data sets are sorted by finding.
        order = np.random.default_rng(0).permutation(dataset.ids(split))[:PROBE_STUDIES]
        ids = [str(study) for study in order]
        parts.append((gather(dataset, ids, cache, input_size), dataset.labels(ids)))
    return linear_probe(parts[0], parts[1], input_size=input_size)
