"""Folds of a cross-validation: whole patients, and every finding in each."""

from __future__ import annotations

import numpy as np
import pytest

from core.config.run import RunSpec
from core.data.datasets.opened import open_cached
from core.data.datasets.registry import open_data
from core.data.folds import UNUSED, assign, divide
from core.errors import ConfigurationError, DataError
from tests.core.data.test_splits import Table, realistic


@pytest.mark.parametrize("count", [3, 5, 10])
def test_each_fold_has_whole_patients_and_its_share_of_every_finding(count: int) -> None:
    table = realistic()
    labels = table.labels(list(table.table.index))
    patients = table.table["patient"].astype(str).to_numpy()
    folds = assign(patients, labels, count)
    assert set(folds) == set(range(count))
    for patient in np.unique(patients):
        assert len(set(folds[patients == patient])) == 1
    sizes = np.bincount(folds)
    assert sizes.max() - sizes.min() <= 0.02 * len(labels)
    for column in labels.T:
        for value in (1, 0):
            having = np.unique(patients[column == value])
            shares = np.bincount(folds[column == value], minlength=count)
            if len(having) >= count:
                assert shares.min() > 0
            mean = (column == value).sum() / count
            assert np.abs(shares - mean).max() <= max(10, 0.05 * mean)  # patients are not divided


def test_the_folds_depend_on_names_and_labels_alone() -> None:
    table = realistic(patients=200, findings=4)
    labels = table.labels(list(table.table.index))
    patients = table.table["patient"].astype(str).to_numpy()
    order = np.random.default_rng(1).permutation(len(patients))
    folds = assign(patients, labels, 5)
    assert (assign(patients[order], labels[order], 5) == folds[order]).all()


def test_each_patient_is_tested_and_validated_once_and_the_test_split_is_untouched() -> None:
    draw, roles = np.random.default_rng(0), []
    patients = [f"P{i // 2}" for i in range(600)]
    labels = (draw.random((600, 3)) < (0.05, 0.5, 0.97)).astype(float)
    for k in range(1, 6):
        table = Table(patients, labels, test=100)
        divide(table, f"{k}/5")
        assert table.split_name == f"drawn, fold {k} of 5"
        roles.append(table.table["split"].to_numpy())
    each = np.stack(roles)
    assert (each[:, -100:] == UNUSED).all()
    pool = each[:, :-100]
    for split, times in (("test", 1), ("val", 1), ("train", 3)):
        assert ((pool == split).sum(axis=0) == times).all()
    drawn = Table(patients, labels, test=100)
    drawn.drawn_test = True
    divide(drawn, "1/5")
    assert UNUSED not in set(drawn.table["split"])


def test_a_fold_without_one_of_the_labels_is_refused() -> None:
    patients = [f"P{i}" for i in range(40)]
    labels = np.zeros((40, 3))
    labels[:4, 0], labels[::2, 1] = 1, 1  # no study has the third finding
    with pytest.raises(DataError, match=r"with 5 folds, .* F0 \(4 patients\)") as caught:
        divide(Table(patients, labels), "1/5")
    assert (caught.value.field, caught.value.remedy) == ("data.fold", "Give 4 folds.")
    divide(Table(patients, labels), "1/4")
    with pytest.raises(DataError, match="has 40 patients for 41 folds"):
        divide(Table(patients, labels), "1/41")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data.fold": "1/2"}, "2 folds are not possible"),
        ({"data.fold": "6/5"}, "there is no fold 6/5"),
        ({"data.fold": "one"}, "fold"),
        ({"data.fold": "1/5", "data.split_file": "list.txt"}, "either the list or the fold"),
    ],
)
def test_folds_that_do_not_exist_are_refused(fields: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        RunSpec.of(**fields)


def test_a_folder_with_drawn_splits_is_divided_as_a_whole(tiny) -> None:
    data = tiny(data__fold="2/3").data
    given, divided = open_data(data.source()), open_data(data)
    assert (divided.table["split"] == UNUSED).equals(given.table["split"] == "test")
    # Opening a fold from the cache leaves the cached data set as it is.
    assert open_cached(data).ids("test") == divided.ids("test")
    assert open_cached(data.source()).ids("test") == given.ids("test")
    for name in ("train", "val", "test"):
        assert len(divided.ids(name)) > 0
    table = data.root / "labels.csv"
    rows = [line.split(",") for line in table.read_text().splitlines()]
    drawn = data.root.parent / "drawn"
    drawn.mkdir(exist_ok=True)
    for row in rows[1:]:
        (drawn / row[0]).write_bytes((data.root / row[0]).read_bytes())
    (drawn / "labels.csv").write_text(
        "\n".join(",".join([row[0], row[1], *row[3:]]) for row in rows) + "\n"
    )
    whole = open_data(data.model_copy(update={"root": drawn}))
    assert UNUSED not in set(whole.table["split"])
