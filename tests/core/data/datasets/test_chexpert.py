"""CheXpert: what its tables may say, and how uncertain labels are decided."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.config.run import DataSpec
from core.data import splits
from core.data.base import SPLITS
from core.data.datasets.registry import open_data, open_dataset
from core.data.findings import CHEXPERT, CHEXPERT_14
from core.errors import DataError
from tests.support.layouts import edit_table

Fresh = Callable[[str], Any]


@pytest.mark.parametrize("policy", ["mixed", "ones", "zeros", "ignore"])
def test_uncertain_labels_follow_the_policy(policy: str, made: Fresh) -> None:
    root = made("chexpert").root
    asked = DataSpec(name="chexpert", root=root, uncertainty=policy, findings="14")
    dataset = open_data(asked)
    assert dataset.findings == CHEXPERT_14
    read = pd.read_csv(root / "CheXpert-v1.0-small" / "train.csv").set_index("Path")
    read.index = read.index.str.removeprefix("CheXpert-v1.0-small/")
    ones = {"Atelectasis", "Edema", "Pleural Effusion"}
    for name in CHEXPERT_14:
        cells = read[name]
        rule = 1.0 if name in ones else 0.0 if name in CHEXPERT else np.nan
        becomes = {"mixed": rule, "ones": 1.0, "zeros": 0.0, "ignore": np.nan}[policy]
        expected = cells.fillna(0.0).where(cells != -1, becomes)
        found = dataset.table.loc[read.index, name]
        pd.testing.assert_series_equal(found, expected, check_names=False, check_index_type=False)
        assert (cells == -1).any()
    assert any("uncertain" in note for note in dataset.notes)


def test_facts_come_from_the_tables(made: Fresh) -> None:
    dataset = open_dataset("chexpert", made("chexpert").root)
    one = dataset.study("train/patient00001/study2/view1_frontal.jpg")
    assert (one.sex, one.age, one.view) == ("F", 21, "PA")
    other = dataset.study("train/patient00001/study2/view2_lateral.jpg")
    assert other.view == "LATERAL"
    assert dataset.study("train/patient00002/study3/view1_frontal.jpg").sex == ""
    tested = dataset.study("test/patient64741/study1/view1_frontal.jpg")
    assert (tested.sex, tested.age, tested.view, tested.split) == ("", None, "", "test")


@pytest.mark.parametrize("layout", ["chexpert", "chexpert-full", "chexpert-paper"])
def test_frontal_views_alone(layout: str, made: Fresh) -> None:
    one = made(layout)
    dataset = open_data(DataSpec(name="chexpert", root=one.root, split=one.split, views="frontal"))
    every = open_dataset("chexpert", one.root, one.split)
    assert not dataset.table["view"].eq("LATERAL").any()
    assert set(dataset.table.index) == {i for i in every.table.index if "frontal" in i}
    assert "frontal" in dataset.split_name


def test_without_test_labels_valid_csv_tests(made: Fresh) -> None:
    dataset = open_dataset("chexpert", made("chexpert-full").root)
    assert all(one.startswith("valid/") for one in dataset.ids("test"))
    assert all(one.startswith("train/") for one in dataset.ids("val"))
    assert any("no test labels" in note for note in dataset.notes)


def test_the_paper_s_lists_are_taken_as_they_are(made: Fresh) -> None:
    layout = made("chexpert-paper")
    dataset = open_dataset("chexpert", layout.root, "paper")
    for split, folder in zip(SPLITS, ("train", "valid", "test"), strict=True):
        assert all(one.startswith(f"{folder}/") for one in dataset.ids(split))
    assert dataset.study("valid/patient00041/study3/view1_frontal.jpg").sex == ""
    assert dataset.study("valid/patient00042/study1/view1_frontal.jpg").age == 62
    assert any("train_list.txt does not exist" in note for note in dataset.notes)
    assert "paper" in dataset.split_name


def test_a_training_list_that_is_there_is_used(fresh: Fresh) -> None:
    layout = fresh("chexpert-paper")
    listed = [one for one in layout.labels if one.startswith("train/")][:7]
    lines = [f"CheXpert-v1.0-small/{one} 1 0 0 0 0 " for one in listed]
    (layout.root / "CheXpert" / "train_list.txt").write_text("\n".join(lines))
    dataset = open_dataset("chexpert", layout.root, "paper")
    assert dataset.ids("train") == listed
    assert dataset.labels(listed).tolist() == [[1, 0, 0, 0, 0]] * 7


@pytest.mark.parametrize(("option", "value"), [("findings", "14"), ("uncertainty", "ones")])
def test_the_paper_s_labels_are_not_to_be_decided_anew(
    option: str, value: str, made: Fresh
) -> None:
    with pytest.raises(DataError, match="mixed rule") as caught:
        open_dataset("chexpert", made("chexpert-paper").root, "paper", **{option: value})
    assert caught.value.field == f"data.{option}"


@pytest.mark.parametrize("option", ["findings", "uncertainty", "views"])
def test_unknown_choices_are_answered_with_the_known_ones(option: str, made: Fresh) -> None:
    with pytest.raises(DataError, match="Known") as caught:
        open_data(DataSpec(name="chexpert", root=made("chexpert").root, **{option: "some"}))
    assert caught.value.field == f"data.{option}"


def test_a_mark_at_the_start_and_semicolons_change_nothing(fresh: Fresh) -> None:
    layout = fresh("chexpert")
    before = open_dataset("chexpert", layout.root).table
    table = layout.root / "CheXpert-v1.0-small" / "train.csv"
    read = pd.read_csv(table, dtype=str, keep_default_na=False)
    read.to_csv(table, index=False, sep=";", encoding="utf-8-sig")
    pd.testing.assert_frame_equal(open_dataset("chexpert", layout.root).table, before)


def test_test_labels_of_whole_studies_hold_for_their_views(fresh: Fresh) -> None:
    layout = fresh("chexpert")
    before = open_dataset("chexpert", layout.root).table
    table = layout.root / "CheXpert-v1.0-small" / "test_labels.csv"

    def by_study(read: pd.DataFrame) -> pd.DataFrame:
        read["Path"] = "CheXpert-v1.0/" + read["Path"].str.rsplit("/", n=1).str[0]
        return read.rename(columns={"Path": "Study"})

    edit_table(table, by_study)
    table.rename(table.with_name("groundtruth.csv"))
    pd.testing.assert_frame_equal(open_dataset("chexpert", layout.root).table, before)


def test_missing_columns_are_named_all_at_once(fresh: Fresh) -> None:
    layout = fresh("chexpert")
    table = layout.root / "CheXpert-v1.0-small" / "train.csv"
    edit_table(table, lambda read: read.drop(columns=["Sex", "Edema"]))
    with pytest.raises(DataError, match="no column Sex, Edema") as caught:
        open_dataset("chexpert", layout.root)
    assert "Columns of the file: Path, Age" in caught.value.remedy
    table.write_bytes(b"\x89PNG\r\n")
    with pytest.raises(DataError, match=r"train\.csv"):
        open_dataset("chexpert", layout.root)


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/train/patient00001/study1/view1_frontal.jpg",
        "train/../../patient00001/study1/view1_frontal.jpg",
        "/etc/passwd",
        "CheXpert-v1.0-small/train/patient00001/study1/../../x.jpg",
    ],
)
def test_paths_that_lead_elsewhere_are_refused(path: str, fresh: Fresh) -> None:
    layout = fresh("chexpert")
    table = layout.root / "CheXpert-v1.0-small" / "train.csv"
    edit_table(table, lambda read: read.assign(Path=[path, *read["Path"][1:]]))
    with pytest.raises(DataError, match="paths that are not CheXpert's") as caught:
        open_dataset("chexpert", layout.root)
    assert path in str(caught.value)


def test_a_patient_in_two_splits_is_named(fresh: Fresh) -> None:
    layout = fresh("chexpert")
    folder = layout.root / "CheXpert-v1.0-small"
    (folder / "valid" / "patient00041").rename(folder / "valid" / "patient00001")
    edit_table(
        folder / "valid.csv",
        lambda read: read.assign(Path=read["Path"].str.replace("patient00041", "patient00001")),
    )
    with pytest.raises(DataError, match="patient00001"):
        open_dataset("chexpert", layout.root)


@pytest.mark.parametrize("word", ["yes", "2", "1,0"])
def test_labels_that_are_none_are_refused(word: str, fresh: Fresh) -> None:
    layout = fresh("chexpert")
    table = layout.root / "CheXpert-v1.0-small" / "train.csv"
    edit_table(table, lambda read: read.assign(Edema=[word, *read["Edema"][1:]]))
    with pytest.raises(DataError, match="are not labels") as caught:
        open_dataset("chexpert", layout.root)
    assert f"“{word}”" in str(caught.value)


def test_rows_twice_count_once_and_must_not_differ(fresh: Fresh) -> None:
    layout = fresh("chexpert")
    table = layout.root / "CheXpert-v1.0-small" / "train.csv"
    before = open_dataset("chexpert", layout.root).table
    edit_table(table, lambda read: pd.concat([read, read[:3]]))
    pd.testing.assert_frame_equal(open_dataset("chexpert", layout.root).table, before)
    edit_table(table, lambda read: pd.concat([read, read[:1].assign(Edema="0.0", Fracture="1.0"),
                                              read[:1].assign(Edema="1.0")]))  # fmt: skip
    with pytest.raises(DataError, match="contradictory rows"):
        open_dataset("chexpert", layout.root)


SUBSETS = {"train_1.txt": 2_234, "train_10.txt": 22_341}


@pytest.mark.real
def test_the_published_lists_have_the_known_counts(real_data: Path) -> None:
    folder = real_data / "med_peft_splits" / "CheXpert"
    lists = splits.published(folder.parent, "CheXpert", "CheXpert", 5, optional=("train",))
    lists |= {name: splits.read_list(folder / name) for name in SUBSETS}
    counts = {"val": 234, "test": 668} | SUBSETS
    assert {name: read.labels.shape for name, read in lists.items()} == {
        name: (count, 5) for name, count in counts.items()
    }


@pytest.mark.real
def test_the_published_lists_are_read_beside_the_tables(real_data: Path, tmp_path: Path) -> None:
    """All their images, as empty files, with the tables that would name them."""
    folder = real_data / "med_peft_splits" / "CheXpert"
    release = tmp_path / "CheXpert-v1.0-small"
    names = {"train": "train_1.txt", "valid": "val_list.txt", "test": "test_list.txt"}
    read = {part: splits.read_list(folder / name) for part, name in names.items()}
    for part, one in read.items():
        for file in one.files:
            path = tmp_path / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        table = pd.DataFrame({"Path": one.files, "Sex": "", "Age": "", "Frontal/Lateral": "",
                              "AP/PA": ""})  # fmt: skip
        table[list(CHEXPERT)] = one.labels.astype(int)
        table.to_csv(release / f"{part}.csv".replace("test", "test_labels"), index=False)
    (tmp_path / "CheXpert").mkdir()
    for name in ("val_list.txt", "test_list.txt"):
        (tmp_path / "CheXpert" / name).write_bytes((folder / name).read_bytes())
    for split in ("paper", "official"):
        dataset = open_dataset("chexpert", tmp_path, split)
        assert {one: len(dataset.ids(one)) for one in SPLITS} == {
            "train": 2_234, "val": 234, "test": 668,
        }  # fmt: skip
        for part, name in zip(("train", "valid", "test"), SPLITS, strict=True):
            assert np.array_equal(dataset.labels(dataset.ids(name)), read[part].labels)
        lateral = [one for one in dataset.table.index if "lateral" in one]
        assert list(dataset.table.index[dataset.table["view"] == "LATERAL"]) == lateral
    frontal = open_dataset("chexpert", tmp_path, "paper", views="frontal")
    assert {one: len(frontal.ids(one)) for one in ("val", "test")} == {"val": 202, "test": 518}
