"""Order, seeds and prefetching of batches."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from torch import Tensor

WHOLE = slice(None)

T = TypeVar("T")


def chunks(ids: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Cut a sequence into runs of at most ``size``."""
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def step_seed(seed: int, epoch: int, step: int) -> int:
    """A seed for one step that depends on nothing that happened before it.

    With every random draw of a step seeded so, a resumed run needs no saved random state to go on
    exactly as if it had never been interrupted.
    """
    return int(np.random.SeedSequence([seed, epoch, step]).generate_state(1, np.uint64)[0] >> 1)


def copy_seed(study_id: str, copy: int) -> int:
    """A seed for one augmented copy of one study, the same in every run."""
    drawn = hashlib.blake2b(f"{copy}/{study_id}".encode(), digest_size=8).digest()
    return int.from_bytes(drawn, "little") >> 1


def batches(ids: Sequence[str], batch_size: int, seed: int, epoch: int) -> list[list[str]]:
    """Shuffle one epoch's studies and cut them into batches of nearly equal size.

    Equal sizes leave no small last batch, whose noisy gradient would count as much as the others'.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(ids))
    steps = max(1, -(-len(ids) // batch_size))
    return [[ids[i] for i in part] for part in np.array_split(order, steps)]


def pieces_of(count: int, pieces: int) -> list[slice]:
    """Cut ``count`` studies into so many consecutive pieces of nearly equal size."""
    ends = [round(i * count / pieces) for i in range(pieces + 1)]
    return [slice(start, end) for start, end in itertools.pairwise(ends)]


def one_ahead(load: Callable[[int], Tensor], start: int, end: int) -> Iterator[tuple[int, Tensor]]:
    """Yield ``(i, load(i))`` while the next one is being loaded in another thread."""
    with ThreadPoolExecutor(1, thread_name_prefix="feed") as thread:
        coming = thread.submit(load, start) if start < end else None
        for i in range(start, end):
            assert coming is not None
            ready = coming.result()
            coming = thread.submit(load, i + 1) if i + 1 < end else None
            yield i, ready
