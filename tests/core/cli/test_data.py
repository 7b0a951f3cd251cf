"""The commands of the group ``data``: names of data sets, and lists of studies for runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.config.run import DataSpec
from core.data import splits
from core.data.datasets.registry import open_dataset
from core.workspace import SUBSET
from tests.core.cli.conftest import Invoke

QUICK = (
    "--backbone", "timm:test_vit", "--no-pretrained", "--input-size", 64, "--epochs", 1,
    "--device", "cpu", "--data", "folder",
)  # fmt: skip


@pytest.mark.slow
def test_a_name_is_used_by_every_verb(invoke: Invoke, radiographs: Path, tmp_path: Path) -> None:
    words = ["data", "register", "ward", "--root", radiographs, "--labels", "Plate,Pneumonia=Ill"]
    assert "Registered ward: folder in" in invoke(*words).out
    assert invoke("data", "names", "--json").json == [
        {"name": "ward", "data": "folder", "root": str(radiographs),
         "labels": "Plate,Pneumonia=Ill"},
    ]  # fmt: skip
    assert "labels=Plate,Pneumonia=Ill" in invoke("data", "names").out
    assert invoke("data", "check", "ward", "--metadata-only", "--json").json["images"] == 68
    out = tmp_path / "list.txt"
    value = invoke("data", "subset", "ward", "--fraction", 0.5, "--out", out, "--json").json
    assert list(value["positives"]) == ["Plate", "Ill"]

    queued = invoke("submit", "--data", "ward", "--label-fraction", 0.5, "--json").json
    assert queued["data"] == "ward"
    assert "ward 50%" in queued["name"]
    stored = invoke("show", queued["id"], "--json").json["spec"]["data"]
    assert DataSpec.model_validate(stored) == DataSpec(
        name="folder", root=radiographs, labels="Plate,Pneumonia=Ill", called="ward",
        label_fraction=0.5, subset_seed=stored["subset_seed"],
    )  # fmt: skip
    assert invoke("data", "forget", "ward", "--json").json == {"forgotten": "ward"}
    assert invoke("data", "names", "--json").json == []
    fault = invoke("submit", "--data", "ward").fault
    assert "Unknown data set “ward”" in str(fault)
    assert json.loads(invoke("runs", "--json").out)[0]["id"] == queued["id"]


def test_listing_makes_no_workspace(invoke: Invoke, tmp_path: Path) -> None:
    assert invoke("data", "names", "--json").json == []
    assert "Unknown" in str(invoke("data", "check", "wards").fault)
    assert not (tmp_path / "workspace").exists()


def test_a_fraction_is_written_as_a_list(invoke: Invoke, radiographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "few.txt"
    words = ["data", "subset", "folder", "--root", radiographs, "--out", out]
    value = invoke(*words, "--fraction", 0.25, "--seed", 4, "--json").json
    dataset = open_dataset("folder", radiographs)
    ids = splits.subset(dataset, 0.25, 4)
    assert list(splits.read_list(out).files) == ids
    assert (value["images"], value["of"]) == (len(ids), 40)
    assert value["positives"] == splits.positives(dataset, ids)
    assert "12 of 12 images of 6 patients" in invoke(*words, "--part", "val").out
    assert list(splits.read_list(out).files) == dataset.ids("val")
    assert "no split “dev”" in str(invoke(*words, "--part", "dev").fault)
    assert "cannot be written" in str(invoke(*words[:-1], tmp_path / "no" / "few.txt").fault)


@pytest.mark.slow
def test_a_run_s_subset_given_back_makes_the_same_run(
    invoke: Invoke, radiographs: Path, tmp_path: Path
) -> None:
    train = ["train", *QUICK, "--root", radiographs, "--json"]
    first = invoke(*train, "--label-fraction", 0.5, "--subset-seed", 3).json
    shown = invoke("show", first["id"], "--json").json
    listed = Path(shown["subset"])
    assert listed.name == SUBSET
    dataset = open_dataset("folder", radiographs)
    assert list(splits.read_list(listed).files) == splits.subset(dataset, 0.5, 3)
    again = invoke(*train, "--split-file", listed).json
    assert SUBSET in again["name"]
    assert invoke("show", again["id"], "--json").json["weights_sha256"] == shown["weights_sha256"]


def test_a_list_that_leaks_starts_no_run(invoke: Invoke, radiographs: Path, tmp_path: Path) -> None:
    dataset = open_dataset("folder", radiographs)
    tested = dataset.ids("test")[0]
    (tmp_path / "list.txt").write_text(f"{dataset.ids('train')[0]} 1 0\n{tested} 0 1\n")
    words = [*QUICK, "--root", radiographs, "--split-file", tmp_path / "list.txt"]
    for verb in ("train", "submit"):
        fault = invoke(verb, *words).fault
        assert dataset.study(tested).patient in str(fault)
        assert fault.field == "data.split_file"
    assert invoke("runs", "--json").json == []
