"""Lists of studies are written and given back; two data sets' splits are compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.data import splits
from core.data.datasets.registry import open_dataset
from core.workspace import SUBSET

Cli = Callable[..., Any]
QUICK = (
    "--backbone", "timm:test_vit", "--no-pretrained", "--input-size", 64, "--epochs", 1,
    "--device", "cpu", "--data", "folder",
)  # fmt: skip


def test_a_fraction_is_written_as_a_list(cli: Cli, radiographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "few.txt"
    words = ["data", "subset", "folder", "--root", radiographs, "--out", out]
    value = cli(*words, "--fraction", 0.25, "--seed", 4, "--json").json
    dataset = open_dataset("folder", radiographs)
    ids = splits.subset(dataset, 0.25, 4)
    assert list(splits.read_list(out).files) == ids
    assert (value["images"], value["of"]) == (len(ids), 40)
    assert value["positives"] == splits.positives(dataset, ids)
    assert "12 of 12 images of 6 patients" in cli(*words, "--part", "val").out
    assert list(splits.read_list(out).files) == dataset.ids("val")
    assert "no split “dev”" in str(cli(*words, "--part", "dev").fault)
    assert "cannot be written" in str(cli(*words[:-1], tmp_path / "no" / "few.txt").fault)


def test_a_run_s_subset_given_back_makes_the_same_run(
    cli: Cli, radiographs: Path, tmp_path: Path
) -> None:
    train = ["train", *QUICK, "--root", radiographs, "--json"]
    first = cli(*train, "--label-fraction", 0.5, "--subset-seed", 3).json
    shown = cli("show", first["id"], "--json").json
    listed = Path(shown["subset"])
    assert listed.name == SUBSET
    dataset = open_dataset("folder", radiographs)
    assert list(splits.read_list(listed).files) == splits.subset(dataset, 0.5, 3)
    again = cli(*train, "--split-file", listed).json
    assert SUBSET in again["name"]
    assert cli("show", again["id"], "--json").json["weights_sha256"] == shown["weights_sha256"]


def test_a_list_that_leaks_starts_no_run(cli: Cli, radiographs: Path, tmp_path: Path) -> None:
    dataset = open_dataset("folder", radiographs)
    tested = dataset.ids("test")[0]
    (tmp_path / "list.txt").write_text(f"{dataset.ids('train')[0]} 1 0\n{tested} 0 1\n")
    words = [*QUICK, "--root", radiographs, "--split-file", tmp_path / "list.txt"]
    for verb in ("train", "submit"):
        fault = cli(verb, *words).fault
        assert dataset.study(tested).patient in str(fault)
        assert fault.field == "data.split_file"
    assert cli("runs", "--json").json == []


@pytest.mark.parametrize("as_json", [True, False])
def test_splits_are_compared(cli: Cli, tmp_path: Path, as_json: bool) -> None:
    draw = np.random.default_rng(0)
    folders = [tmp_path / "a", tmp_path / "b"]
    labels = {one: (draw.random((60, 14)) < 0.2).astype(np.uint8) for one in splits.PUBLISHED}
    for i, folder in enumerate(folders):
        arrays: dict[str, Any] = {f"{one}_labels": np.roll(labels[one], 5 * i, 0) for one in labels}
        arrays |= {f"{one}_images": np.zeros((60, 28, 28), np.uint8) for one in labels}
        folder.mkdir()
        np.savez(folder / "chestmnist.npz", **arrays)
    words = ["data", "compare-splits", "chestmnist", "chestmnist", "--root-a", folders[0]]
    same = cli(*words, "--root-b", folders[0], *["--json"][:as_json])
    other = cli(*words, "--root-b", folders[1], *["--json"][:as_json])
    if as_json:
        assert same.json["same"]
        assert not other.json["same"]
        assert {one["verdict"] for one in other.json["splits"]} == {"same labels"}
    else:
        assert "The same splits" in same.out
        assert "same labels" in other.out
        assert "100.0%" in same.out
