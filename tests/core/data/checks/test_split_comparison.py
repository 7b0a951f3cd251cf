"""Two data sets' splits are told apart by labels in order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.data.base import SPLITS, ChestDataset
from core.data.checks.split_comparison import compare
from core.data.datasets.registry import open_dataset
from core.data.findings import NIH
from core.errors import DataError

Made = Callable[[str], Any]


@pytest.fixture
def paper(made: Made) -> ChestDataset:
    return open_dataset("nih", made("nih-paper").root, "paper")


def as_npz(dataset: ChestDataset, folder: Path, order: Callable[[int], Any]) -> ChestDataset:
    """The same splits as MedMNIST would hold them, pictures apart, in some order."""
    arrays = {}
    for split in SPLITS:
        labels = dataset.labels(dataset.ids(split)).astype(np.uint8)
        labels = labels[order(len(labels))]
        arrays[f"{split}_labels"] = labels
        arrays[f"{split}_images"] = np.zeros((len(labels), 28, 28), np.uint8)
    folder.mkdir()
    np.savez(folder / "chestmnist.npz", **arrays)
    return open_dataset("chestmnist", folder)


def test_the_same_order_is_recognised(paper: ChestDataset, tmp_path: Path) -> None:
    found = compare(paper, as_npz(paper, tmp_path / "a", np.arange))
    # The copies are small: train alone is large enough for its order to be beyond chance.
    train = found.splits[0]
    assert (train.verdict, train.agreeing) == ("same order", 1.0)
    assert train.chance < 0.5  # type: ignore[operator]
    assert {one.verdict for one in found.splits} <= {"same order", "unclear"}
    assert found.findings == NIH


def test_another_order_is_not_the_same(paper: ChestDataset, tmp_path: Path) -> None:
    other = as_npz(paper, tmp_path / "a", lambda count: np.roll(np.arange(count), 7))
    found = compare(paper, other)
    assert found.splits[0].verdict == "same labels"
    assert found.splits[0].shared == 1.0
    assert not found.same
    assert "another order" in found.sentence()


def test_other_labels_and_counts_are_told(paper: ChestDataset, made: Made, tmp_path: Path) -> None:
    found = compare(paper, open_dataset("nih", made("nih").root))
    assert "counts differ" in found.sentence()
    assert found.splits[0].agreeing is None
    other = as_npz(paper, tmp_path / "a", lambda count: np.zeros(count, int))
    found = compare(paper, other)
    assert {one.verdict for one in found.splits} == {"different"}
    assert "not the same pictures" in found.sentence()


def test_a_few_revised_labels_change_nothing(paper: ChestDataset, tmp_path: Path) -> None:
    other = as_npz(paper, tmp_path / "a", np.arange)
    one = other.ids("train")[0]
    other.table.loc[one, "Hernia"] = 1 - other.table.loc[one, "Hernia"]
    train = compare(paper, other).splits[0]
    assert train.agreeing == pytest.approx(1 - 1 / train.counts[0])
    assert train.verdict == ("same order" if train.agreeing >= 0.98 else "different")


def test_findings_are_matched_by_name(paper: ChestDataset, made: Made) -> None:
    with pytest.raises(DataError, match="share no finding"):
        compare(open_dataset("folder", made("folder-table").root),
                open_dataset("rsna", made("rsna").root))  # fmt: skip
    found = compare(paper, open_dataset("chexpert", made("chexpert").root))
    assert found.findings == ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema")
