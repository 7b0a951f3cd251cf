"""A folder is registered by name, and later runs use the name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.config.run import DataSpec

Cli = Callable[..., Any]


@pytest.mark.slow
def test_a_name_is_used_by_every_verb(cli: Cli, radiographs: Path, tmp_path: Path) -> None:
    words = ["data", "register", "ward", "--root", radiographs, "--labels", "Plate,Pneumonia=Ill"]
    assert "Registered ward: folder in" in cli(*words).out
    assert cli("data", "names", "--json").json == [
        {"name": "ward", "data": "folder", "root": str(radiographs),
         "labels": "Plate,Pneumonia=Ill"},
    ]  # fmt: skip
    assert "labels=Plate,Pneumonia=Ill" in cli("data", "names").out
    assert cli("data", "check", "ward", "--metadata-only", "--json").json["images"] == 68
    out = tmp_path / "list.txt"
    value = cli("data", "subset", "ward", "--fraction", 0.5, "--out", out, "--json").json
    assert list(value["positives"]) == ["Plate", "Ill"]

    queued = cli("submit", "--data", "ward", "--label-fraction", 0.5, "--json").json
    assert queued["data"] == "ward"
    assert "ward 50%" in queued["name"]
    stored = cli("show", queued["id"], "--json").json["spec"]["data"]
    assert DataSpec.model_validate(stored) == DataSpec(
        name="folder", root=radiographs, labels="Plate,Pneumonia=Ill", called="ward",
        label_fraction=0.5, subset_seed=stored["subset_seed"],
    )  # fmt: skip
    assert cli("data", "forget", "ward", "--json").json == {"forgotten": "ward"}
    assert cli("data", "names", "--json").json == []
    fault = cli("submit", "--data", "ward").fault
    assert "Unknown data set “ward”" in str(fault)
    assert json.loads(cli("runs", "--json").out)[0]["id"] == queued["id"]


def test_listing_makes_no_workspace(cli: Cli, tmp_path: Path) -> None:
    assert cli("data", "names", "--json").json == []
    assert "Unknown" in str(cli("data", "check", "wards").fault)
    assert not (tmp_path / "workspace").exists()
