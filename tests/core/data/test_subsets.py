"""Which studies a run learns from: by a fraction, or by a list that is given back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.config.run import DataSpec
from core.data import splits, subsets
from core.data.base import ChestDataset
from core.data.datasets.registry import open_data
from core.errors import DataError

Made = Callable[[str], Any]


def opened(layout: Any) -> ChestDataset:
    return open_data(DataSpec(name=layout.name, root=layout.root, split=layout.split,
                              **layout.options))  # fmt: skip


def test_a_written_subset_is_read_as_the_same_studies(opened: Any, tmp_path: Path) -> None:
    _, dataset = opened
    for fraction, seed in ((0.2, 0), (1.0, 3)):
        ids = splits.subset(dataset, fraction, seed)
        path = tmp_path / f"{fraction}.txt"
        splits.write_list(path, dataset, ids)
        spec = DataSpec(name=dataset.name, split_file=path, label_fraction=0.5)
        assert subsets.labelled(dataset, spec) == ids
        assert subsets.differing(dataset, path) == 0


@pytest.mark.parametrize("name", ["nih-paper", "chexpert-paper", "rsna-paper"])
def test_lists_in_the_published_form_are_read_and_written(
    name: str, made: Made, tmp_path: Path
) -> None:
    layout = made(name)
    dataset = opened(layout)
    ids = dataset.ids("train")[3:9]
    splits.write_list(tmp_path / "ours.txt", dataset, ids)
    first = (tmp_path / "ours.txt").read_text().splitlines()[0].split()[0]
    shape = {"nih-paper": ids[0], "chexpert-paper": f"CheXpert-v1.0-small/{ids[0]}",
             "rsna-paper": f"stage_2_train_images/{ids[0]}.dcm"}[name]  # fmt: skip
    assert first == shape
    (tmp_path / "names.txt").write_text("\n".join([*reversed(ids), ids[0]]))
    assert subsets.listed(dataset, tmp_path / "ours.txt") == ids
    assert subsets.listed(dataset, tmp_path / "names.txt") == ids


def test_studies_are_found_by_path_name_or_stem(made: Made, tmp_path: Path) -> None:
    dataset = opened(made("folder-classes"))
    one, two, three = dataset.ids("train")[:3]
    lines = [f"C:\\data\\{one}".replace("/", "\\"), Path(two).name, Path(three).stem]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    assert subsets.listed(dataset, tmp_path / "list.txt") == [one, two, three]


def test_names_that_two_studies_share_are_not_guessed(tmp_path: Path) -> None:
    for patient in ("a", "b", "c", "d", "e", "f"):
        for finding in ("Mass", "normal"):
            place = tmp_path / "own" / "train" / finding / patient / "1.png"
            place.parent.mkdir(parents=True)
            place.write_bytes(b"x")
    dataset = open_data(DataSpec(name="folder", root=tmp_path / "own"))
    one = dataset.ids("train")[0]
    (tmp_path / "list.txt").write_text(one.removeprefix("train/"))
    with pytest.raises(DataError, match="1 of 1 names"):
        subsets.listed(dataset, tmp_path / "list.txt")
    (tmp_path / "list.txt").write_text(f"/elsewhere/{one}")
    assert subsets.listed(dataset, tmp_path / "list.txt") == [one]


def test_a_leak_names_patients(made: Made, tmp_path: Path) -> None:
    dataset = opened(made("nih"))
    tested = dataset.ids("test")[0]
    path = tmp_path / "list.txt"
    path.write_text("\n".join([*dataset.ids("train")[:3], tested]))
    with pytest.raises(DataError, match="1 of 4 studies") as caught:
        subsets.listed(dataset, path)
    assert f"(patients {dataset.study(tested).patient})" in str(caught.value)
    assert caught.value.field == "data.split_file"


def test_lists_of_something_else_are_refused(made: Made, tmp_path: Path) -> None:
    dataset = opened(made("nih"))
    (tmp_path / "list.txt").write_text("other.png\n" + dataset.ids("train")[0])
    with pytest.raises(DataError, match=r"1 of 2 names .*other\.png") as caught:
        subsets.listed(dataset, tmp_path / "list.txt")
    assert caught.value.field == "data.split_file"
    with pytest.raises(DataError, match="cannot be read") as caught:
        subsets.listed(dataset, tmp_path / "gone.txt")
    assert caught.value.field == "data.split_file"


def test_labels_that_differ_from_the_list_s_are_counted(made: Made, tmp_path: Path) -> None:
    dataset = opened(made("rsna"))
    ids = dataset.ids("train")[:5]
    flipped = 1 - dataset.labels(ids).astype(int)[:, 0]
    flipped[2:] = 1 - flipped[2:]
    rows = [f"{one} {label}" for one, label in zip(ids, flipped, strict=True)]
    (tmp_path / "list.txt").write_text("\n".join(rows))
    assert subsets.differing(dataset, tmp_path / "list.txt") == 2
    (tmp_path / "list.txt").write_text("\n".join(f"{one} 0 1" for one in ids))
    assert subsets.differing(dataset, tmp_path / "list.txt") == 0


def test_images_that_may_be_left_out_may_be_listed(fresh: Made, tmp_path: Path) -> None:
    layout = fresh("nih")
    ids = opened(layout).ids("train")
    splits.write_list(tmp_path / "list.txt", opened(layout), ids)
    layout.files[ids[1]].unlink()
    dataset = open_data(DataSpec(name="nih", root=layout.root, skip_bad=True))
    assert subsets.listed(dataset, tmp_path / "list.txt") == [ids[0], *ids[2:]]
    assert subsets.differing(dataset, tmp_path / "list.txt") == 0


class Listed(ChestDataset):
    """A published list as a data set: its first files' names tell the patients."""

    title, licence, name, split_name, citation = "Listed", "", "listed", "paper", ""

    def __init__(self, read: splits.SplitList, pattern: str) -> None:
        self.findings = tuple(f"F{i}" for i in range(read.labels.shape[1]))
        self.table = pd.DataFrame(read.labels.astype(float), index=list(read.files),
                                  columns=list(self.findings))  # fmt: skip
        self.table = self.table[~self.table.index.duplicated()]
        people = pd.Series(self.table.index).str.extract(pattern)[0].to_numpy(str)
        self.table.insert(0, "patient", people)
        self.table.insert(1, "split", "train")

    def read(self, study_id: str, short_side: int | None = None) -> Any:
        raise NotImplementedError

    def source_key(self, study_id: str) -> str:
        return ""


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize(
    ("folder", "pattern", "sizes"),
    [
        (
            "NIH_ChestX-ray",
            r"^(\d+)_",
            {0.01: (785, 787), 0.1: (7_847, 7_850), 1.0: (78_468, 78_468)},
        ),
        (
            "RSNA_Pneumonia",
            r"([^/]+)\.dcm$",
            {0.01: (251, 252), 0.1: (2_518, 2_518), 1.0: (25_184, 25_184)},
        ),
    ],
)
def test_subsets_come_near_the_paper_s_sizes(
    folder: str, pattern: str, sizes: dict[float, tuple[int, int]], real_data: Path
) -> None:
    lists = real_data / "med_peft_splits" / folder
    names = {0.01: "train_1.txt", 0.1: "train_10.txt", 1.0: "train_list.txt"}
    whole = Listed(splits.read_list(lists / names[1.0]), pattern)
    before: set[str] = set()
    for fraction, (published, drawn) in sizes.items():
        read = splits.read_list(lists / names[fraction])
        assert len(read.files) == published
        listed = set(read.files)
        in_order = [one for one in whole.ids("train") if one in listed]
        assert subsets.listed(whole, lists / names[fraction]) == in_order
        # Ours are whole patients, nested, and have every finding; the published ones are neither.
        ours = splits.subset(whole, fraction, 0)
        assert len(ours) == drawn
        assert before <= set(ours)
        assert min(splits.positives(whole, ours).values()) >= 1
        before = set(ours)


@pytest.mark.real
def test_the_published_lists_of_chexpert_are_subsets_too(real_data: Path) -> None:
    lists = real_data / "med_peft_splits" / "CheXpert"
    tenth = splits.read_list(lists / "train_10.txt")
    assert len(tenth.files) == 22_341
    whole = Listed(tenth, r"(patient\d+)")
    ours = splits.subset(whole, 0.1, 0)
    assert len(ours) == 2_234
    assert np.isin(splits.read_list(lists / "train_1.txt").labels, (0, 1)).all()


def test_shuffled_labels_keep_their_rows_and_prevalence(made: Made) -> None:
    dataset = opened(made("nih"))
    ids = dataset.ids("train")
    data = DataSpec(name="nih", subset_seed=3)
    known = subsets.labels(dataset, ids, data)
    assert np.array_equal(known, dataset.labels(ids))
    shuffled = subsets.labels(dataset, ids, data.model_copy(update={"shuffle_labels": True}))
    assert not np.array_equal(shuffled, known)
    assert sorted(map(tuple, shuffled)) == sorted(map(tuple, known))
    again = data.model_copy(update={"shuffle_labels": True, "subset_seed": 4})
    assert not np.array_equal(subsets.labels(dataset, ids, again), shuffled)
