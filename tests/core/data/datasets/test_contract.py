"""What every data set has to do, tried on a small copy of each layout."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.data import splits
from core.data.base import SPLITS, ChestDataset
from core.data.cache.image_cache import ImageCache
from core.data.datasets.registry import DATASETS, open_dataset
from core.errors import DataError

Opened = tuple[Any, ChestDataset]
ON_FILES = (
    "nih", "nih-paper", "chexpert", "chexpert-full", "chexpert-paper", "rsna", "rsna-paper",
    "mimic", "mimic-frontal", "padchest", "padchest-physicians", "vindr",
    "folder-classes", "folder-flat", "folder-table", "folder-described",
)  # fmt: skip


def test_table_has_the_agreed_columns(opened: Opened) -> None:
    layout, dataset = opened
    table = dataset.table
    assert list(table.columns) == ["patient", "split", "sex", "age", "view", *dataset.findings]
    assert table.index.is_unique
    assert all(isinstance(one, str) for one in [*table.index, *table["patient"]])
    assert set(table.index) == set(layout.expected)
    assert set(table["split"]) == set(SPLITS)
    assert table["sex"].isin(["M", "F", ""]).all()
    assert table["view"].isin(["PA", "AP", "LATERAL", ""]).all()
    assert pd.api.types.is_float_dtype(table["age"])
    for name in dataset.findings:
        assert pd.api.types.is_float_dtype(table[name])
        assert set(table[name].dropna()) <= {0.0, 1.0}


def test_it_says_what_it_is(opened: Opened) -> None:
    layout, dataset = opened
    entry = DATASETS[layout.name]
    assert dataset.name == layout.name
    assert dataset.split_name
    assert dataset.licence
    assert isinstance(dataset.title, str)
    assert bool(dataset.notes) == layout.notes
    if entry.findings:
        assert dataset.findings == entry.findings


def test_splits_cover_the_table_and_share_no_patient(opened: Opened) -> None:
    _, dataset = opened
    parts = [dataset.ids(one) for one in SPLITS]
    assert all(parts)
    assert sorted(one for part in parts for one in part) == sorted(dataset.table.index)
    patients = [set(dataset.table.loc[part, "patient"]) for part in parts]
    assert not patients[0] & patients[1]
    assert not (patients[0] | patients[1]) & patients[2]


def test_labels_and_patients_are_those_of_the_layout(opened: Opened) -> None:
    layout, dataset = opened
    ids = list(dataset.table.index)
    labels = dataset.labels(ids)
    assert labels.shape == (len(ids), len(dataset.findings))
    assert labels.dtype == np.float32
    for one, row in zip(ids, labels, strict=True):
        marked = {name for name, label in zip(dataset.findings, row, strict=True) if label == 1}
        assert marked == layout.labels[one], one
        assert dataset.study(one).patient == layout.patients[one]


def test_images_are_read_as_they_were_written(opened: Opened) -> None:
    layout, dataset = opened
    for one, expected in layout.expected.items():
        found = dataset.read(one)
        assert found.dtype == np.uint8
        assert found.shape == expected.shape
        difference = np.abs(found.astype(int) - expected)
        assert difference.mean() <= layout.tolerance / 2, one
        assert found[:2, :2].max() < 30 < found[20, 20], one


@pytest.mark.parametrize("side", [16, 40, 96])
def test_images_come_at_the_side_asked_for(opened: Opened, side: int) -> None:
    layout, dataset = opened
    one = dataset.ids("test")[0]
    found = dataset.read(one, short_side=side)
    height, width = layout.expected[one].shape
    assert min(found.shape) == side
    assert found.shape[1] / found.shape[0] == pytest.approx(width / height, rel=0.05)
    assert np.array_equal(found, dataset.read(one, short_side=side))


def test_studies_tell_what_the_table_tells(opened: Opened) -> None:
    layout, dataset = opened
    for one in dataset.ids("test"):
        study = dataset.study(one)
        row = dataset.table.loc[one]
        assert (study.id, study.split) == (one, row["split"])
        assert list(study.findings) == list(dataset.findings)
        assert len(study.boxes) == layout.boxes.get(one, 0)


def test_boxes_lie_in_the_image_and_have_known_findings(opened: Opened) -> None:
    layout, dataset = opened
    counted = {one: dataset.boxes(one) for one in dataset.table.index}
    assert {one: len(boxes) for one, boxes in counted.items() if boxes} == layout.boxes
    for one, boxes in counted.items():
        height, width = layout.expected[one].shape
        for box in boxes:
            assert box.finding in dataset.findings
            assert 0 <= box.x < box.x + box.width <= width
            assert 0 <= box.y < box.y + box.height <= height


def test_unknown_studies_and_splits_are_refused(opened: Opened) -> None:
    _, dataset = opened
    for refused in (dataset.study, dataset.read, dataset.source_key):
        with pytest.raises(DataError, match="no study “nobody”"):
            refused("nobody")
    with pytest.raises(DataError, match="Known splits: train, val, test"):
        dataset.ids("dev")


def test_it_can_be_sent_to_another_process(opened: Opened) -> None:
    _, dataset = opened
    one = dataset.ids("train")[0]
    again = pickle.loads(pickle.dumps(dataset))
    assert np.array_equal(again.read(one), dataset.read(one))
    assert again.source_key(one) == dataset.source_key(one)


def test_it_can_be_cached(opened: Opened, tmp_path: Path) -> None:
    _, dataset = opened
    ids = list(dataset.table.index)
    cache = ImageCache(tmp_path, dataset, 20)
    assert cache.ensure(ids)
    for one in ids:
        assert np.array_equal(cache.get(one), dataset.read(one, short_side=20))


def test_label_fractions_can_be_drawn(opened: Opened) -> None:
    _, dataset = opened
    few, more = splits.subset(dataset, 0.2, 1), splits.subset(dataset, 0.6, 1)
    assert set(few) < set(more) < set(dataset.ids("train"))
    everything = splits.positives(dataset, dataset.ids("train"))
    assert all(count > 0 for name, count in splits.positives(dataset, few).items()
               if everything[name])  # fmt: skip


def test_opening_twice_gives_the_same(opened: Opened) -> None:
    layout, dataset = opened
    again = open_dataset(layout.name, str(layout.root), layout.split, **layout.options)
    pd.testing.assert_frame_equal(again.table, dataset.table)


@pytest.mark.parametrize("name", [one for one in DATASETS if DATASETS[one].needs_root])
def test_folders_that_are_not_there_are_refused(name: str, tmp_path: Path) -> None:
    empty = re.escape(str(tmp_path))
    for root, words in ((None, "needs a folder"), (tmp_path / "no", "does not exist"),
                        (tmp_path, empty)):  # fmt: skip
        with pytest.raises(DataError, match=words) as caught:
            open_dataset(name, root)
        assert caught.value.field == "data.root"
        assert caught.value.remedy


@pytest.mark.parametrize("name", ON_FILES)
def test_a_missing_image_is_named(name: str, fresh: Callable[[str], Any]) -> None:
    layout = fresh(name)
    lost = next(iter(layout.files))
    layout.files[lost].unlink()
    if name in ("folder-classes", "folder-flat", "folder-described"):
        # What is there is what counts; the image is simply no part of the set.
        dataset = open_dataset(layout.name, layout.root, layout.split, **layout.options)
        assert lost not in dataset.table.index
        return
    with pytest.raises(DataError, match="1 of") as caught:
        open_dataset(layout.name, layout.root, layout.split, **layout.options)
    assert Path(lost).name in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("name", ON_FILES)
def test_a_truncated_image_is_named_and_the_others_are_kept(
    name: str, fresh: Callable[[str], Any], tmp_path: Path
) -> None:
    layout = fresh(name)
    dataset = open_dataset(layout.name, layout.root, layout.split, **layout.options)
    ids = list(dataset.table.index)
    damaged = layout.files[ids[3]]
    damaged.write_bytes(damaged.read_bytes()[:-40])
    cache = ImageCache(tmp_path / "cache", dataset, 20)
    with pytest.raises(DataError, match=f"1 of {len(ids)} images cannot be read") as caught:
        cache.ensure(ids)
    assert damaged.name in str(caught.value)
    assert cache.missing(ids) == [ids[3]]


@pytest.mark.parametrize("name", ON_FILES)
def test_a_changed_file_has_another_source_key(name: str, fresh: Callable[[str], Any]) -> None:
    layout = fresh(name)
    dataset = open_dataset(layout.name, layout.root, layout.split, **layout.options)
    one = next(iter(layout.files))
    before = dataset.source_key(one)
    assert dataset.source_key(one) == before
    layout.files[one].write_bytes(layout.files[one].read_bytes() + b"\0")
    assert dataset.source_key(one) != before
