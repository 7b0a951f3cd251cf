"""Label fractions by patient, drawn splits, and lists in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from core.data import splits
from core.data.base import ChestDataset
from core.errors import DataError

FRACTIONS = (0.001, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 0.9, 1.0)


class Table(ChestDataset):
    """Labels alone; subsets need no images."""

    title, licence, name, split_name, citation = "Table", "", "table", "drawn", ""

    def __init__(self, patients: list[str], labels: NDArray[np.float64], test: int = 0) -> None:
        self.findings = tuple(f"F{k}" for k in range(labels.shape[1]))
        ids = [f"{i:06d}" for i in range(len(patients))]
        self.table = pd.DataFrame(labels, index=ids, columns=list(self.findings))
        self.table.insert(0, "patient", patients)
        split = ["train"] * (len(ids) - test) + ["test"] * test
        self.table.insert(1, "split", split)

    def read(self, study_id: str, short_side: int | None = None) -> Any:
        raise NotImplementedError

    def source_key(self, study_id: str) -> str:
        return ""


def realistic(seed: int = 0, patients: int = 3000, findings: int = 14) -> Table:
    """Many patients with one image, some with dozens; findings from 20% down to two studies."""
    draw = np.random.default_rng(seed)
    sizes = np.minimum(draw.geometric(0.35, patients), 60)
    numbers = np.repeat(np.arange(patients), sizes)
    prevalence = np.geomspace(0.2, 0.001, findings)
    labels = (draw.random((len(numbers), findings)) < prevalence).astype(float)
    labels[draw.random(labels.shape) < 0.02] = np.nan
    labels[:, -1] = 0
    labels[[5, -5], -1] = 1
    order = draw.permutation(len(numbers))
    return Table([f"P{n}" for n in numbers[order]], labels[order])


@pytest.fixture(scope="module")
def table() -> Table:
    return realistic()


@pytest.mark.parametrize("seed", range(5))
def test_subsets_are_nested_whole_patients_and_near_the_size(table: Table, seed: int) -> None:
    ids = table.ids("train")
    patients = table.table["patient"]
    largest = patients.value_counts().max()
    before: set[str] = set()
    for fraction in FRACTIONS:
        chosen = splits.subset(table, fraction, seed)
        assert before <= set(chosen)
        before = set(chosen)
        inside = set(patients[chosen])
        assert before == set(patients.index[patients.isin(inside)])
        if fraction >= 0.02:
            assert abs(len(chosen) - round(fraction * len(ids))) <= largest / 2 + 1
    assert splits.subset(table, 1.0, seed) == ids


@pytest.mark.parametrize("fraction", FRACTIONS)
@pytest.mark.parametrize("seed", range(3))
def test_no_finding_is_lost_that_has_a_positive(table: Table, fraction: float, seed: int) -> None:
    counts = splits.positives(table, splits.subset(table, fraction, seed))
    assert min(counts.values()) >= 1
    assert list(counts) == list(table.findings)


def test_a_finding_without_positives_is_shown_as_empty() -> None:
    labels = np.zeros((40, 2))
    labels[:20, 0] = 1
    data = Table([str(i) for i in range(40)], labels)
    for fraction in (0.1, 1.0):
        counts = splits.positives(data, splits.subset(data, fraction, 0))
        assert counts["F1"] == 0 < counts["F0"]


def test_subsets_are_not_biased_towards_findings(table: Table) -> None:
    """Prevalence of the commonest finding at 5% is on average that of the whole."""
    whole = splits.positives(table, table.ids("train"))["F0"] / len(table.ids("train"))
    shares = []
    for seed in range(40):
        chosen = splits.subset(table, 0.05, seed)
        shares.append(splits.positives(table, chosen)["F0"] / len(chosen))
    assert np.mean(shares) == pytest.approx(whole, abs=3 * np.std(shares) / np.sqrt(40) + 0.005)


def test_seeds_draw_others_and_the_same_again(table: Table) -> None:
    one, two = splits.subset(table, 0.1, 1), splits.subset(table, 0.1, 2)
    assert splits.subset(table, 0.1, 1) == one
    shared = len(set(one) & set(two)) / len(one)
    assert 0.02 < shared < 0.25


def test_the_draw_is_the_same_on_every_machine() -> None:
    """Published with the results: it must not change with a version of NumPy, or of this code."""
    data = Table([f"P{i // 2}" for i in range(40)], np.eye(40)[:, :3])
    assert splits.subset(data, 0.2, 7) == ["000000", "000001", "000002", "000003", "000014",
        "000015", "000016", "000017"]  # fmt: skip


@given(st.integers(1, 60), st.integers(1, 6), st.floats(0.001, 1), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_any_small_table_gives_somebody(
    count: int, spread: int, fraction: float, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    labels = (draw.random((count, 3)) < 0.2).astype(float)
    data = Table([f"P{n}" for n in draw.integers(0, spread * 3, count)], labels)
    chosen = splits.subset(data, fraction, seed)
    assert chosen
    had, has = splits.positives(data, data.ids("train")), splits.positives(data, chosen)
    assert all(has[name] for name in had if had[name])


def test_a_single_patient_without_findings_is_drawn() -> None:
    assert splits.subset(Table(["a"], np.zeros((1, 1))), 0.5, 0) == ["000000"]


@pytest.mark.parametrize("fraction", [0, -0.1, 1.7, float("nan")])
def test_impossible_fractions_are_refused(table: Table, fraction: float) -> None:
    with pytest.raises(DataError, match="label fraction") as caught:
        splits.subset(table, fraction, 0)
    assert caught.value.field == "data.label_fraction"


def test_an_empty_training_split_is_refused() -> None:
    with pytest.raises(DataError, match="no training studies"):
        splits.subset(Table(["a", "b"], np.zeros((2, 1)), test=2), 0.5, 0)


def test_a_subset_of_a_hundred_thousand_images_has_the_share() -> None:
    big = realistic(1, patients=35_000)
    assert len(big.table) > 95_000
    subset = splits.subset(big, 0.01, 0)
    assert len(subset) == pytest.approx(0.01 * len(big.ids("train")), rel=0.02)


# --- drawn splits --------------------------------------------------------------------------------


def test_drawing_depends_on_the_patient_alone() -> None:
    patients = [f"P{n % 400}" for n in range(1000)]
    drawn = dict(zip(patients, splits.draw(patients, 0.25, "salt"), strict=True))
    assert np.mean(list(drawn.values())) == pytest.approx(0.25, abs=0.07)
    part = patients[:150]
    assert all(
        drawn[one] == chosen
        for one, chosen in zip(part, splits.draw(part, 0.25, "salt"), strict=True)
    )
    assert dict(zip(patients, splits.draw(patients, 0.25, "pepper"), strict=True)) != drawn


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_drawing_leaves_neither_side_empty(share: float) -> None:
    drawn = splits.draw(["a", "a", "b", "c"], share, "x")
    assert 0 < drawn.sum() < 4
    assert drawn[0] == drawn[1]


def test_dealing_is_stratified_and_by_patient() -> None:
    data = realistic(3, patients=1500, findings=6)
    patients = data.table["patient"].tolist()
    labels = data.labels(data.ids("train"))
    dealt = pd.Series(splits.stratified(patients, labels, {"test": 0.2, "val": 0.1}, "salt"))
    assert pd.DataFrame({"p": patients, "s": dealt}).groupby("p")["s"].nunique().max() == 1
    for split, share in {"test": 0.2, "val": 0.1, "train": 0.7}.items():
        assert (dealt == split).mean() == pytest.approx(share, abs=0.04)
        for k in range(4):
            positive = labels[:, k] == 1
            assert (dealt[positive] == split).mean() == pytest.approx(share, abs=0.12), (split, k)


def test_dealing_gives_each_split_one_of_three() -> None:
    labels = np.zeros((50, 1), np.float32)
    labels[:3] = 1
    dealt = splits.stratified([str(n) for n in range(50)], labels, {"test": 0.2, "val": 0.1}, "x")
    assert sorted(dealt[:3]) == ["test", "train", "val"]


def test_a_patient_in_two_splits_is_named() -> None:
    table = pd.DataFrame(
        {"patient": ["a", "b", "b", "c"], "split": ["train", "train", "val", "test"]}
    )
    with pytest.raises(DataError, match=r"1 patients .*\(b\)"):
        splits.check_shared_patients(table, "Set")


# --- lists ---------------------------------------------------------------------------------------


def test_lists_are_read_as_they_are_written(table: Table, tmp_path: Path) -> None:
    ids = table.ids("train")[:50]
    splits.write_list(tmp_path / "list.txt", table, ids)
    read = splits.read_list(tmp_path / "list.txt")
    assert list(read.files) == ids
    assert np.array_equal(read.labels, table.labels(ids), equal_nan=True)


def test_lists_of_names_and_names_with_spaces(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes("\ufeffa b.png\r\nc.png\r\n\r\n".encode())
    read = splits.read_list(path)
    assert read.files == ("a b.png", "c.png")
    assert read.labels.shape == (2, 0)
    path.write_text("my file 1.png 0 1 \nother.png 1 -1\n")
    read = splits.read_list(path)
    assert read.files == ("my file 1.png", "other.png")
    assert np.array_equal(read.labels, [[0, 1], [1, np.nan]], equal_nan=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("a.png 0 1\nb.png 0\n", "Line 2"),
        ("a.png 0 1\nb.png 0 x\n", "Line 2"),
        ("a.png 0 1\nb.png 0 1 1\n", "Line 2"),
        ("a.png 0\n0\n", "Line 2"),
    ],
)
def test_damaged_lists_are_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(DataError, match=words):
        splits.read_list(tmp_path / "list.txt")


def test_lists_that_are_no_text_or_not_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00\x81" * 9)
    for name in ("list.txt", "gone.txt"):
        with pytest.raises(DataError, match="cannot be read"):
            splits.read_list(tmp_path / name)


@pytest.mark.real
def test_published_lists_have_the_published_counts(real_data: Path) -> None:
    counts = {
        "NIH_ChestX-ray": (14, {"train": 78_468, "val": 11_219, "test": 22_433}),
        "RSNA_Pneumonia": (1, {"train": 25_184, "val": 1_500, "test": 3_000}),
    }
    for name, (labels, expected) in counts.items():
        lists = splits.published(real_data / "med_peft_splits", name, name, labels)
        assert {split: len(one.files) for split, one in lists.items()} == expected
        assert all(one.labels.shape[1] == labels for one in lists.values())
        files = [set(one.files) for one in lists.values()]
        assert len(set.union(*files)) == sum(expected.values())
    official = real_data / "nih_official_lists"
    test = set(splits.read_list(official / "test_list.txt").files)
    nih = splits.published(real_data / "med_peft_splits", "NIH_ChestX-ray", "NIH", 14)
    shared = {split: len(test & set(one.files)) for split, one in nih.items()}
    assert shared == {"train": 17_920, "val": 2_463, "test": 5_213}


def test_a_part_holds_whole_patients_and_the_positives_of_rare_findings() -> None:
    draw = np.random.default_rng(0)
    patients = [f"P{one}" for one in draw.integers(0, 900, 3000)]
    labels = (draw.random((3000, 3)) < (0.3, 0.05, 0.003)).astype(np.float32)
    labels[:50, 0] = np.nan
    chosen = splits.part(patients, labels, 300, "a")
    assert 290 <= chosen.sum() <= 300
    inside = {one for one, taken in zip(patients, chosen, strict=True) if taken}
    outside = {one for one, taken in zip(patients, chosen, strict=True) if not taken}
    assert not inside & outside
    found, all_of_them = ((rows == 1).sum(axis=0) for rows in (labels[chosen], labels))
    assert all(found >= np.minimum(all_of_them, 50))
    assert found[2] == all_of_them[2] < 50
    assert np.array_equal(splits.part(patients, labels, 300, "a"), chosen)
    assert not np.array_equal(splits.part(patients, labels, 300, "b"), chosen)


def test_a_part_passes_over_patients_who_are_too_many() -> None:
    labels = np.array([[1], [1], [1], [0], [1]], np.float32)
    chosen = splits.part(["big", "big", "big", "a", "b"], labels, 2, "")
    assert chosen.tolist() == [False, False, False, True, True]
    assert not splits.part(["big"] * 3, labels[:3], 2, "").any()
