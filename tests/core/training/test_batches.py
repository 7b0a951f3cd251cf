"""Batches, their seeds, micro-batches and prefetching."""

from collections import Counter

import pytest
import torch

from core.training import batches


def test_every_study_is_in_one_batch_of_nearly_equal_size() -> None:
    ids = [f"{i}" for i in range(65)]
    parts = batches.batches(ids, 64, seed=0, epoch=0)
    assert sorted(map(len, parts)) == [32, 33]
    assert Counter(one for part in parts for one in part) == Counter(ids)
    assert batches.batches(ids, 64, 0, 0) == parts
    assert batches.batches(ids, 64, 0, 1) != parts
    assert batches.batches(ids, 64, 1, 0) != parts
    assert batches.batches(ids[:1], 64, 0, 0) == [["0"]]
    assert [len(part) for part in batches.batches(ids[:64], 16, 0, 0)] == [16] * 4


def test_steps_have_seeds_of_their_own() -> None:
    seeds = [batches.step_seed(s, e, i) for s in range(4) for e in range(10) for i in range(50)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= one < 2**63 for one in seeds)
    assert batches.step_seed(0, 1, 2) == batches.step_seed(0, 1, 2)


def test_chunks_cover_everything_in_order() -> None:
    assert [list(one) for one in batches.chunks("abcde", 2)] == [["a", "b"], ["c", "d"], ["e"]]
    assert list(batches.chunks([], 2)) == []


def test_batches_come_in_order_and_one_is_prefetched() -> None:
    asked: list[int] = []

    def load(i: int) -> torch.Tensor:
        asked.append(i)
        return torch.tensor(i)

    found = []
    for i, one in batches.prefetched(load, 2, 6):
        assert max(asked) <= i + 1
        found.append((i, one.item()))
    assert found == [(i, i) for i in range(2, 6)]
    assert asked == [2, 3, 4, 5]
    assert list(batches.prefetched(load, 3, 3)) == []


def test_a_fault_while_loading_is_raised_where_the_batch_is_used() -> None:
    def load(i: int) -> torch.Tensor:
        if i == 1:
            raise OSError("gone")
        return torch.tensor(i)

    coming = batches.prefetched(load, 0, 3)
    assert next(coming)[0] == 0
    with pytest.raises(OSError, match="gone"):
        next(coming)


@pytest.mark.parametrize(("count", "pieces"), [(16, 3), (5, 5), (1, 1), (7, 2)])
def test_micro_batches_cover_all_and_differ_by_one(count: int, pieces: int) -> None:
    found = [range(count)[piece] for piece in batches.micro_batch_slices(count, pieces)]
    assert [one for piece in found for one in piece] == list(range(count))
    assert {len(piece) for piece in found} <= {count // pieces, -(-count // pieces)}
