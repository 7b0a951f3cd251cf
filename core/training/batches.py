"""Batches: order, seeds, micro-batches and prefetching."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from torch import Tensor

WHOLE = slice(None)
"""Slice that selects the whole batch."""

T = TypeVar("T")


def chunks(ids: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Divide a sequence into consecutive parts of at most ``size`` items."""
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def step_seed(seed: int, epoch: int, step: int) -> int:
    """Seed of one training step, independent of all steps before it.

    All random numbers of a step are drawn from this seed, so that a resumed run continues exactly
    like an uninterrupted one without a saved generator state.
    """
    return int(np.random.SeedSequence([seed, epoch, step]).generate_state(1, np.uint64)[0] >> 1)


def copy_seed(study_id: str, copy: int) -> int:
    """Seed of one augmented copy of a study, the same in every run."""
    digest = hashlib.blake2b(f"{copy}/{study_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def batches(ids: Sequence[str], batch_size: int, seed: int, epoch: int) -> list[list[str]]:
    """Shuffle the studies of one epoch and divide them into batches of nearly equal size.

    Equal sizes avoid a small last batch, whose noisy gradient would count as much as the others.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(ids))
    steps = max(1, -(-len(ids) // batch_size))
    return [[ids[i] for i in part] for part in np.array_split(order, steps)]


def micro_batch_slices(studies: int, count: int) -> list[slice]:
    """Divide ``studies`` studies into ``count`` consecutive micro-batches of nearly equal size."""
    ends = [round(i * studies / count) for i in range(count + 1)]
    return [slice(start, end) for start, end in itertools.pairwise(ends)]


def prefetched(load: Callable[[int], Tensor], start: int, end: int) -> Iterator[tuple[int, Tensor]]:
    """Yield ``(i, load(i))`` while another thread loads the next item."""
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as thread:
        future = thread.submit(load, start) if start < end else None
        for i in range(start, end):
            assert future is not None
            item = future.result()
            future = thread.submit(load, i + 1) if i + 1 < end else None
            yield i, item
