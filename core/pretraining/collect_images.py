"""Pictures for pre-training a small foundation model, and the readouts it is watched by.

The pictures of ``core.data`` and the training of ``core.models`` meet here, since neither knows the
other.
"""

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

if TYPE_CHECKING:
    from core.pretraining.trainer import Probe

POPULATION = 20_240_112
"""Seed of the phantom patients that pre-training sees: none of them is in a shipped data set."""

CROPS = {False: (0.4, 1.0), True: (0.6, 1.0)}
"""Smallest and largest crop, as a share of the picture, without and with reports: what a report
names should still be on it."""

PROBE_STUDIES = 400
REAL_SHARE = 0.5

HELD_OUT = ("val", "test")
"""Splits that pre-training never sees, nor pictures that look like one of theirs."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Collection:
    """Pictures of several sets in one array.

    Attributes:
        pictures: Grey, of shape (pictures, side, side).
        times: How often each is seen in an epoch.
        reports: The report of each, empty where there is none; None if they were not asked for.
        sets: For the card: name, title, licence, split, counts and share of each set.
    """

    pictures: NDArray[np.uint8]
    times: NDArray[np.int64]
    reports: tuple[str, ...] | None
    sets: tuple[dict[str, Any], ...]

    def sentence(self) -> str:
        """What the pictures are, in a sentence."""
        taken = [one for one in self.sets if one["pictures"]]
        named = [f"{one['pictures']:,} pictures of {one['title']}" for one in taken]
        return ", ".join(named)


def phantoms(count: int) -> Phantom:
    """Phantom patients for pre-training, disjoint from those of the shipped data sets."""
    return Phantom("phantom-14", seed=POPULATION, train=count, val=1, test=1)


def kept_side(input_size: int, reports: bool = False) -> int:
    """Side of the pictures that are kept: masked records draw them twice as large as they see."""
    return 2 * input_size if reports else cache_side(input_size)


def collect(
    drawn: Phantom | None,
    real: Sequence[ChestDataset],
    cache: Path,
    side: int,
    *,
    share: float = REAL_SHARE,
    reports: bool = False,
    progress: Progress | None = None,
) -> Collection:
    """Mix the training pictures of several sets.

    Of each set only the training split is taken, and of that no picture that looks like a
    validation or test picture of any of them (two sets may hold the same radiographs), or like one
    that is there already. What is seen how often follows from ``share``; real sets share it by the
    square root of their sizes, so that a small one is not lost beside a large one.

    Args:
        drawn: Phantoms, or None.
        real: Sets of real radiographs.
        cache: Folder of decoded images.
        side: Side of the pictures, in pixels.
        share: Share of an epoch that real pictures make up, where there are phantoms.
        reports: Whether to write the phantoms' reports; real pictures have none here.
        progress: Told how many of how many are there, for each set.

    Raises:
        ConfigurationError: There is no set, or the share is not between 0 and 1.
    """
    if drawn is None and not real:
        raise ConfigurationError(
            "Pre-training needs pictures.",
            "Give a number of phantoms (--images) or a set (--data).",
        )
    if not 0 < share < 1:
        raise ConfigurationError("The share of real pictures lies between 0 and 1.")
    parts: list[NDArray[np.uint8]] = []
    sets: list[dict[str, Any]] = []

    def add(dataset: ChestDataset, pictures: NDArray[np.uint8], left_out: int) -> None:
        parts.append(pictures)
        sets.append(
            {
                "name": dataset.name,
                "title": dataset.title,
                "licence": dataset.licence,
                "citation": dataset.citation,
                "split": f"train of: {dataset.split_name}",
                "pictures": len(pictures),
                "left_out": left_out,
            }
        )

    if drawn is not None:
        add(drawn, gather(drawn, drawn.ids("train"), cache, side, progress, side), 0)
    held = [
        gather(one, [i for split in HELD_OUT for i in one.ids(split)], cache, side, progress, side)
        for one in real
    ]
    known = _hashes(np.concatenate(held)) if held else []
    for dataset in real:
        pictures = gather(dataset, dataset.ids("train"), cache, side, progress, side)
        hashes = _hashes(pictures)
        new = image_scan.distinct(hashes, known)
        known += [hashes[i] for i in new]
        add(dataset, pictures[new], len(pictures) - len(new))
    texts = None
    if reports:
        written = [] if drawn is None else [drawn.report(one) for one in drawn.ids("train")]
        texts = (*written, *[""] * (sum(map(len, parts)) - len(written)))
    first = 0 if drawn is None else 1
    counts = np.array([len(part) for part in parts], np.int64)
    each = np.ones(len(parts), np.int64)
    if real:
        each[first:] = _times(counts[first:], counts[0] * share / (1 - share) if first else 0)
    total = int(counts @ each)
    for told, count, often in zip(sets, counts, each, strict=True):
        told["times_an_epoch"] = int(often)
        told["share"] = round(float(count * often / total), 3)
    return Collection(np.concatenate(parts), np.repeat(each, counts), texts, tuple(sets))


def _hashes(pictures: NDArray[np.uint8]) -> list[bytes]:
    return [image_scan.perceptual_hash(one) for one in pictures]


def _times(counts: NDArray[np.int64], wanted: float) -> NDArray[np.int64]:
    """How often the pictures of each set are taken, to make up so many together."""
    roots = np.sqrt(counts)
    least = float(roots.max() * roots.sum())  # then the largest set is taken once
    often = max(wanted, least) * roots / max(roots.sum(), 1) / np.maximum(counts, 1)
    return np.where(counts, np.maximum(1, np.round(often)), 0).astype(np.int64)


def gather(
    dataset: ChestDataset,
    ids: Sequence[str],
    cache: Path,
    input_size: int,
    progress: Callable[[int, int], None] | None = None,
    side: int | None = None,
) -> NDArray[np.uint8]:
    """Read pictures as one array, each cut to the square in its middle.

    Args:
        dataset: Where they come from.
        ids: Which ones.
        cache: Folder of decoded images.
        input_size: Side of the model's input, in pixels; the pictures are kept a little larger.
        progress: Told how many of how many are there.
        side: Side of the pictures that are kept, in pixels, if it is to be another one.

    Returns:
        Grey pictures of shape (studies, side, side).
    """
    side = side or cache_side(input_size)
    pictures = ImageCache(cache, dataset, side)
    pictures.ensure(list(ids), progress=progress)
    squares = np.empty((len(ids), side, side), np.uint8)
    for i, one in enumerate(ids):
        picture = pictures.get(one)
        top, left = ((length - side) // 2 for length in picture.shape)
        squares[i] = picture[top : top + side, left : left + side]
    return squares


def readout(cache: Path, input_size: int, dataset: ChestDataset | None = None) -> Probe:
    """A linear probe on a data set's findings: training against validation studies.

    Args:
        cache: Folder of decoded images.
        input_size: Side of the model's input, in pixels.
        dataset: The data set; by default ``phantom-14``.
    """
    from core.pretraining.linear_probe import linear_probe

    dataset = dataset or Phantom("phantom-14")
    parts = []
    for split in ("train", "val"):
        # Some sets are sorted by finding: the first studies would all be without.
        order = np.random.default_rng(0).permutation(dataset.ids(split))[:PROBE_STUDIES]
        ids = [str(one) for one in order]
        parts.append((gather(dataset, ids, cache, input_size), dataset.labels(ids)))
    return linear_probe(parts[0], parts[1], input_size=input_size)
